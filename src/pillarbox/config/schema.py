"""What can be configured, with defaults (ARCHITECTURE 7). The names are stable."""

from pathlib import Path
from typing import Literal

import msgspec


class Listen(msgspec.Struct, forbid_unknown_fields=True):
    """Addresses by service; an empty list: that service is off."""

    smtp: list[str] = []
    submission: list[str] = []
    submissions: list[str] = []
    lmtp: list[str] = []
    imap: list[str] = []
    imaps: list[str] = []
    pop3: list[str] = []
    pop3s: list[str] = []
    metrics: list[str] = []
    """No mail: figures and health by HTTP, for Prometheus and whoever looks after servers."""


class CertificateFiles(msgspec.Struct, forbid_unknown_fields=True):
    """PEM files: a certificate, followed by those that signed it, and its key."""

    certificate: str
    key: str


class Tls(msgspec.Struct, forbid_unknown_fields=True):
    """Certificate files (PEM). Both or neither; neither, and no further ones: a private CA signs one."""

    certificate: str = ""
    key: str = ""
    certificates: list[CertificateFiles] = []
    """Further ones, for clients that ask for their names; all others get the first."""
    acme: bool = False
    """Get the first one from a CA by ACME (RFC 8555), and agree with its terms of service."""
    acme_names: list[str] = []
    """That it shall have; empty: the hostname."""
    acme_directory: str = "https://acme-v02.api.letsencrypt.org/directory"
    acme_ca_file: str = ""
    """Who signed the certificate of a CA of one's own; empty: those whom the web trusts."""
    acme_contact: str = ""
    """A mail address that the CA may write to."""
    acme_challenge: Literal["http-01", "tls-alpn-01", "dns-01"] = "http-01"
    acme_listen: list[str] = []
    """Where the CA's challenge is answered during an order; empty: port 80 (http-01) or 443 (tls-alpn-01)."""
    acme_hook: str = ""
    """For dns-01: a command that is called with "add" or "remove", the name of a TXT record and its value."""
    acme_dns_wait: str = "30s"
    """From the last "add" until the CA may look."""

    @property
    def challenge_addresses(self) -> list[str]:
        """Where the CA's challenge is answered; none for dns-01, and without ACME."""
        port = {"http-01": 80, "tls-alpn-01": 443}.get(self.acme_challenge)
        if not self.acme or port is None:
            return []
        # RFC 8555 §8.3, RFC 8737 §3: these ports, whatever else is passed on to ours
        return self.acme_listen or [f"0.0.0.0:{port}", f"[::]:{port}"]

    @property
    def named_pairs(self) -> list[tuple[Path, Path]]:
        """Certificate and key of each pair that is named, the first one first."""
        named = [(self.certificate, self.key)] if self.certificate else []
        named += [(each.certificate, each.key) for each in self.certificates]
        return [(Path(certificate), Path(key)) for certificate, key in named]

    client_ca: str = ""
    """Certificates (PEM) of those who sign client certificates, for logins by EXTERNAL; empty: none are asked for."""


class Smtp(msgspec.Struct, forbid_unknown_fields=True):
    max_message_size: int = 10_240_000
    """Octets; announced as SIZE, and the limit for IMAP APPEND too."""
    trusted_networks: list[str] = []
    """Addresses and networks whose hosts may send to anybody by port 25, without a login."""
    connections_per_minute: int = 0
    messages_per_minute: int = 0
    """From one address (of IPv6: one /64 network) on port 25, but for trusted ones; 0: no limit."""
    xclient_from: list[str] = []
    """Addresses and networks whose clients may say by XCLIENT for whom they speak."""
    greeting_delay: str = "0s"
    """How long strangers wait for the greeting on port 25; who speaks before it is sent away."""
    error_delay: str = "1s"
    """From the sixth error of a client on, each answer comes so much later than the one before, at most 5 s."""


class Submission(msgspec.Struct, forbid_unknown_fields=True):
    """What an account may send; 0: no limit."""

    recipients_per_hour: int = 500
    recipients_per_day: int = 2000
    """At other hosts. More are held in the queue."""
    messages_per_minute: int = 0
    """More are refused for the moment."""


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
    warn_after: str = "4h"
    give_up_after: str = "5d"
    """How long mail waits until its sender is told of the delay ("0s": never), and until it bounces."""
    copy_bounces_to: str = ""
    """An address that gets a copy of each bounce, without the text of the message; empty: nobody."""
    routes: dict[str, Route] = {}
    """By domain; "*.example.com" is for all domains below example.com."""


class Dns(msgspec.Struct, forbid_unknown_fields=True):
    servers: list[str] = []


class Security(msgspec.Struct, forbid_unknown_fields=True):
    allow_cleartext_login: bool = False
    never_throttled: list[str] = []
    """Addresses and networks that may fail to log in as often as they like, and are never banned."""
    connections_per_address: int = 200
    """How many connections one client address may have at once, over all services."""
    proxy_protocol_from: list[str] = []
    """Addresses and networks of proxies: each of their connections begins with a PROXY header."""


class Oauth(msgspec.Struct, forbid_unknown_fields=True):
    """Access tokens (OAUTHBEARER, XOAUTH2): `jwks` or `introspection_url` switches them on."""

    issuer: str = ""
    audience: str = ""
    jwks: str = ""
    """File or URL of the issuer's public keys."""
    introspection_url: str = ""
    client_id: str = ""
    client_secret_file: str = ""
    """As whom we ask the issuer."""
    user_claim: str = "email"
    """Which claim has the address of the account."""
    scope: str = ""
    """That a token must have; empty: none."""
    clock_skew: str = "60s"
    configuration_url: str = ""
    """Told to clients whose token was refused."""


class DirectorySettings(msgspec.Struct, forbid_unknown_fields=True):
    """Who verifies passwords."""

    kind: Literal["built-in", "ldap", "http", "python"] = "built-in"
    create_accounts: bool = False
    """Make an account at the first login of somebody whose domain is ours."""
    url: str = ""
    """Of the LDAP server or of the web service."""
    start_tls: bool = False
    ca_file: str = ""
    bind_dn: str = ""
    bind_password_file: str = ""
    base: str = ""
    filter: str = "(mail={user})"
    address_attribute: str = "mail"
    """All for LDAP."""
    token_file: str = ""
    """For the web service."""
    python_class: str = msgspec.field(name="class", default="")
    settings: dict[str, str] = {}
    """For a class of one's own."""


class Imap(msgspec.Struct, forbid_unknown_fields=True):
    hierarchy_separator: str = "/"
    literals: Literal["LITERAL+", "LITERAL-"] = "LITERAL+"
    """Which non-synchronising literals clients may send (RFC 7888)."""
    unauthenticate: bool = True
    """Whether a connection may be used for one account after the other (RFC 8437)."""


class Pop3(msgspec.Struct, forbid_unknown_fields=True):
    login_delay: str = "0s"
    """How long an account must wait from one login to the next; "0s": not at all."""
    expire_days: int = 0
    """How many days mail is kept at least, which clients are told; 0: for ever."""
    utf8: bool = True
    """Whether clients may ask for headers in UTF-8 (RFC 6856)."""


class Sendmail(msgspec.Struct, forbid_unknown_fields=True):
    drop_dir: str = ""
    """Where `pillarbox sendmail` leaves messages for the server; empty: within data_dir."""
    trusted_users: list[str] = []
    """Users of this machine who may send as anybody; root and the server's user always may."""


class Explain(msgspec.Struct, forbid_unknown_fields=True):
    """What is recorded of mail and sessions for `pillarbox explain`."""

    enabled: bool = True
    keep_days: int = 14
    max_size: int = 268_435_456
    """Octets of the files, of all workers together."""


class Doctor(msgspec.Struct, forbid_unknown_fields=True):
    block_lists: list[str] = msgspec.field(
        default_factory=lambda: ["zen.spamhaus.org", "bl.spamcop.net"]
    )
    """Zones that `pillarbox doctor --block-lists` asks about our addresses."""


class Config(msgspec.Struct, forbid_unknown_fields=True):
    """The whole file. Paths are relative to the folder of the file until `load` makes them absolute."""

    hostname: str
    data_dir: str
    user: str = ""
    """Whom a server that root starts becomes once it has its ports; empty: it stays root."""
    workers: int = 1
    log_format: Literal["text", "json"] = "text"
    listen: Listen = msgspec.field(default_factory=Listen)
    tls: Tls = msgspec.field(default_factory=Tls)
    smtp: Smtp = msgspec.field(default_factory=Smtp)
    submission: Submission = msgspec.field(default_factory=Submission)
    outbound: Outbound = msgspec.field(default_factory=Outbound)
    dns: Dns = msgspec.field(default_factory=Dns)
    security: Security = msgspec.field(default_factory=Security)
    oauth: Oauth = msgspec.field(default_factory=Oauth)
    directory: DirectorySettings = msgspec.field(default_factory=DirectorySettings)
    imap: Imap = msgspec.field(default_factory=Imap)
    pop3: Pop3 = msgspec.field(default_factory=Pop3)
    sendmail: Sendmail = msgspec.field(default_factory=Sendmail)
    explain: Explain = msgspec.field(default_factory=Explain)
    doctor: Doctor = msgspec.field(default_factory=Doctor)

    @property
    def data_path(self) -> Path:
        return Path(self.data_dir)

    @property
    def drop_path(self) -> Path:
        return Path(self.sendmail.drop_dir) if self.sendmail.drop_dir else self.data_path / "drop"
