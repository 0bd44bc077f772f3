"""SCRAM with GNU SASL and msmtp, which check the signature of the server; -PLUS under TLS 1.2 and 1.3 (RFC 9266)."""

import pytest

VERSIONS = ("1.2", "1.3")


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("password", ["right", "wrong"])
def test_gsasl(user, program, version: str, password: str) -> None:
    """By IMAP only: in SMTP it says STARTTLS before EHLO."""
    program(
        *("gsasl", "--imap", "--starttls"),
        *("--connect", f"localhost:{user.port('imap', 'starttls')}"),
        *("--mechanism", "SCRAM-SHA-256-PLUS", "--x509-ca-file", user.ca_file),
        *("--priority", f"NORMAL:-VERS-ALL:+VERS-TLS{version}"),
        *("--authentication-id", user.address),
        *("--password", user.password if password == "right" else "wrong password"),
        code=0 if password == "right" else 1,
    )


@pytest.mark.parametrize("version", VERSIONS)
def test_msmtp(user, program, write, version: str) -> None:
    config = write(
        "msmtprc",
        f"account default\nhost localhost\nport {user.port('smtp', 'starttls')}\n"
        f"from {user.address}\nuser {user.address}\npassword {user.password}\n"
        f"auth scram-sha-256\ntls on\ntls_starttls on\ntls_trust_file {user.ca_file}\n"
        f"tls_priorities NORMAL:-VERS-ALL:+VERS-TLS{version}\n",
    )
    text = f"From: {user.address}\nTo: {user.address}\nSubject: scram {version}\n\nA line.\n"
    program("msmtp", "-C", config, "--tls-trust-file", user.ca_file, user.address, typed=text)
    user.server.wait_for(to=user.address, subject=f"scram {version}")
