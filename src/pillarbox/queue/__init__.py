"""The queue of mail to other hosts: who sends what when, and what becomes of it."""
