"""What is asked of the DNS, and what mail makes of the answers, without I/O (RFC 1035, 5321 §5.1, 7505)."""
