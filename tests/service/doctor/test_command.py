"""`pillarbox doctor` on the command line, with a server that runs, and one that does not."""

import asyncio
import datetime
import imaplib
import json
import os
import re
import socket
import ssl
import stat
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import trustme
from small_dns import SmallDns
from tests.commands import Run, runner
from tests.ports import free_port

from pillarbox.cli.doctor import case, listeners, machine, round_trip
from pillarbox.cli.doctor.display import gather
from pillarbox.cli.doctor.finding import error, ok
from pillarbox.cli.doctor.memory import KEPT_S, Memory
from pillarbox.core.errors import Refused
from pillarbox.store import database
from pillarbox.store.outgoing_row import FREE, HELD
from pillarbox.testing.server import PASSWORD, SERVICES, MailServer

ALICE = "alice@example.test"
Findings = dict[tuple[str, str], tuple[str, str, str]]


@pytest.fixture(scope="module")
def server() -> Iterator[MailServer]:
    with MailServer() as running:
        yield running


@pytest.fixture
def net() -> Iterator[SmallDns]:
    """A zone in which only the addresses of the host are right."""
    server = SmallDns()
    server.zone["mail.example.test", "A"] = ["9.8.7.6"]
    yield server
    server.close()


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("PILLARBOX_CONFIG", raising=False)
    return runner(monkeypatch, capsys)


def configure(net: SmallDns, folder: Path | str, ports: dict[str, int], more: str = "") -> None:
    listen = "\n".join(f'{name} = ["127.0.0.1:{port}"]' for name, port in ports.items())
    Path("pillarbox.toml").write_text(
        f'hostname = "mail.example.test"\ndata_dir = "{folder}"\n[listen]\n{listen}\n'
        f'[dns]\nservers = ["{net.address}"]\n{more}\n'
    )


def findings(out: str) -> Findings:
    """(check, subject) -> (level, found, advice)"""
    rows = json.loads(out)["findings"]
    keys = [(each["check"], each["subject"]) for each in rows]
    assert len(keys) == len(set(keys))
    assert all(bool(each["advice"]) == (each["level"] != "ok") for each in rows)
    assert not any("\n" in each["advice"] for each in rows)
    return {
        key: (each["level"], each["found"], each["advice"])
        for key, each in zip(keys, rows, strict=True)
    }


def of(found: Findings, check: str) -> list[tuple[str, str, str]]:
    return [value for (name, _), value in found.items() if name == check]


# A server that runs


def test_every_listener_of_a_running_server_is_open_and_shows_its_certificate(
    server: MailServer, net: SmallDns, run: Run
) -> None:
    configure(net, server.folder, server.ports)
    _, out, _ = run("doctor", "--json")
    found = findings(out)
    for service in SERVICES:
        subject = f"{service} 127.0.0.1:{server.ports[service]}"
        assert found["port", subject][0] == "ok"
        level, words, _ = found["tls", subject]
        assert (level, "private CA" in words) == ("warning", True)
    assert of(found, "certificate")[0][0] == "ok"
    assert of(found, "disk")[0][0] in ("ok", "warning")
    assert of(found, "queue")[0][:2] == ("ok", "empty")
    assert found["mx", "example.test"][0] == "error"
    assert found["ptr", "9.8.7.6"][0] == "error"


def test_a_round_trip_times_each_stage_and_leaves_nothing(
    server: MailServer, net: SmallDns, run: Run
) -> None:
    configure(net, server.folder, server.ports)
    server.clear()
    arguments = ("doctor", "--json", "--round-trip", ALICE, "--password-stdin")
    _, out, _ = run(*arguments, typed=f"{PASSWORD}\n")
    found = findings(out)
    for stage in ("submission", "imap", "pop3", "removal"):
        level, words, _ = found["round trip", f"{ALICE} {stage}"]
        assert level == "ok", words
        assert words.endswith(" ms)")
    with imaplib.IMAP4_SSL(
        "localhost", server.ports["imaps"], ssl_context=server.client_context()
    ) as client:
        client.login(ALICE, PASSWORD)
        client.select("INBOX")
        assert client.search(None, "SUBJECT", "doctor")[1] == [b""]


def test_aliases_that_lead_nowhere_are_told(net: SmallDns, run: Run) -> None:
    configure(net, "data", {})
    for arguments in (
        ("domain", "add", "example.test"),
        ("alias", "add", "info@example.test", "gone@example.test"),
        ("alias", "add", "out@example.test", "else@elsewhere.test"),
    ):
        assert run(*arguments)[0] == 0
    found = findings(run("doctor", "--json")[1])
    (told,) = of(found, "aliases")
    assert found["aliases", "info@example.test"] == told
    assert told[:2] == ("warning", "it goes to gone@example.test, which is no account and no alias")


def test_without_a_terminal_the_password_has_to_come_from_elsewhere(
    server: MailServer, net: SmallDns, run: Run
) -> None:
    configure(net, server.folder, server.ports)
    code, out, err = run("doctor", "--round-trip", ALICE)
    assert (code, out) == (1, "")
    assert err == "pillarbox: there is no terminal to ask for the password; use --password-stdin\n"
    assert "--password-stdin goes with --round-trip" in run("doctor", "--password-stdin")[2]


def test_a_round_trip_without_tls_from_the_start_uses_starttls(
    server: MailServer, net: SmallDns, run: Run
) -> None:
    configure(
        net, server.folder, {name: server.ports[name] for name in ("submission", "imap", "pop3")}
    )
    arguments = ("doctor", "--json", "--round-trip", ALICE, "--password-stdin")
    found = findings(run(*arguments, typed=f"{PASSWORD}\n")[1])
    assert [level for level, *_ in of(found, "round trip")] == ["ok"] * 4


def test_a_round_trip_without_imap_removes_by_pop3(
    server: MailServer, net: SmallDns, run: Run
) -> None:
    configure(net, server.folder, {name: server.ports[name] for name in ("submissions", "pop3s")})
    arguments = ("doctor", "--json", "--round-trip", ALICE, "--password-stdin")
    found = findings(run(*arguments, typed=f"{PASSWORD}\n")[1])
    assert [level for level, *_ in of(found, "round trip")] == ["ok"] * 3


def test_a_message_that_does_not_arrive_is_told(
    server: MailServer, net: SmallDns, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(round_trip, "WAIT_S", 0.5)
    monkeypatch.setattr(round_trip.Trip, "_uids", lambda *_: "")
    configure(net, server.folder, server.ports)
    arguments = ("doctor", "--json", "--round-trip", ALICE, "--password-stdin")
    found = findings(run(*arguments, typed=f"{PASSWORD}\n")[1])
    assert found["round trip", f"{ALICE} submission"][0] == "ok"
    assert "not in INBOX" in found["round trip", f"{ALICE} imap"][1]
    assert "may still come" in found["round trip", f"{ALICE} removal"][1]


def test_a_wrong_password_ends_the_round_trip_at_its_first_stage(
    server: MailServer, net: SmallDns, run: Run
) -> None:
    configure(net, server.folder, server.ports)
    arguments = ("doctor", "--json", "--round-trip", ALICE, "--password-stdin")
    code, out, _ = run(*arguments, typed="wrong\n")
    assert code == 1
    [(level, words, _)] = of(findings(out), "round trip")
    assert level == "error"
    assert "535" in words


def test_the_password_goes_only_to_a_server_with_our_key(
    server: MailServer, net: SmallDns, run: Run, tmp_path: Path
) -> None:
    issued = trustme.CA().issue_cert("mail.example.test")
    issued.cert_chain_pems[0].write_to_path("other.pem")
    issued.private_key_pem.write_to_path("other-key.pem")
    tls = f'[tls]\ncertificate = "{tmp_path}/other.pem"\nkey = "{tmp_path}/other-key.pem"'
    configure(net, server.folder, server.ports, tls)
    arguments = ("doctor", "--json", "--round-trip", ALICE, "--password-stdin")
    found = findings(run(*arguments, typed=f"{PASSWORD}\n")[1])
    [(level, words, _)] = of(found, "round trip")
    assert level == "error"
    assert "certificate" in words.lower()
    level, words, _ = found["tls", f"imaps 127.0.0.1:{server.ports['imaps']}"]
    assert (level, "another certificate than the files" in words) == ("error", True)


# A server that does not


def test_a_stopped_server_is_an_error_and_other_checks_go_on(net: SmallDns, run: Run) -> None:
    configure(net, "data", {"imaps": free_port()})
    assert run("domain", "add", "example.test")[0] == 0
    code, out, _ = run("doctor", "--json", "Example.TEST")
    found = findings(out)
    assert code == 1
    level, words, advice = of(found, "server")[0]
    assert (level, words.startswith("no server runs on")) == ("error", True)
    assert "pillarbox serve" in advice
    assert of(found, "port")[0][0] == "error"
    assert of(found, "certificate")[0][0] == "error"
    assert of(found, "queue")[0][0] == "ok"
    assert found["mx", "example.test"][0] == "error"


def test_what_is_the_same_of_many_listeners_is_told_once_to_people(
    server: MailServer, net: SmallDns, run: Run
) -> None:
    configure(net, server.folder, server.ports)
    _, out, _ = run("doctor")
    ports = ", ".join(f"{service} {server.ports[service]}" for service in SERVICES)
    warning = "TLSv1.3, by the private CA, which only your own clients trust"
    assert f"warning  tls  {ports} at 127.0.0.1: {warning}\n" in out
    assert out.count("private CA") == 1
    assert f"ok       port  imap 127.0.0.1:{server.ports['imap']}: * OK Pillarbox ready.\n" in out
    configure(net, server.folder, {name: free_port() for name in ("imap", "imaps", "pop3")})
    run("doctor")
    _, out, _ = run("doctor")
    refused = [line for line in out.splitlines() if "Connection refused" in line]
    assert len(refused) == 1
    assert re.fullmatch(
        r"error    port  imap \d+, imaps \d+, pop3 \d+ at 127.0.0.1: no connection: .*", refused[0]
    )
    configure(net, server.folder, server.ports)
    run("doctor")
    text = Path(server.folder, "doctor.json").read_text().replace('"warning"', '"ok"')
    Path(server.folder, "doctor.json").write_text(text)
    _, out, _ = run("doctor")
    assert f"  tls {ports} at 127.0.0.1: ok before, warning now\n" in out


def test_listeners_are_gathered_by_address_and_by_the_name_that_is_asked_for() -> None:
    rows = [
        ("port", "imap 0.0.0.0:143", "fine"),
        ("tls", "imap 0.0.0.0:143", "old"),
        ("port", "imap [::]:143", "fine"),
        ("tls", "imap [::]:143", "old"),
        ("tls", "imap [::]:143 shop.example", "old"),
        ("port", "imaps [::]:993", "fine"),
        ("tls", "imaps [::]:993", "new"),
        ("tls", "imaps [::]:993 shop.example", "old"),
        ("spf", "example.org", "old"),
        ("spf", "example.com", "old"),
    ]
    assert gather(rows) == [
        ("port", "imap 143 at 0.0.0.0; imap 143, imaps 993 at [::]", "fine"),
        ("tls", "imap 143 at 0.0.0.0 and [::]", "old"),
        ("tls", "imap 143, imaps 993 at [::] (shop.example)", "old"),
        ("tls", "imaps [::]:993", "new"),
        ("spf", "example.org", "old"),
        ("spf", "example.com", "old"),
    ]


def test_a_run_says_what_changed_since_the_last(net: SmallDns, run: Run) -> None:
    configure(net, "data", {"imaps": free_port()})
    run("domain", "add", "example.test")
    _, out, err = run("doctor")
    assert "Since the last run" not in out
    assert err == ""
    assert stat.S_IMODE(os.stat("data/doctor.json").st_mode) == 0o600
    assert "no change" in run("doctor")[1]
    net.zone["example.test", "MX"] = ["10 mail.example.test."]
    _, out, _ = run("doctor")
    assert "  mx example.test: error before, ok now" in out
    rows = json.loads(run("doctor", "--json")[1])["findings"]
    assert {each["before"] for each in rows if each["check"] == "mx"} == {"ok"}


def test_a_fault_where_nothing_was_looked_at_before_is_a_change(net: SmallDns, run: Run) -> None:
    configure(net, "data", {"imaps": free_port()})
    run("domain", "add", "example.test")
    run("doctor")
    run("domain", "add", "second.test")
    _, out, _ = run("doctor")
    assert "  mx second.test: not looked at before, error now" in out
    assert "spf example.test: not looked at" not in out


def test_into_a_pipe_findings_are_plain_lines(net: SmallDns, run: Run) -> None:
    configure(net, "data", {"imaps": free_port()})
    run("domain", "add", "example.test")
    _, out, _ = run("doctor")
    assert "error    mx  example.test: there is no MX record" not in out  # NXDOMAIN says more
    assert "error    mx  example.test: the domain does not exist in the DNS\n" in out
    assert "         do: set: example.test. IN MX 10 mail.example.test.\n" in out
    assert "\x1b" not in out


def test_on_a_terminal_findings_have_symbols(
    net: SmallDns, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    configure(net, "data", {"imaps": free_port()})
    run("domain", "add", "example.test")
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "200")
    out = run("doctor")[1]
    assert "✘" in out
    assert "→ set: example.test. IN MX 10 mail.example.test." in out


def test_what_strangers_wrote_does_not_move_the_cursor(net: SmallDns, run: Run) -> None:
    net.zone["example.test", "TXT"] = ['"v=spf1 \\027[2J -all"']
    configure(net, "data", {"imaps": free_port()})
    run("domain", "add", "example.test")
    out = run("doctor")[1]
    assert "[2J" in out
    assert "\x1b" not in out


def test_a_check_that_fails_itself_does_not_keep_the_others(
    net: SmallDns, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: Path) -> None:
        raise ValueError("what is this")

    monkeypatch.setattr(machine, "probe", fail)
    configure(net, "data", {"imaps": free_port()})
    run("domain", "add", "example.test")
    found = findings(run("doctor", "--json")[1])
    assert "ValueError: what is this" in found["disk", "this check"][1]
    assert found["mx", "example.test"][0] == "error"


def test_wrong_usage_is_exit_code_2(net: SmallDns, run: Run) -> None:
    configure(net, "data", {"imaps": free_port()})
    assert run("doctor", "--password-stdin")[0] == 2
    code, _, err = run("doctor")
    assert (code, "quickstart" in err) == (1, True)  # no data folder yet
    run("domain", "add", "example.test")
    code, _, err = run("doctor", "other.example")
    assert (code, len(err.splitlines())) == (1, 1)


def test_lists_are_asked_only_when_told_to(net: SmallDns, run: Run) -> None:
    configure(net, "data", {"imaps": free_port()}, '[doctor]\nblock_lists = ["list.example"]')
    run("domain", "add", "example.test")
    run("doctor", "--json")
    assert not any(name.endswith("list.example") for name, _ in net.questions)
    found = findings(run("doctor", "--json", "--block-lists")[1])
    assert found["block list", "list.example"][0] == "warning"


# Listeners that are wrong in one way each


@pytest.fixture
def scripted() -> Iterator[Callable[[bytes | None], int]]:
    """Starts a server that greets with these octets (None: with silence), then answers all with them; its port."""
    sockets: list[socket.socket] = []

    def serve(sock: socket.socket, greeting: bytes | None) -> None:
        while True:
            try:
                peer, _ = sock.accept()
            except OSError:
                return
            threading.Thread(target=talk, args=(peer, greeting), daemon=True).start()

    def talk(peer: socket.socket, greeting: bytes | None) -> None:
        with peer:
            peer.settimeout(5)
            try:
                if greeting is not None:
                    peer.sendall(greeting)
                while peer.recv(4096):
                    if greeting:
                        peer.sendall(greeting)
            except OSError:
                return

    def start(greeting: bytes | None) -> int:
        sock = socket.create_server(("127.0.0.1", 0))
        sockets.append(sock)
        threading.Thread(target=serve, args=(sock, greeting), daemon=True).start()
        return int(sock.getsockname()[1])

    yield start
    for sock in sockets:
        sock.shutdown(socket.SHUT_RDWR)
        sock.close()


@pytest.mark.parametrize(
    ("greeting", "check", "words"),
    [
        (None, "port", "connected, but silent"),
        (b"HTTP/1.1 400 Bad Request\r\n", "port", "it greets with 'HTTP"),
        (b"* OK hello\r\n", "port", "no TLS"),  # and no answer to STARTTLS
        (b"* OK hi\r\nA OK go on\r\n", "tls", "the handshake fails"),
    ],
)
def test_a_listener_that_is_another_program_is_told(
    net: SmallDns,
    run: Run,
    scripted: Callable[[bytes | None], int],
    monkeypatch: pytest.MonkeyPatch,
    greeting: bytes | None,
    check: str,
    words: str,
) -> None:
    monkeypatch.setattr(listeners, "WAIT_S", 0.5)
    port = scripted(greeting)
    configure(net, "data", {"imap": port})
    run("domain", "add", "example.test")
    level, found, _ = findings(run("doctor", "--json")[1])[check, f"imap 127.0.0.1:{port}"]
    assert level == "error"
    assert words in found


@pytest.fixture
def two_names(tmp_path: Path) -> Iterator[tuple[str, int, trustme.CA]]:
    """Configuration and port of a listener with two certificates that all trust: for the host, and for others;
    it shows the first to everybody."""
    ca = trustme.CA()
    for label, name in (("a", "mail.example.test"), ("b", "*.other.example")):
        issued = ca.issue_cert(name, "127.0.0.1")
        issued.cert_chain_pems[0].write_to_path(tmp_path / f"{label}.pem")
        issued.private_key_pem.write_to_path(tmp_path / f"{label}-key.pem")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "a.pem", tmp_path / "a-key.pem")
    pairs = [
        f'certificate = "{tmp_path}/{it}.pem"{{}}key = "{tmp_path}/{it}-key.pem"' for it in "ab"
    ]
    tls = "[tls]\n{}\ncertificates = [{{ {} }}]".format(
        pairs[0].format("\n"), pairs[1].format(", ")
    )
    sock = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        while True:
            try:
                peer, _ = sock.accept()
            except OSError:
                return
            threading.Thread(target=show, args=(peer,), daemon=True).start()

    def show(peer: socket.socket) -> None:
        with suppress(OSError), context.wrap_socket(peer, server_side=True) as shown:
            shown.sendall(b"220 hello\r\n")
            shown.recv(1)

    threading.Thread(target=serve, daemon=True).start()
    yield tls, int(sock.getsockname()[1]), ca
    sock.shutdown(socket.SHUT_RDWR)
    sock.close()


def test_each_certificate_is_asked_for_by_its_name(
    net: SmallDns,
    run: Run,
    two_names: tuple[str, int, trustme.CA],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    tls, port, ca = two_names
    ca.cert_pem.write_to_path(tmp_path / "trusted.pem")
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "trusted.pem"))
    configure(net, "data", {"imaps": port}, tls)
    run("domain", "add", "example.test")
    found = findings(run("doctor", "--json")[1])
    assert found["tls", f"imaps 127.0.0.1:{port}"][0] == "ok"
    level, words, _ = found["tls", f"imaps 127.0.0.1:{port} any.other.example"]
    assert (level, "Hostname mismatch" in words) == ("error", True)
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "nothing.pem"))
    level, words, _ = findings(run("doctor", "--json")[1])["tls", f"imaps 127.0.0.1:{port}"]
    # A note of `tls status`: it may be the CA of one's house.
    assert (level, "only clients that were given it" in words) == ("warning", True)


@pytest.mark.parametrize(
    ("port", "more", "words"),
    [
        (0, "", "the system chooses this port"),
        (1, '[security]\nproxy_protocol_from = ["127.0.0.0/8"]', "wants a PROXY header"),
    ],
)
def test_a_listener_that_cannot_be_tried_is_no_error(
    net: SmallDns, run: Run, port: int, more: str, words: str
) -> None:
    configure(net, "data", {"imaps": port}, more)
    run("domain", "add", "example.test")
    level, found, _ = of(findings(run("doctor", "--json")[1]), "port")[0]
    assert (level, words in found) == ("warning", True)


def test_files_that_others_on_the_machine_can_read_are_told(
    net: SmallDns, run: Run, tmp_path: Path
) -> None:
    issued = trustme.CA().issue_cert("mail.example.test")
    issued.cert_chain_pems[0].write_to_path("host.pem")
    issued.private_key_pem.write_to_path("key.pem")
    Path("key.pem").chmod(0o644)
    tls = f'[tls]\ncertificate = "{tmp_path}/host.pem"\nkey = "{tmp_path}/key.pem"'
    configure(net, "data", {"imaps": free_port()}, tls)
    run("domain", "add", "example.test")
    assert [level for level, _, _ in of(findings(run("doctor", "--json")[1]), "modes")] == [
        "warning"
    ]
    assert (
        f"Note: all users of this machine can read {tmp_path}/key.pem" in run("config", "check")[1]
    )
    Path("key.pem").chmod(0o640)
    assert of(findings(run("doctor", "--json")[1]), "modes")[0][0] == "ok"
    assert "all users" not in run("config", "check")[1]
    Path("data").chmod(0o755)
    Path("data/directory.db").chmod(0o666)
    advices = [advice for _, _, advice in of(findings(run("doctor", "--json")[1]), "modes")]
    data = tmp_path / "data"
    assert advices == [f"chmod 700 {data}", f"chmod 600 {data}/directory.db"]


# Mail that goes out


def test_outbound_connects_to_the_mx_of_a_domain(
    net: SmallDns, run: Run, scripted: Callable[[bytes | None], int]
) -> None:
    port = scripted(b"220 mx.example ESMTP\r\n")
    net.zone["other.example", "MX"] = ["10 mx.other.example."]
    net.zone["mx.other.example", "A"] = ["127.0.0.1"]
    configure(net, "data", {"imaps": free_port()}, f"[outbound]\nmx_port = {port}")
    run("domain", "add", "example.test")
    found = findings(run("doctor", "--json", "--outbound", "other.example")[1])
    assert found["outbound", "other.example"][0] == "ok"


def test_outbound_goes_by_the_route_that_is_configured(
    net: SmallDns, run: Run, scripted: Callable[[bytes | None], int]
) -> None:
    port = scripted(b"220 relay ESMTP\r\n")
    routes = f"""[outbound]
mx_port = {free_port()}
smarthost = "127.0.0.1:{free_port()}"
[outbound.routes."*.other.example"]
host = "127.0.0.1:{port}"
"""
    configure(net, "data", {"imaps": free_port()}, routes)
    run("domain", "add", "example.test")
    found = findings(run("doctor", "--json", "--outbound", "sub.other.example")[1])
    subject = f"sub.other.example by way of 127.0.0.1:{port}"
    assert found["outbound", subject][:2] == ("ok", f"127.0.0.1 port {port} says 220 relay ESMTP")


def test_a_route_whose_password_the_server_cannot_read_is_told(
    net: SmallDns, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Root reads the configuration; the server's user asks."""

    def refuse(_config: object) -> None:
        raise Refused("the password file secret cannot be read: Permission denied")

    monkeypatch.setattr("pillarbox.cli.doctor.outbound.make_router", refuse)
    routes = '[outbound.routes."other.example"]\nhost = "127.0.0.1:2525"'
    configure(net, "data", {"imaps": free_port()}, routes)
    run("domain", "add", "example.test")
    found = findings(run("doctor", "--json", "--outbound", "other.example")[1])
    level, words, advice = found["outbound", "other.example"]
    assert (level, words[:17]) == ("error", "the password file")
    assert advice == "let the server's user read it"


@pytest.mark.parametrize(
    ("greeting", "level", "words"),
    [
        (b"554 we do not like you\r\n", "warning", "554 we do not like you"),
        (b"", "error", "no greeting"),
    ],
)
def test_outbound_tells_what_the_peer_says(
    net: SmallDns,
    run: Run,
    scripted: Callable[[bytes | None], int],
    monkeypatch: pytest.MonkeyPatch,
    greeting: bytes,
    level: str,
    words: str,
) -> None:
    monkeypatch.setattr("pillarbox.cli.doctor.outbound.WAIT_S", 0.5)
    port = scripted(greeting)
    configure(net, "data", {"imaps": free_port()}, f'[outbound]\nsmarthost = "127.0.0.1:{port}"')
    run("domain", "add", "example.test")
    found = findings(run("doctor", "--json", "--outbound")[1])
    assert found["outbound", f"127.0.0.1:{port}"][0] == level
    assert words in found["outbound", f"127.0.0.1:{port}"][1]


def test_a_smarthost_with_tls_from_the_start_is_verified(
    net: SmallDns,
    run: Run,
    two_names: tuple[str, int, trustme.CA],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    _, port, ca = two_names
    ca.cert_pem.write_to_path(tmp_path / "trusted.pem")
    monkeypatch.setattr("pillarbox.cli.doctor.outbound.IMPLICIT_TLS_PORT", port)
    configure(net, "data", {"imaps": free_port()}, f'[outbound]\nsmarthost = "127.0.0.1:{port}"')
    run("domain", "add", "example.test")
    for file, level, words in (
        ("trusted.pem", "ok", "220 hello"),
        ("nothing.pem", "error", "its certificate is not trusted"),
    ):
        monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / file))
        found = findings(run("doctor", "--json", "--outbound")[1])
        assert found["outbound", f"127.0.0.1:{port}"][0] == level
        assert words in found["outbound", f"127.0.0.1:{port}"][1]


def test_a_port_25_that_is_blocked_is_an_error(net: SmallDns, run: Run) -> None:
    net.zone["mx.other.example", "A"] = ["127.0.0.1"]
    configure(net, "data", {"imaps": free_port()}, f"[outbound]\nmx_port = {free_port()}")
    run("domain", "add", "example.test")
    found = findings(run("doctor", "--json", "--outbound", "mx.other.example")[1])
    level, words, advice = found["outbound", "mx.other.example"]
    assert (level, "is not reached" in words, "smarthost" in advice) == ("error", True, True)
    found = findings(run("doctor", "--json", "--outbound", "nothing.example")[1])
    assert found["outbound", "nothing.example"][0] == "error"
    found = findings(run("doctor", "--json", "--outbound")[1])
    assert found["outbound", "smarthost"][0] == "warning"


# The machine


def in_queue(held: int, next_try: int, created: int) -> None:
    connection = database.open_single(Path("data/queue.db"), "queue")
    connection.execute(
        "INSERT INTO outgoing_message VALUES (1, 'Q1', '', NULL, '', '', 0, ?, x'00')", (created,)
    )
    connection.execute(
        "INSERT INTO outgoing VALUES (1, 'a@b.example', 'b.example', '', '', ?, 0, ?, 0, 0, '', 0, '', '')",
        (held, next_try),
    )
    connection.close()


@pytest.mark.parametrize(
    ("held", "due_s", "age_s", "level", "words"),
    [
        (FREE, 300, 60, "ok", "1 message"),
        (FREE, -3600, 3600, "error", "has been due for 1 h 0 min"),
        (FREE, 300, 86400, "warning", "the oldest came 1 d 0 h ago"),
        (HELD, 300, 60, "warning", "held: 1 recipient"),
    ],
)
def test_old_mail_in_the_queue_is_told(
    net: SmallDns, run: Run, held: int, due_s: int, age_s: int, level: str, words: str
) -> None:
    configure(net, "data", {"imaps": free_port()})
    run("domain", "add", "example.test")
    now = int(time.time())
    in_queue(held, now + due_s, now - age_s)
    found = of(findings(run("doctor", "--json")[1]), "queue")[0]
    assert found[0] == level
    assert words in found[1]


@pytest.mark.parametrize(
    ("free", "level", "words"),
    [
        (0, "error", "; mail is refused, but for what"),
        (1 << 20, "error", "; mail is refused, but for what"),
        (10 << 20, "error", "; mail is refused soon"),
        (100 << 20, "warning", "are free"),
        (900 << 20, "ok", "are free"),
    ],
)
def test_a_full_disk_is_told(
    net: SmallDns, run: Run, monkeypatch: pytest.MonkeyPatch, free: int, level: str, words: str
) -> None:
    figures = machine.disk_of(Path("."))
    monkeypatch.setattr(machine, "disk_of", lambda _: type(figures)(free, 2000 << 20))
    configure(net, "data", {"imaps": free_port()})
    run("domain", "add", "example.test")
    found = of(findings(run("doctor", "--json")[1]), "disk")[0]
    assert found[0] == level
    assert words in found[1]


def test_a_disk_that_takes_nothing_is_told(
    net: SmallDns, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: Path) -> None:
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(machine, "probe", fail)
    configure(net, "data", {"imaps": free_port()})
    run("domain", "add", "example.test")
    found = of(findings(run("doctor", "--json")[1]), "disk")[0]
    assert found[:2] == ("error", "it cannot be written: Read-only file system")


def test_a_disk_that_hangs_does_not_keep_the_command(
    net: SmallDns, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(machine, "WAIT_S", 0.2)
    monkeypatch.setattr(machine, "probe", lambda _: time.sleep(4))
    configure(net, "data", {"imaps": free_port()})
    run("domain", "add", "example.test")
    begun = time.monotonic()
    found = of(findings(run("doctor", "--json")[1]), "disk")[0]
    assert found[:2] == ("error", "no answer within 0.2 s")
    assert time.monotonic() - begun < 4


def test_a_clock_that_went_back_is_told(
    net: SmallDns, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    configure(net, "data", {"imaps": free_port()})
    run("domain", "add", "example.test")
    monkeypatch.setattr(machine, "is_synchronized", lambda: False)
    assert of(findings(run("doctor", "--json")[1]), "clock")[0][0] == "warning"
    monkeypatch.setattr(machine, "is_synchronized", lambda: True)
    assert of(findings(run("doctor", "--json")[1]), "clock")[0][0] == "ok"
    later = time.time() + 7200
    os.utime("data/directory.db", (later, later))
    level, words, _ = of(findings(run("doctor", "--json")[1]), "clock")[0]
    assert (level, "it went back" in words) == ("error", True)


def test_a_certificate_that_ends_soon_or_has_ended_is_told(
    net: SmallDns, run: Run, tmp_path: Path
) -> None:
    tls = f'[tls]\ncertificate = "{tmp_path}/a.pem"\nkey = "{tmp_path}/a-key.pem"'
    configure(net, "data", {"imaps": free_port()}, tls)
    ca = trustme.CA()
    for name, days, level in (
        ("mail.example.test", 5, "warning"),
        ("mail.example.test", -5, "error"),
        ("other.example", 200, "error"),
    ):
        end = datetime.datetime.now(datetime.UTC) + datetime.timedelta(days=days)
        issued = ca.issue_cert(name, not_after=end)
        issued.cert_chain_pems[0].write_to_path("a.pem")
        issued.private_key_pem.write_to_path("a-key.pem")
        run("domain", "add", "example.test")
        assert of(findings(run("doctor", "--json")[1]), "certificate")[0][0] == level


def test_a_file_that_vanishes_does_not_hide_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a").touch()
    os.utime(tmp_path / "a", (5, 5))
    monkeypatch.setattr(Path, "iterdir", lambda _: iter([tmp_path / "gone", tmp_path / "a"]))
    assert machine._newest(tmp_path) == 5


# What is remembered


def test_what_was_not_looked_at_is_remembered_for_a_while(tmp_path: Path) -> None:
    first, other = ok("mx", "example.org", ""), error("ptr", "192.0.2.1", "", "x")
    Memory(tmp_path).save([first, other], 1000)
    Memory(tmp_path).save([first], 1000 + KEPT_S - 1)
    assert Memory(tmp_path).before(other) == "error"
    Memory(tmp_path).save([first], 1000 + KEPT_S)
    assert Memory(tmp_path).before(other) is None
    assert Memory(tmp_path).before(first) == "ok"


@pytest.mark.parametrize("octets", [b"", b"\xff", b"[]", b'{"last": 1, "findings": [1]}', b"{}"])
def test_a_broken_memory_is_an_empty_one(tmp_path: Path, octets: bytes) -> None:
    (tmp_path / "doctor.json").write_bytes(octets)
    memory = Memory(tmp_path)
    assert memory.last is None
    memory.save([], 7)
    assert Memory(tmp_path).last == 7


def test_work_in_a_thread_raises_where_it_is_waited_for() -> None:
    async def wait() -> Any:
        return await case.in_thread(lambda: 1 // 0, 1.0)

    with pytest.raises(ZeroDivisionError):
        asyncio.run(wait())
