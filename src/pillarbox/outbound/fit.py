"""Making a message fit for a host that takes 7-bit mail only (RFC 6152 §3).

What our users send is 7-bit before it is signed (`signing`), so this is for mail that an alias passes on. The author's
signature, if there is one, does not survive it; a bounce would be worse.
"""

import asyncio
from dataclasses import replace

from pillarbox.mime.convert import Transport, convert
from pillarbox.smtp.client_events import Envelope
from pillarbox.smtp.client_reply import Peer


async def fit(envelope: Envelope, octets: bytes, peer: Peer) -> tuple[Envelope, bytes]:
    """The envelope and the message as the peer takes them; as they are if it does, and where nothing can be done."""
    if not envelope.eight_bit or peer.offers("8BITMIME"):
        return envelope, octets
    made = await asyncio.to_thread(convert, octets, Transport.SEVEN_BIT)
    return replace(envelope, size_bytes=len(made), eight_bit=not made.isascii()), made
