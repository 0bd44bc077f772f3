"""Figures and health of a running server by HTTP, `pillarbox top`, and the log as JSON: through real processes."""

import asyncio
import http.client
import imaplib
import json
import os
import poplib
import pty
import re
import resource
import select
import signal
import smtplib
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from clients import Imap
from serverprocess import DOMAIN, PASSWORD, ServerProcess
from tests.ports import free_ports

from pillarbox.app.exposition import all_families
from pillarbox.core.tally import FAMILIES
from pillarbox.net.http import HEAD_S, MOST_PEERS

ROOT = Path(__file__).parents[3]
USER = f"user0@{DOMAIN}"
MESSAGE = "Subject: hello\n\ntext\n"

Figures = dict[tuple[str, frozenset[tuple[str, str]]], float]


class Watched(ServerProcess):
    """With /metrics on a port of its own."""

    def __init__(self, folder: Path, *, workers: int, head: str = "", extra: str = "") -> None:
        (self.http,) = free_ports(1)
        listen = f'metrics = ["127.0.0.1:{self.http}"]'
        super().__init__(folder, 2, extra, workers=workers, listen=listen, head=head)

    def start(self, before: Callable[[], None] | None = None) -> None:
        super().start(before)
        self._wait_for(self.http)

    def get(self, path: str, method: str = "GET") -> tuple[int, str]:
        connection = http.client.HTTPConnection("127.0.0.1", self.http, timeout=20)
        connection.request(method, path)
        answer = connection.getresponse()
        text = answer.read().decode()
        connection.close()
        return answer.status, text

    def figures(self) -> Figures:
        status, text = self.get("/metrics")
        assert status == 200
        return parse(text)

    def readiness(self) -> tuple[int, list[str]]:
        status, text = self.get("/readyz")
        answer = json.loads(text)
        assert answer["ready"] == (status == 200) == (not answer["problems"])
        return status, answer["problems"]

    def log(self) -> str:
        return (self.folder / "out").read_text()

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        config = str(self.folder / "pillarbox.toml")
        return subprocess.run(
            [sys.executable, "-m", "pillarbox", *arguments, "--config", config],
            capture_output=True,
            text=True,
            timeout=30,
        )


_SAMPLE = re.compile(r'([a-z_]+)(?:\{((?:[a-z]+="[^"\\]*",?)+)\})? (\S+)')


def parse(text: str) -> Figures:
    """The text format, strictly: a HELP and a TYPE before the samples of each metric, no sample twice."""
    found: Figures = {}
    kind, name = "", ""
    assert text.endswith("\n")
    for line in text.splitlines():
        if line.startswith("# HELP "):
            name = line.split()[2]
        elif line.startswith("# TYPE "):
            assert line.split()[2] == name
            kind = line.split()[3]
        else:
            match = _SAMPLE.fullmatch(line)
            assert match is not None, line
            suffixes = ("_bucket", "_sum", "_count") if kind == "histogram" else ("",)
            assert match[1] in [name + suffix for suffix in suffixes]
            labels = re.findall(r'([a-z]+)="([^"]*)"', match[2] or "")
            key = match[1], frozenset(labels)
            assert key not in found
            found[key] = float(match[3])
    return found


def value(figures: Figures, name: str, **labels: str) -> float:
    """Of all that have these labels, together."""
    wanted = set(labels.items())
    found = [each for key, each in figures.items() if key[0] == name and wanted <= key[1]]
    assert found, (name, labels)
    return sum(found)


def wait_until(what: Callable[[], bool], seconds: float = 10) -> None:
    end = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < end
        time.sleep(0.05)


def send(port: int, *recipients: str) -> None:
    with smtplib.SMTP("127.0.0.1", port, timeout=20) as client:
        client.sendmail("sender@example.org", recipients, MESSAGE)


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watched]:
    """With two workers, for tests that leave it running."""
    server = Watched(tmp_path_factory.mktemp("two"), workers=2)
    server.start()
    server.wait_for_workers()
    yield server
    assert server.stop() == 0
    assert "Traceback" not in server.log()


@pytest.fixture
def one(tmp_path: Path) -> Iterator[Watched]:
    server = Watched(tmp_path, workers=1, head='log_format = "json"')
    server.start()
    yield server
    assert server.process is not None
    if server.process.poll() is None:
        assert server.stop() == 0


# Metrics


def test_one_answer_is_the_sum_of_all_workers(two: Watched) -> None:
    time.sleep(1.2)  # what connected at the start is told then
    before = two.figures()

    async def open_all() -> list[Imap]:
        return [await Imap.connect(two.imap, 0) for _ in range(16)]

    async def scenario() -> None:
        sessions = await open_all()
        for _ in range(20):
            await asyncio.to_thread(send, two.smtp, USER)
        await asyncio.sleep(1.5)  # workers tell their figures once a second
        shares = [worker["connections"]["imap"] for worker in two.status()["workers"]]
        assert all(shares), "16 connections reach both but once in 32,000"
        after = await asyncio.to_thread(two.figures)
        assert value(after, "pillarbox_connections", service="imap") == 16 == sum(shares)

        def more(name: str, **labels: str) -> float:
            return value(after, name, **labels) - value(before, name, **labels)

        assert more("pillarbox_smtp_messages_total", service="smtp", result="accepted") == 20
        assert more("pillarbox_smtp_messages_total") == 20
        assert more("pillarbox_smtp_recipients_total", result="accepted") == 20
        assert more("pillarbox_smtp_message_bytes_total", service="smtp") > 20 * len(MESSAGE)
        assert more("pillarbox_messages_stored_total") == 20
        assert more("pillarbox_delivery_seconds_count") == 20
        assert more("pillarbox_logins_total", protocol="imap") == 16
        assert more("pillarbox_connections_accepted_total", service="smtp") == 20
        # EHLO, MAIL, RCPT, DATA, its end and QUIT
        assert more("pillarbox_command_seconds_count", protocol="smtp") == 20 * 6
        assert more("pillarbox_commit_seconds_count", what="journal") > 0
        for session in sessions:
            session.writer.close()

    asyncio.run(scenario())


def test_histograms_add_up(two: Watched) -> None:
    send(two.smtp, USER)
    time.sleep(1.2)
    figures = two.figures()
    for family in FAMILIES.values():
        if family.kind != "histogram":
            continue
        for key in family.combinations():
            labels = dict(zip((name for name, _ in family.labels), key, strict=True))
            name = f"{family.name}_bucket"
            limits = [*(f"{limit:.12g}" for limit in family.limits), "+Inf"]
            shown = [le for key in figures if key[0] == name for n, le in key[1] if n == "le"]
            assert {float(limit) for limit in shown} == {float(limit) for limit in limits}
            buckets = sorted(
                (float(dict(key[1])["le"]), count)
                for key, count in figures.items()
                if key[0] == name and set(labels.items()) <= key[1]
            )
            counts = [count for _, count in buckets]
            assert counts == sorted(counts)
            assert counts[-1] == value(figures, f"{family.name}_count", **labels)
            assert bool(counts[-1]) == (value(figures, f"{family.name}_sum", **labels) > 0)


def test_all_metrics_of_the_reference_are_there_with_few_values(two: Watched) -> None:
    figures = two.figures()
    names = {key[0] for key in figures}
    for family in all_families():
        suffix = "_count" if family.kind == "histogram" else ""
        assert family.name + suffix in names
    assert len(figures) < 400
    assert value(figures, "pillarbox_ready") == 1
    assert value(figures, "pillarbox_worker_up") == value(figures, "pillarbox_workers") == 2
    for name in ("cpu_seconds_total", "resident_memory_bytes", "open_fds", "max_fds"):
        assert value(figures, f"process_{name}") > 0
    assert abs(value(figures, "process_start_time_seconds") - time.time()) < 600
    memory = value(figures, "pillarbox_worker_resident_memory_bytes")
    assert memory < value(figures, "process_resident_memory_bytes"), "the supervisor has some"
    assert 0 < value(figures, "pillarbox_worker_sqlite_memory_bytes") < memory


def test_the_page_of_metrics_is_what_the_code_is() -> None:
    done = subprocess.run([sys.executable, ROOT / "tools" / "metrics.py"], capture_output=True)
    assert done.returncode == 0, done.stderr


def test_no_counter_falls_when_a_worker_is_killed(tmp_path: Path) -> None:
    server = Watched(tmp_path, workers=2)
    server.start()
    pids = server.wait_for_workers()
    for _ in range(16):
        send(server.smtp, USER)
    time.sleep(1.3)
    counters = {family.name for family in all_families() if family.kind == "counter"}
    counters -= {"pillarbox_worker_cpu_seconds_total"}
    counters |= {
        family.name + suffix
        for family in FAMILIES.values()
        if family.kind == "histogram"
        for suffix in ("_bucket", "_sum", "_count")
    }
    before = server.figures()
    assert value(before, "pillarbox_smtp_messages_total") == 16
    os.kill(pids[1], signal.SIGKILL)
    was_away = False
    end = time.monotonic() + 20
    while True:
        now = server.figures()
        for key, count in now.items():
            if key[0] in counters:
                assert count >= before[key], key
        before = now
        up = value(now, "pillarbox_worker_up")
        was_away = was_away or up < 2
        assert value(now, "pillarbox_ready") == float(up == 2)
        if was_away and up == 2:
            break
        assert time.monotonic() < end
        time.sleep(0.01)
    assert value(now, "pillarbox_worker_restarts_total", worker="2") == 1
    for _ in range(16):
        send(server.smtp, USER)
    wait_until(lambda: value(server.figures(), "pillarbox_smtp_messages_total") == 32)
    assert server.status()["totals"]["received"] == 32
    assert server.stop() == 0


def test_failed_logins_are_counted_by_protocol(one: Watched) -> None:
    with socket.create_connection(("127.0.0.1", one.imap)) as sock:
        file = sock.makefile("rwb")
        file.write(b"a LOGIN %b wrong\r\n" % USER.encode())
        file.flush()
        while not file.readline().startswith(b"a NO"):
            pass
    figures = one.figures()
    failures = "pillarbox_login_failures_total"
    assert value(figures, failures, protocol="imap", reason="credentials") == 1
    assert value(figures, failures) == 1
    assert value(figures, "pillarbox_command_seconds_count", protocol="imap") == 0
    assert value(figures, "pillarbox_connections_accepted_total", service="imap") >= 1


def test_refused_mail_is_counted_by_its_reply(one: Watched) -> None:
    with smtplib.SMTP("127.0.0.1", one.smtp, timeout=20) as client:
        client.ehlo()
        client.mail("sender@example.org")
        assert client.rcpt(f"nobody@{DOMAIN}")[0] == 550
        assert client.rcpt(USER)[0] == 250
        looping = "Received: x\n" * 200 + MESSAGE
        assert client.data(looping)[0] == 554
    figures = one.figures()
    assert value(figures, "pillarbox_smtp_messages_total", result="rejected") == 1
    assert value(figures, "pillarbox_smtp_messages_total", result="accepted") == 0
    assert value(figures, "pillarbox_smtp_recipients_total", result="rejected") == 1
    assert value(figures, "pillarbox_smtp_recipients_total", result="accepted") == 1
    assert value(figures, "pillarbox_delivery_seconds_count") == 0


# HTTP


def test_nothing_but_reading_is_possible(one: Watched) -> None:
    assert one.get("/metrics", "HEAD") == (200, "")
    assert one.get("/metrics", "POST")[0] == 405
    assert one.get("/")[0] == 404
    assert one.get("/metrics/../data")[0] == 404
    with socket.create_connection(("127.0.0.1", one.http)) as sock:
        sock.sendall(b"EHLO client.example.org\r\n\r\n")
        assert sock.makefile("rb").readline().startswith(b"HTTP/1.1 400 ")


def test_slow_clients_hold_nobody_up(one: Watched) -> None:
    slow = [socket.create_connection(("127.0.0.1", one.http)) for _ in range(2 * MOST_PEERS)]
    for sock in slow:
        sock.sendall(b"GET /metrics HTTP/1.1\r\n")
    began = time.monotonic()
    for _ in range(5):
        assert one.get("/healthz") == (200, "ok\n")
        assert one.get("/readyz")[0] == 200
    send(one.smtp, USER)
    assert time.monotonic() - began < 2
    assert slow[-1].makefile("rb").readline().startswith(b"HTTP/1.1 408 ")
    assert HEAD_S - 1 < time.monotonic() - began < HEAD_S + 5
    for sock in slow:
        sock.close()


def test_it_is_off_unless_named_and_warns_where_others_reach_it(tmp_path: Path) -> None:
    off = ServerProcess(tmp_path / "off", 1)
    off.start()
    assert "metrics" not in (off.folder / "out").read_text()
    assert off.stop() == 0
    (port,) = free_ports(1, "0.0.0.0")
    everywhere = ServerProcess(tmp_path / "on", 1, listen=f'metrics = ["0.0.0.0:{port}"]')
    everywhere.start()
    assert everywhere.stop() == 0
    log = (everywhere.folder / "out").read_text()
    assert re.search(rf"WARNING .*listen\.metrics: 0\.0\.0\.0:{port} is not on loopback", log)


def test_a_taken_port_is_told_in_one_line(tmp_path: Path) -> None:
    server = Watched(tmp_path, workers=2)
    with socket.create_server(("127.0.0.1", server.http)):
        server.spawn()
        assert server.process is not None
        assert server.process.wait(20) == 1
    (line,) = [line for line in server.log().splitlines() if "cannot listen" in line]
    assert line.endswith(
        f"127.0.0.1:{server.http} (metrics): another program has this port (ss -ltnp tells which)"
    )


# Health


def test_a_server_that_serves_is_ready(two: Watched) -> None:
    assert two.get("/healthz") == (200, "ok\n")
    assert two.readiness() == (200, [])


@pytest.mark.parametrize("workers", [1, 2])
def test_a_full_disk_is_told(tmp_path: Path, workers: int) -> None:
    """A limit on file size stands for the disk: growing a file fails, as it does on a full disk."""
    server = Watched(tmp_path, workers=workers)
    server.start()
    server.wait_for_workers()
    assert server.process is not None
    assert server.readiness() == (200, [])
    unlimited = (resource.RLIM_INFINITY, resource.RLIM_INFINITY)
    resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE, (1000, resource.RLIM_INFINITY))
    wait_until(lambda: server.readiness()[0] == 503)
    (problem,) = server.readiness()[1]
    assert problem.startswith(f"store: {server.folder}/data cannot be written: ")
    assert value(server.figures(), "pillarbox_ready") == 0
    assert server.get("/healthz")[0] == 200, "it lives"
    resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE, unlimited)
    wait_until(lambda: server.readiness()[0] == 200)
    assert not (server.folder / "data" / "probe").exists()
    assert server.stop() == 0


def test_a_worker_that_hangs_is_told(two: Watched) -> None:
    pid = two.wait_for_workers()[1]
    os.kill(pid, signal.SIGSTOP)
    try:
        wait_until(lambda: two.readiness()[0] == 503, 15)
        (problem,) = two.readiness()[1]
        assert problem.startswith("workers: worker 2 has been silent for ")
        assert two.get("/healthz")[0] == 200
        shown = two.run("top", "--once").stdout
        assert "1 of 2 workers serve" in shown
        assert re.search(rf"^2 does not answer +{pid} ", shown, re.MULTILINE)
    finally:
        os.kill(pid, signal.SIGCONT)
    wait_until(lambda: two.readiness() == (200, []))


def test_a_server_that_stops_is_not_ready(one: Watched) -> None:
    """Until its sessions have ended, so that whoever sends it clients hears of it."""
    assert one.process is not None
    with socket.create_connection(("127.0.0.1", one.smtp)) as sock:
        file = sock.makefile("rwb")
        for line in (b"EHLO a", b"MAIL FROM:<>", b"RCPT TO:<%b>" % USER.encode(), b"DATA"):
            file.readline()
            file.write(line + b"\r\n")
            file.flush()
            while line == b"EHLO a" and not file.readline().startswith(b"250 "):
                pass
            if line == b"EHLO a":
                file.write(b"NOOP\r\n")
                file.flush()
        file.readline()
        one.process.terminate()
        wait_until(lambda: one.readiness() == (503, ["workers: the server is stopping"]))
        file.write(b"Subject: x\r\n\r\n.\r\n")
        file.flush()
        assert file.readline().startswith(b"250 ")
    assert one.process.wait(20) == 0


# Dashboards and alerts

_MACROS = {"$__rate_interval": "1m", '"$instance"': '".*"'}
_WORDS = frozenset(
    (
        "by",
        "and",
        "on",
        "sum",
        "min",
        "max",
        "rate",
        "increase",
        "deriv",
        "time",
        "histogram_quantile",
    )
)
_OF_PROMETHEUS = frozenset({"instance", "job"})
"""Labels that Prometheus adds to what it reads."""


def metrics_in(expression: str) -> Iterator[tuple[str, dict[str, str]]]:
    """Names of metrics with the labels that are asked for or kept, and the values that are asked for."""
    text = expression
    for macro, meaning in _MACROS.items():
        text = text.replace(macro, meaning)
    assert "$" not in text, expression
    kept = {
        label.strip()
        for group in re.findall(r"\bby \(([^)]*)\)", text)
        for label in group.split(",")
    }
    text = re.sub(r"\b(?:by|on|ignoring|without) \([^)]*\)", "", text)
    found = 0
    for match in re.finditer(r"([a-z_]+)(?:\{([^}]*)\})?(?![a-z_(\]=])", text):
        if match[1] in _WORDS or match[1] in ("m", "s"):
            continue
        found += 1
        asked = dict(re.findall(r'([a-z]+)=~?"([^"]*)"', match[2] or ""))
        yield match[1], {**dict.fromkeys(kept, ""), **asked}
    assert found, expression


def check_expression(expression: str, figures: Figures) -> None:
    for name, labels in metrics_in(expression):
        if name == "up":
            continue  # Prometheus itself has it
        samples = [dict(key[1]) for key in figures if key[0] == name]
        assert samples, f"there is no {name}: {expression}"
        for label, asked in labels.items():
            if label in _OF_PROMETHEUS:
                continue
            # Of two metrics in an expression, each may have labels of its own.
            assert any(label in sample for sample in samples), f"{name} has no {label}"
            if asked:
                values = {sample.get(label) for sample in samples}
                assert asked in values, f"{name} has no {label}={asked}: {values}"


def test_every_query_of_the_dashboard_finds_its_metrics(two: Watched) -> None:
    dashboard = json.loads((ROOT / "contrib" / "grafana-dashboard.json").read_text())
    panels = [panel for panel in dashboard["panels"] if panel["type"] != "row"]
    assert len({panel["id"] for panel in dashboard["panels"]}) == len(dashboard["panels"])
    figures = two.figures()
    expressions = [target["expr"] for panel in panels for target in panel["targets"]]
    assert len(expressions) > 20
    for expression in expressions:
        check_expression(expression, figures)
        assert 'instance=~"$instance"' in expression
    asked = {name for each in expressions for name, _ in metrics_in(each)}
    shown = {re.sub("_(bucket|sum|count)$", "", name) for name in asked}
    everything = {family.name for family in all_families()}
    assert everything - shown <= {
        "pillarbox_build_info",
        "process_open_fds",
        "process_virtual_memory_bytes",
    }
    (variable,) = [each for each in dashboard["templating"]["list"] if each["type"] == "query"]
    assert variable["definition"] == "label_values(pillarbox_build_info, instance)"
    for panel in panels:
        for target in panel["targets"]:
            labels = {label for _, found in metrics_in(target["expr"]) for label in found}
            assert set(re.findall(r"\{\{(\w+)\}\}", target["legendFormat"])) <= labels
    cells = [
        (x, y)
        for panel in dashboard["panels"]
        for place in [panel["gridPos"]]
        for x in range(place["x"], place["x"] + place["w"])
        for y in range(place["y"], place["y"] + place["h"])
    ]
    assert len(cells) == len(set(cells)), "no panel covers another"


def test_every_alert_finds_its_metrics(two: Watched) -> None:
    text = (ROOT / "contrib" / "prometheus-alerts.yml").read_text()
    expressions = re.findall(r"^ +expr: (.+)$", text, re.MULTILINE)
    assert len(expressions) == text.count("- alert: ") > 5
    figures = two.figures()
    for expression in expressions:
        check_expression(expression, figures)
    for command in re.findall(r"pillarbox ([a-z]+)", text):
        assert two.run(command, "--help").returncode == 0


def test_a_query_for_what_is_not_there_is_found(two: Watched) -> None:
    figures = two.figures()
    for wrong in (
        "pillarbox_nothing",
        'rate(pillarbox_logins_total{protocol="ftp"}[5m])',
        "sum by (color) (pillarbox_connections)",
        'pillarbox_ready{worker="1"}',
    ):
        with pytest.raises(AssertionError):
            check_expression(wrong, figures)


# The log


def test_lines_of_json_have_the_ids_of_session_and_message(one: Watched) -> None:
    send(one.smtp, USER)
    with socket.create_connection(("127.0.0.1", one.imap)) as sock:
        file = sock.makefile("rwb")
        file.write(b"a LOGIN %b wrong\r\n" % USER.encode())
        file.flush()
        while not file.readline().startswith(b"a NO"):
            pass
    with smtplib.SMTP("127.0.0.1", one.smtp) as client:
        client.ehlo()
        client.mail("sender@example.org")
        client.rcpt(f"nobody@{DOMAIN}")
    assert one.stop() == 0
    lines: list[dict[str, Any]] = [json.loads(line) for line in one.log().splitlines()]
    for line in lines:
        assert {"time", "level", "logger", "pid", "message"} <= set(line)
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT[\d:]+\.\d{3}Z", line["time"])
    (taken,) = [line for line in lines if "queue_id" in line]
    assert taken["from"] == "sender@example.org"
    assert taken["size"] > 0
    assert taken["client"] == "127.0.0.1"
    assert f"id={taken['queue_id']} from=<sender@example.org>" in taken["message"]
    assert f"connection={taken['session']} " in taken["message"]
    (failed,) = [line for line in lines if "login failed" in line["message"]]
    (refused,) = [line for line in lines if "refused recipient=" in line["message"]]
    assert refused["client"] == "127.0.0.1"
    assert (refused["recipient"], refused["code"]) == ("nobody@example.test", 550)
    assert failed["client"] == "127.0.0.1"
    assert {"user", "protocol", "reason"} <= failed.keys()
    sessions = {taken["session"], failed["session"], refused["session"]}
    assert len(sessions) == 3


def test_each_login_is_one_line_of_json_with_user_and_mechanism(one: Watched) -> None:
    with imaplib.IMAP4("127.0.0.1", one.imap) as imap:
        imap.login(USER, PASSWORD)
    pop = poplib.POP3("127.0.0.1", one.pop3)
    pop.user(USER)
    pop.pass_(PASSWORD)
    pop.quit()
    with smtplib.SMTP("127.0.0.1", one.smtp) as client:
        client.login(USER, PASSWORD)
        assert client.mail("ceo@example.com")[0] == 550
    assert one.stop() == 0
    lines: list[dict[str, Any]] = [json.loads(line) for line in one.log().splitlines()]
    logins = [line for line in lines if line["logger"] == "pillarbox.auth"]
    assert [(line["protocol"], line["mechanism"]) for line in logins] == [
        ("imap", "LOGIN"),
        ("pop3", "USER"),
        ("smtp", "PLAIN"),
    ]
    for line in logins:
        assert (line["user"], line["client"], line["tls"]) == (USER, "127.0.0.1", "-")
    (refused,) = [line for line in lines if "refused sender=" in line["message"]]
    assert (refused["user"], refused["sender"]) == (USER, "ceo@example.com")
    assert refused["session"] == logins[-1]["session"]


def test_all_stages_of_a_message_have_its_id(tmp_path: Path) -> None:
    """It comes in one session, cannot be sent, and is deferred by the queue."""
    (closed,) = free_ports(1)
    route = f'[outbound.routes."elsewhere.test"]\nhost = "127.0.0.1:{closed}"\n'
    trusting = '[smtp]\ntrusted_networks = ["127.0.0.1"]\n'
    server = Watched(tmp_path, workers=1, head='log_format = "json"', extra=trusting + route)
    server.start()
    send(server.smtp, "someone@elsewhere.test")
    wait_until(lambda: "deferred until" in server.log())
    queue = server.figures()
    assert value(queue, "pillarbox_queue_messages") == 1
    assert value(queue, "pillarbox_queue_recipients", state="deferred") == 1
    assert value(queue, "pillarbox_queue_attempts_total", result="deferred") == 1
    assert value(queue, "pillarbox_commit_seconds_count", what="queue") > 0
    status = json.loads(server.run("top", "--json").stdout)
    assert status["queue"]["deferred"] == 1
    assert server.stop() == 0
    lines = [json.loads(line) for line in server.log().splitlines()]
    (taken,) = [line for line in lines if line["logger"] == "pillarbox.smtpd"]
    of_message = [line for line in lines if line.get("queue_id") == taken["queue_id"]]
    (deferred,) = [line for line in of_message if "deferred until" in line["message"]]
    assert deferred["to"] == "someone@elsewhere.test"
    assert deferred["attempt"] == 1
    assert deferred["host"] == "127.0.0.1 [127.0.0.1]"
    assert (
        f"451 4.4.1 cannot connect to the configured host 127.0.0.1 [127.0.0.1]:{closed}: "
        in deferred["message"]
    )
    shown = server.run("queue", "show", taken["queue_id"]).stdout
    assert "  last: 127.0.0.1 [127.0.0.1]: 451 4.4.1 cannot connect to the configured host" in shown
    assert "at its name and port in outbound.routes." in shown


# pillarbox top


def test_top_shows_one_picture_where_there_is_no_terminal(two: Watched) -> None:
    send(two.smtp, USER)
    done = two.run("top")
    assert done.returncode == 0, done.stderr
    with smtplib.SMTP("127.0.0.1", two.smtp, timeout=20) as client:
        client.ehlo()
        client.mail("sender@example.org")
        client.rcpt(f"nobody@{DOMAIN}")
    wait_until(lambda: two.status()["totals"]["recipients_refused"] > 0)
    done = two.run("top")
    assert re.search(r"recipients refused +[0-9.]+ +[1-9]", done.stdout)
    for words in ("2 of 2 workers serve", "messages in", "Queue: 0 messages", "five minutes"):
        assert words in done.stdout
    for pid in two.workers():
        assert str(pid) in done.stdout
    assert "\x1b" not in done.stdout
    assert max(map(len, done.stdout.splitlines())) <= 100
    assert two.run("top", "--once").stdout.splitlines()[0].startswith("Pillarbox ")


def test_top_is_one_object_for_programs(two: Watched) -> None:
    report = json.loads(two.run("top", "--json", "--once").stdout)
    assert [worker["serves"] for worker in report["workers"]] == [True, True]
    for worker in report["workers"]:
        assert worker["resident_octets"] > worker["sqlite_octets"] + (1 << 20)
        assert worker["sqlite_octets"] > 0
    assert set(report["queue"]) >= {"active", "deferred", "oldest_s"}
    assert set(report["per_second"]) == set(report["totals"])


def test_top_names_slow_commands_and_who_gave_them(one: Watched) -> None:
    """A client that does not read for a second makes one."""
    body = b"x: y\r\n\r\n" + b"a" * 8_000_000
    with socket.socket() as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        sock.connect(("127.0.0.1", one.imap))
        file = sock.makefile("rwb")
        file.write(b"a LOGIN %b %b\r\n" % (USER.encode(), PASSWORD.encode()))
        file.write(b"b APPEND INBOX {%d+}\r\n%b\r\n" % (len(body), body))
        file.write(b"c SELECT INBOX\r\n")
        file.flush()
        while not file.readline().startswith(b"c OK"):
            pass
        file.write(b"d FETCH 1 BODY[]\r\n")
        file.flush()
        time.sleep(1.0)
        while not file.readline().startswith(b"d OK"):
            pass
    slow = json.loads(one.run("top", "--json").stdout)["slow_commands"]
    fetch = next(command for command in slow if command["command"] == "FETCH")
    assert fetch["protocol"] == "imap"
    assert fetch["account"] == USER
    assert fetch["seconds"] > 0.5
    assert re.search(rf"imap FETCH +\d\.\d+ .*{re.escape(USER)}", one.run("top").stdout)


def top_on_a_terminal(server: Watched) -> tuple[subprocess.Popen[bytes], int]:
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "pillarbox", "top", "--config", server.folder / "pillarbox.toml"],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        env={**os.environ, "TERM": "xterm", "COLUMNS": "120", "LINES": "40"},
        start_new_session=True,
    )
    os.close(theirs)
    return process, ours


def read_until(terminal: int, words: bytes, count: int = 1) -> bytes:
    shown = b""
    end = time.monotonic() + 20
    while shown.count(words) < count:
        assert time.monotonic() < end, shown
        shown += os.read(terminal, 1 << 16)
    return shown


@pytest.mark.parametrize("key", [b"q", b"\x03"])
def test_top_is_live_on_a_terminal_until_q_or_ctrl_c(two: Watched, key: bytes) -> None:
    process, terminal = top_on_a_terminal(two)
    read_until(terminal, b"2 of 2 workers serve", 3)
    if key == b"\x03":
        process.send_signal(signal.SIGINT)
    else:
        os.write(terminal, b"x" + key)
    # It may draw once more, which waits for a reader where the terminal is full.
    end = time.monotonic() + 20
    while process.poll() is None and time.monotonic() < end:
        if select.select([terminal], [], [], 0.05)[0]:
            with suppress(OSError):
                os.read(terminal, 1 << 16)
    assert process.poll() == 0
    os.close(terminal)


def test_top_ends_with_a_line_when_the_server_stops(one: Watched) -> None:
    process, terminal = top_on_a_terminal(one)
    read_until(terminal, b"1 of 1 workers serve")
    assert one.stop() == 0
    shown = read_until(terminal, b"pillarbox: no server runs on ")
    assert b"Traceback" not in shown
    assert process.wait(10) == 1
    os.close(terminal)


@pytest.mark.parametrize("arguments", [("top",), ("top", "--json"), ("top", "--once"), ("status",)])
def test_a_stopped_server_is_one_line(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    done = Watched(tmp_path, workers=1).run(*arguments)
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr == f"pillarbox: no server runs on {tmp_path}/data\n"
