"""DKIM signatures, without I/O (RFC 6376, 8301, 8463): keys, canonical forms, signing."""
