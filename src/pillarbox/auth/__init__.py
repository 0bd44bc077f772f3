"""Who may log in: passwords, proofs of recent logins, and delays for those who guess."""
