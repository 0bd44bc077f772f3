"""Mail to other hosts: where it goes, and sessions with those hosts."""
