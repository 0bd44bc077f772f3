"""The message format: header fields, addresses, dates, the part tree, decoding, and what IMAP renders from them.

RFC 5322, 2045 to 2047, 2049, 2183, 2231, 6532. Sans-IO and tolerant: any octets are a message, nothing here raises
because of what they hold, and time and memory are linear in their number. The octets themselves are never changed.
"""
