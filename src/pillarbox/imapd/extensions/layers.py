"""COMPRESS (RFC 4978) and UNAUTHENTICATE (RFC 8437): commands after whose answer the connection is another one."""

from pillarbox.core.errors import RemoteError
from pillarbox.imapd.client import Client


async def compress(client: Client, args: None) -> None:
    connection, engine = client.connection, client.engine
    if connection.channel.is_compressed:
        raise RemoteError("compression is active already")
    if engine.has_input:  # what comes now would be read as if it were compressed
        raise RemoteError("nothing may follow COMPRESS until it is answered")
    engine.send_tagged(b"OK", "DEFLATE active.")
    connection.compress()


async def unauthenticate(client: Client, args: None) -> None:
    """A NO is not permitted (RFC 8437 §3)."""
    if not client.context.unauthenticate:
        raise RemoteError("UNAUTHENTICATE is not offered here")
    client.reset()
    client.engine.send_tagged(b"OK", "Unauthenticated.")
    client.connection.end_compression()
