"""`pillarbox explain` of mail that comes in, from the connection to its deletion, with a server as a process."""

import imaplib
import poplib
import re
import resource
import shutil
import smtplib
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from command import has, lines_of, run_explain, stories, wait_for
from serverprocess import DOMAIN, PASSWORD, ServerProcess
from tests.ports import free_ports

from pillarbox.app.canary import Canary, write_canary
from pillarbox.trace.events import Accepted, Login, Session
from pillarbox.trace.file import DAY_US, TraceFile, trace_path
from pillarbox.trace.recorder import Recorder

ANN = f"user0@{DOMAIN}"
BEN = f"user1@{DOMAIN}"
EXTRA = """
[smtp]
trusted_networks = ["127.0.0.9"]
max_message_size = 100000
[submission]
messages_per_minute = 3
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    lmtp = free_ports(1)[0]
    server = ServerProcess(tmp_path_factory.mktemp("explain"), 4, EXTRA, tls=True)
    config = server.folder / "pillarbox.toml"
    text = config.read_text().replace(
        "[security]", "[security]\nproxy_protocol_from = ['127.0.0.7']"
    )
    config.write_text(text.replace("[listen]", f'[listen]\nlmtp = ["127.0.0.1:{lmtp}"]'))
    server.lmtp = lmtp
    server.start()
    yield server
    assert server.stop() == 0
    assert "Traceback" not in (server.folder / "out").read_text()


def smtp(server: ServerProcess, port: int = 0, client: str = "127.0.0.1") -> smtplib.SMTP:
    return smtplib.SMTP("127.0.0.1", port or server.smtp, "client.example.org", 10, (client, 0))


def send(
    server: ServerProcess, number: str, *recipients: str, sender: str = "ed@example.org"
) -> str:
    """The queue id."""
    with smtp(server) as client:
        client.ehlo()
        client.mail(sender)
        for recipient in recipients or (ANN,):
            assert client.rcpt(recipient)[0] == 250
        text = f"Message-ID: <{number}@example.org>\r\nSubject: a secret\r\n\r\na secret too\r\n"
        code, said = client.data(text.encode())
        assert code == 250
        return said.split()[-1].decode()


def login(server: ServerProcess, user: str = ANN) -> imaplib.IMAP4:
    client = imaplib.IMAP4("127.0.0.1", server.imap, timeout=10)
    client.login(user, PASSWORD)
    return client


def test_a_delivered_message_is_told_from_connection_to_mailbox(server: ServerProcess) -> None:
    queue_id = send(server, "1", ANN)
    (story,) = wait_for(server.folder, queue_id, has("filed"))
    assert [event["what"] for event in story["events"]][:4] == [
        "connection",
        "hello",
        "sender",
        "recipient",
    ]
    lines = lines_of(story)
    assert re.fullmatch(r"connection: from 127.0.0.1 port \d+ to smtp \(.*\)", lines[0])
    assert lines[1] == "hello: client.example.org"
    assert lines[2] == "sender: <ed@example.org>"
    assert lines[3] == f"recipient: <{ANN}>"
    assert any(f"accepted: as {queue_id}, Message-ID <1@example.org>" in line for line in lines)
    assert any(line.startswith(f"filed: in INBOX of {ANN}, UID ") for line in lines)
    assert story["now"][0].startswith(f"{ANN}, INBOX, UID ")
    times = [event["at"] for event in story["events"]]
    assert times == sorted(times)


@pytest.mark.parametrize("how", ["<2@example.org>", "2@example.org", "2@EXAMPLE.org"])
def test_a_message_id_is_found_with_and_without_brackets(server: ServerProcess, how: str) -> None:
    queue_id = send(server, "2", ANN)
    found = wait_for(
        server.folder, how, lambda found: any(s["queue_id"] == queue_id for s in found)
    )
    assert all("<2@example.org>" in story["title"] for story in found)


def test_sender_recipient_and_domain_find_a_message(server: ServerProcess) -> None:
    queue_id = send(server, "3", BEN, sender="Fay@three.example")
    wait_for(server.folder, queue_id, has("filed"))
    for what in ("fay@three.example", BEN, "three.example", "@THREE.example"):
        assert queue_id in [story["queue_id"] for story in stories(server.folder, what)], what
    assert stories(server.folder, "ree.example") == []


def test_refused_recipients_are_told_with_the_reason(server: ServerProcess) -> None:
    """Mail that was refused before DATA: relay denied, and an unknown user."""
    with smtp(server) as client:
        client.ehlo()
        client.mail("gus@refused.example")
        assert client.rcpt("x@elsewhere.example")[0] == 550
        assert client.rcpt(f"nobody@{DOMAIN}")[0] == 550
        (story,) = wait_for(
            server.folder,
            "gus@refused.example",
            lambda found: found and len(lines_of(found[0])) >= 4,
        )  # while the client is still there
    assert story["queue_id"] == ""
    refused = [event for event in story["events"] if event["what"] == "refused"]
    assert refused[0]["text"] == "recipient <x@elsewhere.example>: 550 5.7.1 Relaying denied"
    assert (
        "because elsewhere.example is no domain of ours, nobody is logged in"
        in refused[0]["more"][1]
    )
    assert refused[1]["text"] == f"recipient <nobody@{DOMAIN}>: 550 5.1.1 No such mailbox here"
    assert refused[1]["more"][1] == f"because {DOMAIN} has no account, alias or catch-all for it"
    (again,) = stories(server.folder, "x@elsewhere.example")
    assert lines_of(again)[-1] == f"refused: {refused[0]['text']}"


def test_a_message_refused_after_its_data_is_found_by_its_message_id(
    server: ServerProcess,
) -> None:
    """An author that is not the sender's own."""
    with smtplib.SMTP("127.0.0.1", server.submission, timeout=10) as client:
        client.login(ANN, PASSWORD)
        text = "From: boss@elsewhere.example\r\nMessage-ID: <forged@a.example>\r\n\r\nx\r\n"
        with pytest.raises(smtplib.SMTPDataError):
            client.sendmail(ANN, [BEN], text)
    (story,) = wait_for(server.folder, "<forged@a.example>", bool)
    (refused,) = [event for event in story["events"] if event["what"] == "refused"]
    assert refused["text"].startswith(f"the message from <{ANN}>: 5")
    assert "Message-ID <forged@a.example>" in refused["more"]
    with smtp(server) as client, pytest.raises(smtplib.SMTPDataError):
        client.sendmail("x@a.example", [BEN], b"Message-ID: <bare@a.example>\r\n\r\nx\ny\r\n")
    assert wait_for(server.folder, "<bare@a.example>", bool)


def test_what_the_engine_refuses_by_itself_is_told(server: ServerProcess) -> None:
    with smtp(server) as client:
        client.ehlo()
        assert client.mail("hal@big.example", ["SIZE=99999999"])[0] == 552
    (story,) = wait_for(server.folder, "hal@big.example", bool)
    assert "552 5.3.4" in lines_of(story)[-1]
    with socket.create_connection(("127.0.0.1", server.smtp)) as sock:
        sock.sendall(b"EHLO x\r\nAUTH PLAIN c2VjcmV0\r\nMAIL FROM:<ida@badly.example\r\nQUIT\r\n")
        while sock.recv(4096):
            pass
    time.sleep(1.2)
    code, out, _ = run_explain(server.folder, "127.0.0.1")
    assert code == 0
    assert "c2VjcmV0" not in out


def test_smuggling_and_size_are_told_behind_the_data(server: ServerProcess) -> None:
    for sender, text in (
        ("jo@smuggler.example", b"Subject: x\r\n\r\nend\n.\nMAIL FROM:<x@y>\r\n.\r\n"),
        ("jo@large.example", b"Subject: x\r\n\r\n" + b"x" * 70 * 2000 + b"\r\n.\r\n"),
    ):
        with (
            socket.create_connection(("127.0.0.1", server.smtp)) as sock,
            sock.makefile("rb") as lines,
        ):
            sock.sendall(b"HELO x\r\nMAIL FROM:<%b>\r\n" % sender.encode())
            sock.sendall(b"RCPT TO:<%b>\r\nDATA\r\n" % ANN.encode())
            for _ in range(5):
                lines.readline()
            sock.sendall(text)
            assert lines.readline().startswith(b"55")
    (story,) = wait_for(server.folder, "jo@smuggler.example", bool)
    assert "550 5.6.11 Bare CR or LF in message" in lines_of(story)[-1]
    assert "two messages in one" in story["events"][-1]["more"][-1]
    (story,) = wait_for(server.folder, "jo@large.example", bool)
    assert "octets came, at most 100000 may" in story["events"][-1]["more"][-1]


def test_submission_tells_login_sender_and_rate(server: ServerProcess) -> None:
    with smtp(server, server.submission) as client:
        client.login(f"user2@{DOMAIN}", PASSWORD)
        client.ehlo()
        assert client.mail("kim@not-hers.example")[0] == 550
        for _ in range(3):
            assert client.mail(f"user2@{DOMAIN}")[0] == 250
            client.rset()
        assert client.mail(f"user2+many@{DOMAIN}")[0] == 450
    (story,) = wait_for(server.folder, "kim@not-hers.example", bool)
    lines = lines_of(story)
    assert f"login: user2@{DOMAIN} by PLAIN over smtp from 127.0.0.1" in lines
    assert "Not your sender address" in lines[-1]
    assert f"does not lead to user2@{DOMAIN}" in story["events"][-1]["more"][-1]
    (story,) = wait_for(server.folder, f"user2+many@{DOMAIN}", bool)
    assert "because messages_per_minute" in story["events"][-1]["more"]


def test_a_login_of_nobody_is_told_as_such_to_the_administrator_only(server: ServerProcess) -> None:
    client = imaplib.IMAP4("127.0.0.1", server.imap, timeout=10)
    answers = set()
    for name in ("nobody-has-this", "user4"):
        with pytest.raises(imaplib.IMAP4.error) as error:
            client.login(f"{name}@{DOMAIN}", "wrong")
        answers.add(str(error.value))
    client.logout()
    assert len(answers) == 1
    (story,) = wait_for(server.folder, f"nobody-has-this@{DOMAIN}", bool)
    assert lines_of(story)[-1].endswith("over imap from 127.0.0.1: no such account")


def test_a_failed_login_is_found_by_address_and_by_client(server: ServerProcess) -> None:
    client = imaplib.IMAP4("127.0.0.1", server.imap, timeout=10)
    with pytest.raises(imaplib.IMAP4.error):
        client.login(f"user3@{DOMAIN}", "wrong")
    client.logout()
    (story,) = wait_for(server.folder, f"user3@{DOMAIN}", bool)
    assert lines_of(story)[-1].endswith("over imap from 127.0.0.1: wrong password")
    assert lines_of(story)[0].startswith("connection: from 127.0.0.1 port ")
    assert f" to imap (127.0.0.1:{server.imap})" in lines_of(story)[0]


def test_a_login_that_failed_under_tls_tells_the_listener_and_tls(server: ServerProcess) -> None:
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    client = imaplib.IMAP4_SSL("127.0.0.1", server.imaps, ssl_context=context)
    with pytest.raises(imaplib.IMAP4.error):
        client.login(f"user2@{DOMAIN}", "wrong")
    client.logout()
    (story,) = wait_for(server.folder, f"user2@{DOMAIN}", has("login failed"))[-1:]
    whats = [event["what"] for event in story["events"]]
    assert whats == ["connection", "TLS", "login failed"]
    assert f" to imaps (127.0.0.1:{server.imaps})" in story["events"][0]["text"]
    assert story["events"][1]["text"].startswith("TLSv1.")
    assert any("user3" in " ".join(lines_of(one)) for one in stories(server.folder, "127.0.0.1"))


def test_later_fate_is_followed_through_imap(server: ServerProcess) -> None:
    queue_id = send(server, "fate", ANN)
    client = login(server)
    imaplib.Commands["ID"] = ("AUTH", "SELECTED")
    client._simple_command("ID", '("name" "Tester" "version" "7")')
    client.select("INBOX")
    (uids,) = client.uid("SEARCH", "HEADER", "Message-ID", "fate@")[1]
    uid = uids.split()[-1].decode()
    client.uid("FETCH", uid, "(FLAGS BODY.PEEK[HEADER])")  # a list of messages: nobody read it
    client.uid("FETCH", uid, "(BODY[])")
    client.uid("FETCH", uid, "(BODY[])")
    client.uid("STORE", uid, "+FLAGS", "(\\Seen)")
    client.create("Kept/2026")
    client.uid("COPY", uid, "Kept/2026")
    client.create("Bin")
    client.uid("MOVE", uid, "Bin")
    client.select("Bin")
    client.store("1", "+FLAGS", "\\Deleted")
    client.expunge()
    client.logout()
    (story,) = wait_for(server.folder, queue_id, has("expunged", "fetched"))
    by = f"by {ANN} from 127.0.0.1 by imap with Tester 7"
    lines = [line for line in lines_of(story) if by in line]
    assert sorted(lines[:2]) == [f"fetched: {by}", f"read: \\Seen set {by}"]
    assert lines[2:] == [
        f"copied: to Kept/2026 of {ANN} {by}",
        f"moved: to Bin of {ANN} {by}",
        f"deleted: \\Deleted set {by}",
        f"expunged: (EXPUNGE) {by}",
    ]
    assert story["now"] == [f"{ANN}, Kept/2026, UID 1"]


def test_renaming_inbox_closing_and_deleting_mailboxes_are_followed(server: ServerProcess) -> None:
    user = f"user2@{DOMAIN}"
    ids = [send(server, f"later{number}", user) for number in range(3)]
    client = login(server, user)
    assert client.rename("INBOX", "Old")[0] == "OK"
    client.create("Gone")
    client.select("Old")
    client.uid("MOVE", "1", "Gone")
    client.uid("STORE", "2", "+FLAGS", "\\Deleted")
    client.close()
    client.delete("Gone")
    client.logout()
    wait_for(server.folder, ids[2], has("moved"))
    first, second, third = (stories(server.folder, queue_id)[0] for queue_id in ids)
    by = f"by {user} from 127.0.0.1 by imap"
    assert lines_of(first)[-3:] == [
        f"moved: to Old of {user} {by}",
        f"moved: to Gone of {user} {by}",
        f"expunged: (its mailbox was deleted) {by}",
    ]
    assert lines_of(second)[-1] == f"expunged: (CLOSE) {by}"
    assert [story["now"] for story in (first, second)] == [[], []]
    assert third["now"] == [f"{user}, Old, UID 3"]


def test_a_move_into_the_mailbox_of_somebody_else_is_followed(server: ServerProcess) -> None:
    owner = login(server, BEN)
    owner.create("Shared")
    assert owner.setacl("Shared", ANN, "lrswitecda")[0] == "OK"
    queue_id = send(server, "shared", ANN)
    client = login(server)
    client.select("INBOX")
    (uids,) = client.uid("SEARCH", "HEADER", "Message-ID", "shared@")[1]
    uid = uids.split()[-1].decode()
    assert client.uid("MOVE", uid, f'"Other Users/{BEN}/Shared"')[0] == "OK"
    client.logout()
    owner.select("Shared")
    owner.store("1:*", "+FLAGS", "\\Seen")
    owner.logout()
    (story,) = wait_for(server.folder, queue_id, has("moved", "read"))
    assert lines_of(story)[-2:] == [
        f"moved: to Shared of {BEN} by {ANN} from 127.0.0.1 by imap",
        f"read: \\Seen set by {BEN} from 127.0.0.1 by imap",
    ]
    assert story["now"] == [f"{BEN}, Shared, UID 1"]


def test_the_app_password_of_a_login_is_named(server: ServerProcess) -> None:
    config = ["--config", str(server.folder / "pillarbox.toml")]
    command = [sys.executable, "-m", "pillarbox", "account", "app-password", "add", ANN, "phone"]
    made = subprocess.run([*command, *config], check=True, capture_output=True, text=True)
    with smtp(server, server.submission) as client:
        client.login(ANN, made.stdout.strip())
        client.sendmail(ANN, [BEN], b"Message-ID: <app@a.example>\r\n\r\nx\r\n")
    (story,) = wait_for(server.folder, "<app@a.example>", has("accepted"))
    login = next(event for event in story["events"] if event["what"] == "login")
    assert login["more"] == ["with phone"]


def test_a_connection_that_comes_to_nothing_is_told(server: ServerProcess) -> None:
    with socket.create_connection(
        ("127.0.0.1", server.imaps), source_address=("127.0.0.21", 0)
    ) as sock:
        sock.sendall(b"no handshake\r\n")
        sock.recv(100)
    with socket.create_connection(
        ("127.0.0.1", server.smtp), source_address=("127.0.0.7", 0)
    ) as sock:
        sock.sendall(b"EHLO without.a.header\r\n")
        assert not sock.recv(100)
    (story,) = wait_for(server.folder, "127.0.0.21", bool)
    assert lines_of(story)[-1].startswith("refused: the connection: TLS: ")
    (story,) = wait_for(server.folder, "127.0.0.7", bool)
    assert lines_of(story)[-1] == "refused: the connection: a malformed PROXY line"


def test_pop3_fetch_and_deletion_are_told(server: ServerProcess) -> None:
    queue_id = send(server, "pop", f"user3@{DOMAIN}")
    client = poplib.POP3("127.0.0.1", server.pop3)
    client.user(f"user3@{DOMAIN}")
    client.pass_(PASSWORD)
    client.retr(1)
    client.dele(1)
    client.quit()
    (story,) = wait_for(server.folder, queue_id, has("expunged", "fetched"))
    by = f"by user3@{DOMAIN} from 127.0.0.1 by pop3"
    assert lines_of(story)[-2:] == [f"fetched: {by}", f"expunged: (DELE and QUIT) {by}"]
    assert story["now"] == []


def test_what_an_imap_client_puts_in_is_told(server: ServerProcess) -> None:
    client = login(server, BEN)
    client.append("Drafts", "(\\Draft)", "", b"Message-ID: <draft@a.example>\r\n\r\nhi\r\n")
    client.logout()
    (story,) = wait_for(server.folder, "<draft@a.example>", bool)
    assert f"filed: in Drafts of {BEN}, UID 1" in " ".join(lines_of(story))
    assert "by IMAP APPEND" in lines_of(story)[-1]


def test_lmtp_and_sendmail_are_told(server: ServerProcess) -> None:
    with smtplib.LMTP("127.0.0.1", server.lmtp) as client:
        client.sendmail("lou@lmtp.example", [ANN], b"Subject: x\r\n\r\nx\r\n")
    (story,) = wait_for(server.folder, "lou@lmtp.example", has("accepted"))
    assert " to lmtp " in lines_of(story)[0]
    config = str(server.folder / "pillarbox.toml")
    left = subprocess.run(
        [sys.executable, "-m", "pillarbox", "sendmail", "-C", config, "-f", "max@example.net", BEN],
        input=b"Message-ID: <left@example.net>\n\nhello\n",
        env={"PILLARBOX_CONFIG": config, "PATH": "/usr/bin:/bin"},
        check=False,
        capture_output=True,
    )
    assert left.returncode == 0, left.stderr
    (story,) = wait_for(server.folder, "<left@example.net>", has("accepted", "filed"))
    assert re.search(
        r"sender: <max@example.net> by user \S+ by sendmail", " ".join(lines_of(story))
    )


def test_tls_and_proxy_are_told(server: ServerProcess) -> None:
    context = ssl.create_default_context(cafile=server.folder / "data" / "tls" / "ca.pem")
    context.check_hostname = False
    with smtp(server) as client:
        client.starttls(context=context)
        client.sendmail("nan@tls.example", [ANN], b"Subject: x\r\n\r\nx\r\n")
    (story,) = wait_for(server.folder, "nan@tls.example", has("accepted"))
    assert any(re.match(r"TLS: TLSv1\.3 TLS_", line) for line in lines_of(story))
    with (
        socket.create_connection(
            ("127.0.0.1", server.smtp), source_address=("127.0.0.7", 0)
        ) as sock,
        sock.makefile("rb") as lines,
    ):
        sock.sendall(b"PROXY TCP4 192.0.2.77 192.0.2.1 5555 25\r\nHELO x\r\n")
        sock.sendall(b"MAIL FROM:<ola@proxied.example>\r\nRCPT TO:<x@far.example>\r\nQUIT\r\n")
        assert len(list(lines)) == 5
    (story,) = wait_for(server.folder, "192.0.2.77", bool)
    assert lines_of(story)[0].startswith(
        "connection: from 192.0.2.77 port 5555 through 127.0.0.7 to smtp"
    )


def test_a_message_that_breaks_off_is_told(server: ServerProcess) -> None:
    with socket.create_connection(("127.0.0.1", server.smtp)) as sock, sock.makefile("rb") as lines:
        sock.sendall(b"HELO x\r\nMAIL FROM:<pia@broken.example>\r\nRCPT TO:<%b>\r\n" % ANN.encode())
        sock.sendall(b"DATA\r\nSubject: x\r\n")
        for _ in range(5):
            lines.readline()
    (story,) = wait_for(server.folder, "pia@broken.example", bool)
    assert lines_of(story)[-1].endswith("the connection ended before the message was whole")


def test_nothing_of_a_message_but_its_id_is_recorded(server: ServerProcess) -> None:
    send(server, "quiet", ANN)
    time.sleep(1.2)
    octets = b"".join(path.read_bytes() for path in (server.folder / "data").glob("trace-*"))
    assert b"quiet@example.org" in octets
    assert b"a secret" not in octets
    assert PASSWORD.encode() not in octets.replace(b"wrong password", b"")
    for path in (server.folder / "data").glob("trace-*"):
        assert path.stat().st_mode & 0o777 == 0o600, path


def test_wrong_use_is_one_line_and_exit_code_2(server: ServerProcess) -> None:
    code, _, err = run_explain(server.folder, "what is this")
    assert code == 2
    assert '"what is this" is no queue id, Message-ID, address, domain, or IP address' in err
    code, _, err = run_explain(server.folder, ANN, "--since", "yesterday")
    assert code == 2
    assert '"yesterday" must look like 90m, 2h, 3d, 2026-11-27' in err


def test_the_canary_is_left_out_unless_it_is_asked_for(server: ServerProcess) -> None:
    user = f"user3@{DOMAIN}"
    with smtp(server, server.submission) as client:
        client.login(user, PASSWORD)
        for number in range(2):
            text = f"Message-ID: <pillarbox-canary-{number}@mail.example>\r\n\r\nhi\r\n"
            client.sendmail(user, [user], text)
        client.sendmail(user, [user, BEN], "Message-ID: <pillarbox-canary-2@x.example>\r\n\r\n")
    stranger = "<pillarbox-canary-3@x.example>"
    forged = send(server, stranger[1:-1].partition("@")[0], user, sender=user)
    wait_for(server.folder, forged, has("filed"))
    _, out, _ = run_explain(server.folder, user)
    assert "pillarbox-canary-0" not in out
    assert "pillarbox-canary-1" not in out
    assert "pillarbox-canary-2" in out  # somebody else got it, too
    assert "pillarbox-canary-3" in out  # nobody logged in
    assert out.endswith("\nLeft out: 2 round trips of doctor --watch: see --canary\n")
    _, out, _ = run_explain(server.folder, user, "--canary")
    assert "pillarbox-canary-0" in out
    assert "Left out" not in out
    for how in ("<pillarbox-canary-1@mail.example>", "pillarbox-canary-1@mail.example"):
        (story,) = stories(server.folder, how)
        assert "pillarbox-canary-1" in story["title"]


def test_every_event_has_its_name_and_values_for_programs(server: ServerProcess) -> None:
    queue_id = send(server, "named", BEN)
    (story,) = wait_for(server.folder, queue_id, has("filed"))
    assert all(event["values"] for event in story["events"])
    found = {event["event"]: event["values"] for event in story["events"]}
    assert set(found) == {"session", "hello", "sender", "recipient", "filed", "accepted"}
    assert found["hello"]["hello"] == "client.example.org"
    assert found["sender"] == {"sender": "ed@example.org", "user": ""}
    assert found["recipient"] == {"recipient": BEN, "leads_to": [], "found_by": "", "missing": []}


def test_a_session_names_the_mailboxes_that_it_used(server: ServerProcess) -> None:
    user = f"user2@{DOMAIN}"
    client = imaplib.IMAP4("127.0.0.1", server.imap, timeout=10)
    client.login(user, PASSWORD)
    port = client.socket().getsockname()[1]
    for name in ("Named", "Gone"):
        client.create(name)
        client.append(name, "", "", b"Subject: x\r\n\r\nhi\r\n")
        client.select(name)
        client.store("1", "+FLAGS", "\\Flagged")
        client.close()
    client.delete("Gone")
    client.logout()

    def lines() -> list[str]:
        sessions = stories(server.folder, "127.0.0.1", "--limit", "100")
        own = [each for each in sessions if f"port {port} " in each["events"][0]["text"]]
        return [line for each in own for line in lines_of(each)]

    end = time.monotonic() + 10
    while sum("flags:" in line for line in lines()) < 2 and time.monotonic() < end:
        time.sleep(0.2)
    flags = [line for line in lines() if line.startswith("flags: one message")]
    assert flags[0] == f"flags: one message in Named of {user}"
    assert re.fullmatch(rf"flags: one message in mailbox \d+ \(removed\) of {user}", flags[1])


def test_nothing_found_is_one_line_and_exit_code_1(server: ServerProcess) -> None:
    code, out, err = run_explain(server.folder, "nobody@nowhere.example")
    assert (code, out) == (1, "")
    assert err == "pillarbox: nothing is recorded of nobody@nowhere.example in 14 days\n"
    code, out, again = run_explain(server.folder, "nobody@nowhere.example", "--json")
    assert (code, out, again) == (1, "[]\n", err)
    code, _, err = run_explain(server.folder, ANN, "--since", "2999-01-01")
    assert code == 1
    assert "since 2999-01-01 00:00Z" in err


def test_only_the_latest_are_shown_and_that_there_are_more_is_said(server: ServerProcess) -> None:
    ids = [send(server, f"many{number}", ANN, sender="quin@many.example") for number in range(4)]
    wait_for(server.folder, "quin@many.example", lambda found: len(found) == 4)
    code, out, _ = run_explain(server.folder, "quin@many.example", "--limit", "2")
    assert code == 0
    assert [queue_id in out for queue_id in ids] == [False, False, True, True]
    assert out.endswith("\nOlder ones are not shown: see --limit\n")
    assert "Older" not in run_explain(server.folder, "quin@many.example", "--limit", "4")[1]


def test_what_could_not_be_recorded_is_said(tmp_path: Path) -> None:
    (tmp_path / "pillarbox.toml").write_text('hostname = "mail.example.org"\ndata_dir = "data"\n')
    (tmp_path / "data").mkdir()
    recorder = Recorder(is_on=True)
    recorder.add(Accepted("1", "02H3LL3B00000001", "", 1, ANN, [(BEN, [])], 1, "", [], []))
    recorder.lost(7)
    file = TraceFile(trace_path(tmp_path / "data", 1), keep_us=DAY_US, most_octets=1 << 30)
    file.write(recorder.take()[0], recorder.now())
    file.close()
    code, out, err = run_explain(tmp_path, ANN)
    assert code == 0
    assert "accepted" in out
    assert err.startswith("pillarbox: not recorded: 7 events, the last until ")


def test_sessions_of_the_canary_are_not_shown_as_those_of_its_host(tmp_path: Path) -> None:
    """Whoever asks what a client did wants what somebody did there."""
    (tmp_path / "pillarbox.toml").write_text('hostname = "mail.example.org"\ndata_dir = "data"\n')
    (tmp_path / "data").mkdir()
    write_canary(tmp_path / "data", Canary(account=BEN))
    recorder = Recorder(is_on=True)
    host = "192.0.2.9"
    for number, (user, result) in enumerate(
        [(ANN, "ok"), (BEN, "wrong password"), *[(BEN, "ok")] * 3]
    ):
        connection = f"c{number}"
        recorder.add(Session(connection, "imap", host, 1, "192.0.2.1:143", "", "", "", 1))
        recorder.add(Login(connection, "imap", host, user, 1, "PLAIN", result, ""))
    file = TraceFile(trace_path(tmp_path / "data", 1), keep_us=DAY_US, most_octets=1 << 30)
    file.write(recorder.take()[0], recorder.now())
    file.close()
    code, out, _ = run_explain(tmp_path, host, "--limit", "2")
    assert code == 0
    assert out.endswith("\nLeft out: 3 sessions of doctor --watch: see --canary\n")
    lines = [
        line.split("  ")[-1].strip() for line in out.splitlines() if " over imap from " in line
    ]
    assert lines == [
        f"{ANN} by PLAIN over imap from {host}",
        f"{BEN} by PLAIN over imap from {host}: wrong password",  # a failure is told always
    ]
    shown = run_explain(tmp_path, host, "--canary")[1]
    assert shown.count(f"{BEN} by PLAIN over imap") == 4
    assert "Left out" not in shown


# A server of its own


def test_a_stopped_server_is_explained_and_a_deleted_file_is_begun_anew(tmp_path: Path) -> None:
    server = ServerProcess(tmp_path, 1)
    assert run_explain(tmp_path, ANN)[2].startswith("pillarbox: nothing was recorded yet in ")
    server.start()
    first = send(server, "a", ANN)
    wait_for(tmp_path, first, has("filed"))
    for path in (tmp_path / "data").glob("trace-*"):
        path.unlink()
    second = send(server, "b", ANN)
    wait_for(tmp_path, second, has("filed"))
    assert stories(tmp_path, first) == []
    assert server.stop() == 0
    assert stories(tmp_path, second)
    assert not list((tmp_path / "data").glob("*.old"))


def test_a_damaged_file_is_set_aside_and_mail_goes_on(tmp_path: Path) -> None:
    server = ServerProcess(tmp_path, 1)
    server.start()
    wait_for(tmp_path, send(server, "a", ANN), has("filed"))
    server.kill()
    path = tmp_path / "data" / "trace-1.db"
    for name in (path, Path(f"{path}-wal")):
        name.write_bytes(b"no database at all" * 1000)
    code, _, err = run_explain(tmp_path, ANN)
    assert code == 1
    assert "trace-1.db cannot be read" in err
    server.start()
    wait_for(tmp_path, send(server, "b", ANN), has("filed"))
    assert Path(f"{path}.old").exists()
    assert server.stop() == 0


NAMESPACE = pytest.mark.skipif(
    shutil.which("unshare") is None
    or subprocess.run(["unshare", "-rm", "true"], check=False, capture_output=True).returncode != 0,
    reason="needs a mount namespace",
)


@NAMESPACE
def test_a_full_disk_costs_events_only(tmp_path: Path) -> None:
    """The trace is on a disk of its own, which is full: mail comes, and what happens is not recorded."""
    server = ServerProcess(tmp_path, 1)
    (tmp_path / "small").mkdir()
    (tmp_path / "data" / "trace-1.db").symlink_to("../small/trace-1.db")
    config = tmp_path / "pillarbox.toml"
    script = (
        "mount -t tmpfs -o size=16k tmpfs small && echo full > small/x;"
        f" exec {sys.executable} -m pillarbox serve --config {config}"
    )
    server.process = subprocess.Popen(
        ["unshare", "-rm", "sh", "-c", script],
        cwd=tmp_path,
        stdout=(tmp_path / "out").open("ab"),
        stderr=subprocess.STDOUT,
    )
    server._wait_for(server.smtp)
    for number in range(5):
        send(server, str(number), ANN)
        time.sleep(0.5)
    client = login(server)
    assert client.select("INBOX")[1] == [b"5"]
    client.logout()
    assert server.stop() == 0
    said = (tmp_path / "out").read_text()
    assert said.count("what happens is not recorded for now") == 1, said
    assert "Traceback" not in said


def test_two_workers_tell_one_story(tmp_path: Path) -> None:
    server = ServerProcess(tmp_path, 2, workers=2)
    server.start()
    server.wait_for_workers()
    for number in range(8):
        send(server, f"w{number}", ANN)
    clients = [login(server) for _ in range(8)]
    for client in clients:
        client.select("INBOX")
    clients[0].uid("STORE", "1:8", "+FLAGS", "\\Flagged")
    clients[5].uid("MOVE", "1:8", "Trash")
    clients[7].select("Trash")
    clients[7].uid("STORE", "1:*", "+FLAGS", "\\Deleted")
    clients[7].expunge()
    for client in clients:
        client.logout()
    found = wait_for(
        tmp_path,
        ANN,
        lambda found: (
            len(found) == 8
            and all(has("filed", "flags", "moved", "expunged")([story]) for story in found)
        ),
    )
    assert len(list((tmp_path / "data").glob("trace-?.db"))) == 2
    for story in found:
        times = [event["at"] for event in story["events"]]
        assert times == sorted(times)
        whats = [event["what"] for event in story["events"]]
        assert whats.index("flags") < whats.index("moved") < whats.index("expunged")
    assert server.stop() == 0


def test_nothing_is_recorded_where_that_is_switched_off(tmp_path: Path) -> None:
    server = ServerProcess(tmp_path, 1, "[explain]\nenabled = false")
    server.start()
    send(server, "a", ANN)
    time.sleep(1.2)
    assert server.stop() == 0
    assert not list((tmp_path / "data").glob("trace-*"))
    assert "enabled = false" in run_explain(tmp_path, ANN)[2]


def test_a_backup_leaves_the_trace_out(tmp_path: Path) -> None:
    server = ServerProcess(tmp_path, 1)
    server.start()
    wait_for(tmp_path, send(server, "a", ANN), has("filed"))
    config = str(tmp_path / "pillarbox.toml")
    command = [sys.executable, "-m", "pillarbox", "backup", str(tmp_path / "saved")]
    subprocess.run([*command, "--config", config], check=True, capture_output=True)
    assert server.stop() == 0
    assert not list((tmp_path / "saved").rglob("trace-*"))


def test_200_mb_are_looked_through_in_seconds(tmp_path: Path) -> None:
    """There is no index: one search is a reading of all."""
    (tmp_path / "pillarbox.toml").write_text('hostname = "mail.example.org"\ndata_dir = "data"\n')
    (tmp_path / "data").mkdir()
    recorder = Recorder(is_on=True)
    path = trace_path(tmp_path / "data", 1)
    file = TraceFile(path, keep_us=14 * DAY_US, most_octets=1 << 30)
    for number in range(4000):
        sender = f"sender{number}@example.org"
        event = Accepted("1", f"02H3LL3B{number:08}", "", 1, sender, [(ANN, [ANN])], 1, "", [], [])
        recorder.add(event)
    lines, _ = recorder.take()
    for _ in range(120):
        file.write(lines, recorder.now())
    file.close()
    assert path.stat().st_size > 60 << 20
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    (story,) = stories(tmp_path, "sender3999@example.org")
    assert story["queue_id"] == "02H3LL3B00003999"
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 15
