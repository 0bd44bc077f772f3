"""What can be configured, with defaults (ARCHITECTURE 7). The names are stable."""

from pathlib import Path
from typing import Literal

import msgspec


class Listen(msgspec.Struct, forbid_unknown_fields=True):
    """Addresses by service; an empty list: that service is off."""

    smtp: list[str] = []
    submission: list[str] = []
    submissions: list[str] = []
    imap: list[str] = []
    imaps: list[str] = []
    pop3: list[str] = []
    pop3s: list[str] = []


class Tls(msgspec.Struct, forbid_unknown_fields=True):
    """Certificate files (PEM). Both or neither; neither: a private CA signs one."""

    certificate: str = ""
    key: str = ""


class Smtp(msgspec.Struct, forbid_unknown_fields=True):
    max_message_size: int = 10_240_000
    """Octets; announced as SIZE, and the limit for IMAP APPEND too."""
    trusted_networks: list[str] = []
    """Addresses and networks whose hosts may send to anybody by port 25, without a login."""


class Route(msgspec.Struct, forbid_unknown_fields=True):
    """Where mail for a domain goes instead of the way that the DNS says, or how."""

    host: str = ""
    """"host:port"; empty: by MX records."""
    protocol: Literal["smtp", "lmtp"] = "smtp"
    tls: Literal["offered", "verified", "never"] = "offered"
    username: str = ""
    password_file: str = ""
    from_strangers: bool = False
    """Take mail for this domain from everybody, as for a domain of our own."""


class Outbound(msgspec.Struct, forbid_unknown_fields=True):
    smarthost: str = ""
    smarthost_username: str = ""
    smarthost_password_file: str = ""
    mx_port: int = 25
    routes: dict[str, Route] = {}
    """By domain; "*.example.com" is for all domains below example.com."""


class Dns(msgspec.Struct, forbid_unknown_fields=True):
    servers: list[str] = []


class Security(msgspec.Struct, forbid_unknown_fields=True):
    allow_cleartext_login: bool = False
    connections_per_address: int = 200
    """How many connections one client address may have at once, over all services."""
    proxy_protocol_from: list[str] = []
    """Addresses and networks of proxies: each of their connections begins with a PROXY header."""


class Imap(msgspec.Struct, forbid_unknown_fields=True):
    hierarchy_separator: str = "/"


class Config(msgspec.Struct, forbid_unknown_fields=True):
    """The whole file. Paths are relative to the folder of the file until `load` makes them absolute."""

    hostname: str
    data_dir: str
    workers: int = 0
    listen: Listen = msgspec.field(default_factory=Listen)
    tls: Tls = msgspec.field(default_factory=Tls)
    smtp: Smtp = msgspec.field(default_factory=Smtp)
    outbound: Outbound = msgspec.field(default_factory=Outbound)
    dns: Dns = msgspec.field(default_factory=Dns)
    security: Security = msgspec.field(default_factory=Security)
    imap: Imap = msgspec.field(default_factory=Imap)

    @property
    def data_path(self) -> Path:
        return Path(self.data_dir)
