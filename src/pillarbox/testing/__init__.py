"""A real mail server for tests: `pillarbox.testing.MailServer` and the pytest fixture `mailserver`."""
