"""Delivery status notifications: who wants them, and how they are written (RFC 3461, 3464, 6522)."""
