"""What ties a login to its TLS connection, so that nobody in the middle can pass it on (channel binding).

Under TLS 1.3 it is tls-exporter (RFC 9266 §2), under TLS 1.2 tls-unique (RFC 5929 §3). Python's `ssl` has no way to
the exporter, so OpenSSL is asked itself, by `ctypes`: the address of its connection stands in the object of `ssl`
behind the header and one pointer, and before the address of the context. That neighbour is known, so it is checked
before anything is called: where the layout is another one, there is no binding, and no -PLUS mechanism is offered.
"""

import ctypes
import functools
import ssl
from typing import Any

from pillarbox.sasl.exchange import ChannelBinding

_LABEL = b"EXPORTER-Channel-Binding"  # RFC 9266 §2
_OCTETS = 32
_WORD = ctypes.sizeof(ctypes.c_void_p)


def channel_binding(connection: ssl.SSLObject) -> ChannelBinding | None:
    """Of an established TLS connection; None: there is none to be had."""
    version = connection.version()
    if version == "TLSv1.3":
        exported = _export(connection)
        return ChannelBinding("tls-exporter", exported) if exported else None
    # Without a full handshake, tls-unique can be made to fit two connections (the triple handshake attack).
    if version != "TLSv1.2" or connection.session_reused:
        return None
    unique = connection.get_channel_binding("tls-unique")
    return ChannelBinding("tls-unique", unique) if unique else None


def _export(connection: ssl.SSLObject) -> bytes | None:
    export = _exporter()
    inner = getattr(connection, "_sslobj", None)
    if export is None or inner is None:
        return None
    words = ctypes.cast(id(inner) + object.__basicsize__, ctypes.POINTER(ctypes.c_void_p))
    if type(inner).__basicsize__ < object.__basicsize__ + 3 * _WORD:
        return None
    if words[2] != id(connection.context) or not words[1]:
        return None
    exported = ctypes.create_string_buffer(_OCTETS)
    # RFC 9266 §2: with an empty context
    done = export(words[1], exported, _OCTETS, _LABEL, len(_LABEL), b"", 0, 1)
    return exported.raw if done == 1 else None


@functools.cache
def _exporter() -> Any:
    """OpenSSL's SSL_export_keying_material, of the very library that `ssl` uses; None where it cannot be found."""
    try:
        import _ssl

        function = ctypes.CDLL(_ssl.__file__).SSL_export_keying_material
    except (ImportError, AttributeError, OSError, TypeError):
        return None
    size = ctypes.c_size_t
    text = ctypes.c_char_p
    function.argtypes = [ctypes.c_void_p, text, size, text, size, text, size, ctypes.c_int]
    function.restype = ctypes.c_int
    return function
