"""An address and port to listen on or connect to, as people write it."""


def parse_endpoint(text: str, usual: int = 25) -> tuple[str, int]:
    """ "127.0.0.1:25" or "[::1]:25" as host and port (0 to 65535; 0 lets the system choose).

    Raises ValueError with what is wrong, and an example with the `usual` port.
    """
    host, colon, port = text.rpartition(":")
    if not colon or not host or not port.isascii() or not port.isdigit() or int(port) > 65535:
        raise ValueError(f'"{text}" must look like "127.0.0.1:{usual}" or "[::]:{usual}"')
    if host.startswith("[") and host.endswith("]"):
        return host[1:-1], int(port)
    if ":" in host:
        raise ValueError(f'"{text}": put an IPv6 address in brackets, like "[::1]:{usual}"')
    return host, int(port)


def format_endpoint(host: str, port: int) -> str:
    """The inverse of `parse_endpoint`."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
