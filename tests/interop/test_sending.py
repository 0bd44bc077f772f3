"""Programs that submit mail: swaks, msmtp, curl, mutt and Python's smtplib."""

import smtplib
from email import policy
from email.message import EmailMessage
from pathlib import Path

TEXT = "A line.\n.\n..two dots and Ünïcödé\n"


def check_arrived(user, subject: str) -> EmailMessage:
    mail = user.server.wait_for(to=user.address, subject=subject)
    assert mail["Return-Path"] == f"<{user.address}>"
    assert mail["Delivered-To"] == user.address
    assert mail["Received"] is not None
    assert mail["Date"] is not None
    assert mail["Message-ID"] is not None
    return mail


def message(user, subject: str) -> bytes:
    return (
        f"From: {user.address}\nTo: {user.address}\nSubject: {subject}\nMIME-Version: 1.0\n"
        f"Content-Type: text/plain; charset=utf-8\nContent-Transfer-Encoding: 8bit\n\n{TEXT}"
    ).encode()


def test_swaks(user, transport: str, program) -> None:
    option = {"tls": ["--tls-on-connect"], "starttls": ["--tls"], "plain": []}[transport]
    program(
        "swaks",
        *("--server", f"127.0.0.1:{user.port('smtp', transport)}", *option),
        *("--auth-user", user.address, "--auth-password", user.password),
        *("--from", user.address, "--to", user.address),
        *("--header", "Subject: by swaks", "--body", "A line."),
    )
    assert check_arrived(user, "by swaks").get_content().startswith("A line.\n")


def test_swaks_as_another_server(user, program) -> None:
    port = user.server.ports["smtp"]
    for tls in ([], ["--tls"]):
        program(
            *("swaks", "--server", f"127.0.0.1:{port}", *tls, "--to", user.address),
            *("--from", "carol@example.net", "--header", f"Subject: from outside {len(tls)}"),
        )
        user.server.wait_for(to=user.address, subject=f"from outside {len(tls)}")
    shown = program(
        *("swaks", "--server", f"127.0.0.1:{port}"),
        *("--from", "carol@example.net", "--to", "dora@example.org"),
        code=24,
    )
    assert " 550 5.7.1 " in shown


def test_msmtp(user, transport: str, program, write) -> None:
    tls = {"tls": "on\ntls_starttls off", "starttls": "on\ntls_starttls on", "plain": "off"}
    config = write(
        "msmtprc",
        f"account default\nhost localhost\nport {user.port('smtp', transport)}\n"
        f"from {user.address}\nauth plain\nuser {user.address}\npassword {user.password}\n"
        f"tls {tls[transport]}\ntls_trust_file {user.ca_file}\n",
    )
    program("msmtp", "-C", config, user.address, typed=message(user, "by msmtp"))
    assert check_arrived(user, "by msmtp").get_content() == TEXT


def test_curl(user, transport: str, program, tmp_path: Path) -> None:
    scheme = "smtps" if transport == "tls" else "smtp"
    (tmp_path / "mail").write_bytes(message(user, "by curl"))
    program(
        *("curl", "--silent", "--show-error", "--crlf", "--cacert", user.ca_file),
        *(["--ssl-reqd"] if transport == "starttls" else []),
        *("--user", f"{user.address}:{user.password}", "--upload-file", tmp_path / "mail"),
        *("--mail-from", user.address, "--mail-rcpt", user.address),
        f"{scheme}://localhost:{user.port('smtp', transport)}",
    )
    assert check_arrived(user, "by curl").get_content() == TEXT


def test_mutt_sends_and_keeps_a_copy(user, transport: str, program, write) -> None:
    secure = "s" if transport == "tls" else ""
    name = user.address.replace("@", "%40")
    config = write(
        "muttrc",
        f'set smtp_url="smtp{secure}://{name}@localhost:{user.port("smtp", transport)}/"\n'
        f'set folder="imap{secure}://{name}@localhost:{user.port("imap", transport)}/"\n'
        f'set smtp_pass="{user.password}" imap_pass="{user.password}" imap_user="{user.address}"\n'
        f'set record="=Sent" from="{user.address}" certificate_file="{user.ca_file}"\n'
        f"set ssl_starttls={'yes' if transport == 'starttls' else 'no'}\n"
        f"set ssl_force_tls={'no' if transport == 'plain' else 'yes'}\n"
        'set realname="A user" copy=yes charset="utf-8" send_charset="utf-8"\n'
        f'set smtp_authenticators="plain" imap_authenticators="plain"\n',
    )
    program("mutt", "-F", config, "-s", "by mutt", "--", user.address, typed=TEXT)
    assert check_arrived(user, "by mutt").get_content() == TEXT
    import imaplib

    with imaplib.IMAP4_SSL(
        "localhost", user.server.ports["imaps"], ssl_context=user.server.client_context()
    ) as client:
        client.login(user.address, user.password)
        assert client.select("Sent")[1] == [b"1"]
        _, found = client.fetch("1", "(FLAGS BODY.PEEK[HEADER.FIELDS (SUBJECT)])")
        assert b"\\Seen" in found[0][0] + found[1]
        assert found[0][1].strip() == b"Subject: by mutt"


def test_smtplib(user, transport: str) -> None:
    context = user.server.client_context()
    port = user.port("smtp", transport)
    if transport == "tls":
        client: smtplib.SMTP = smtplib.SMTP_SSL("localhost", port, context=context, timeout=10)
    else:
        client = smtplib.SMTP("localhost", port, timeout=10)
    with client:
        if transport == "starttls":
            client.starttls(context=context)
        client.login(user.address, user.password)
        mail = EmailMessage()
        mail["From"] = mail["To"] = user.address
        mail["Bcc"] = user.address
        mail["Subject"] = "by smtplib – Ünïcödé"
        mail.set_content(TEXT)
        client.sendmail(user.address, [user.address], mail.as_bytes(policy=policy.SMTP))
    arrived = check_arrived(user, "by smtplib – Ünïcödé")
    assert arrived.get_content() == TEXT
    assert arrived["Bcc"] is None
