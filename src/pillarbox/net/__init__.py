"""Sockets, TLS and time-outs, once for all protocols: listeners accept, a connection drives an engine."""
