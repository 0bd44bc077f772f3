"""`pillarbox doctor`: looks at everything that a mail server depends on, and says what to do."""
