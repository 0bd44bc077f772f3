"""Extensions of IMAP that have code of their own."""
