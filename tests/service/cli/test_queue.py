"""`pillarbox queue` and `pillarbox mx`: what they do, print and return, also beside a running server."""

import asyncio
import json
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from threading import Event, Thread

import pytest
from tests.commands import Run, runner

sys.path.insert(0, str(Path(__file__).parents[1] / "queue"))

from internet import Internet

from pillarbox.app.server import Server
from pillarbox.config.schema import Config, Dns, Listen, Outbound
from pillarbox.store.outgoing import OutgoingQueue
from pillarbox.store.outgoing_row import OutgoingMessage, OutgoingRecipient, Row, Selection

CHANGES = ("retry", "hold", "release", "remove")


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs a command in a folder with a configuration: (exit code, stdout, stderr)."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("PILLARBOX_CONFIG", raising=False)
    Path("pillarbox.toml").write_text('hostname = "mail.example.org"\ndata_dir = "data"\n')
    Path("data").mkdir()

    return runner(monkeypatch, capsys)


@pytest.fixture
def queue(run: Run) -> Iterator[OutgoingQueue]:
    """Two messages: A of ann to two domains, refused for now; B of bob, four hours old."""
    now = time.time()
    opened = OutgoingQueue(Path("data/queue.db"), clock=lambda: now)

    async def fill() -> None:
        nonlocal now
        await put(opened, "A", "ann@example.org", "x@one.example", "y@two.example")
        for rows in await opened.lease("w", 60, limit=9):
            reply = "450 4.2.0 Greylisted\nsee \x9b2J http://example"
            await opened.defer("w", rows, int(now) + 3000, "mx.example [192.0.2.1]", reply)
        now -= 4 * 3600
        await put(opened, "B", "bob@example.org", "x@one.example")
        now += 4 * 3600

    asyncio.run(fill())
    yield opened
    opened.close()


async def put(queue: OutgoingQueue, queue_id: str, sender: str, *recipients: str) -> None:
    message = OutgoingMessage(queue_id, sender, b"Subject: x\r\n\r\nhello\r\n")
    rows = [OutgoingRecipient(one, one.partition("@")[2]) for one in recipients]
    await queue.enqueue(message, rows, lifetime_s=86400, warn_after_s=0)


def listed(run: Run, *arguments: str) -> list[tuple[str, str]]:
    code, out, _ = run("queue", "list", "--json", *arguments)
    assert code == 0
    return [(one["queue_id"], one["recipient"]) for one in json.loads(out)]


def test_without_a_queue_each_command_says_so(run: Run) -> None:
    for command in (["list"], ["show", "X"], ["retry", "--all"], ["remove", "--all", "--yes"]):
        code, out, err = run("queue", *command)
        assert (code, out) == (1, "")
        assert err.startswith("pillarbox: there is no queue yet: ")
        assert err.count("\n") == 1


def test_the_list_has_a_line_for_each_recipient(
    run: Run, queue: OutgoingQueue, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "300")
    code, out, _ = run("queue", "list")
    assert code == 0
    assert len(out.splitlines()) == 4
    assert "\x9b" not in out
    assert "450 4.2.0 Greylisted see" in out


def test_a_long_list_comes_in_plain_lines_and_as_json(run: Run, queue: OutgoingQueue) -> None:
    def work(connection) -> None:
        connection.execute(
            "WITH RECURSIVE n(value) AS (SELECT 1 UNION ALL SELECT value + 1 FROM n WHERE value < 500)"
            " INSERT INTO outgoing SELECT message, value || '@many.example', 'many.example', notify, orcpt, held,"
            " attempts, next_try, expires, warn_at, owner, sending, host, reply"
            " FROM outgoing, n WHERE recipient ="
            " (SELECT recipient FROM outgoing LIMIT 1)"
        )

    queue.write_now(work)
    code, out, _ = run("queue", "list", "--domain", "many.example")
    head, *lines = out.splitlines()
    assert code == 0
    assert head.split()[:2] == ["queue", "id"]
    assert len(lines) == 1000  # of two messages
    assert {line.index("@many.example") // 100 for line in lines} == {0}
    assert len(listed(run, "--domain", "many.example")) == 1000


def test_the_list_in_json_has_numbers_and_whole_replies(run: Run, queue: OutgoingQueue) -> None:
    first = json.loads(run("queue", "list", "--json", "--id", "A")[1])[0]
    assert first["sender"] == "ann@example.org"
    assert first["state"] == "waiting"
    assert first["attempts"] == 1
    assert isinstance(first["next_try"], int)
    assert first["reply"].endswith("http://example")


@pytest.mark.parametrize(
    ("arguments", "found"),
    [
        ((), ["A", "A", "B"]),
        (("--id", "B"), ["B"]),
        (("--address", "ANN@example.org"), ["A", "A"]),
        (("--address", "x@one.example"), ["A", "B"]),
        (("--domain", "TWO.example"), ["A"]),
        (("--domain", "%"), []),
        (("--older-than", "3h"), ["B"]),
        (("--older-than", "5h"), []),
        (("--older-than", "3h", "--domain", "two.example"), []),
    ],
)
def test_filters(
    run: Run, queue: OutgoingQueue, arguments: tuple[str, ...], found: list[str]
) -> None:
    assert sorted(queue_id for queue_id, _ in listed(run, *arguments)) == found


def test_show_tells_what_was_said_and_what_to_do(run: Run, queue: OutgoingQueue) -> None:
    code, out, _ = run("queue", "show", "A")
    assert code == 0
    assert "A from <ann@example.org>, 21 octets" in out
    assert "to <x@one.example>: waiting, 1 attempt" in out
    assert "that means: The receiving server makes strangers wait" in out
    assert "\x9b" not in out


def test_show_of_what_is_not_there(run: Run, queue: OutgoingQueue) -> None:
    assert run("queue", "show", "Z") == (
        1,
        "",
        "pillarbox: the queue has no message Z (any more); see: pillarbox explain Z\n",
    )


@pytest.mark.parametrize("command", CHANGES)
def test_a_change_must_say_what_it_means(run: Run, queue: OutgoingQueue, command: str) -> None:
    extra = ["--yes"] if command == "remove" else []
    code, out, err = run("queue", command, *extra)
    assert (code, out) == (2, "")
    assert "--all" in err


@pytest.mark.parametrize("command", CHANGES)
def test_a_change_of_nothing_is_refused(run: Run, queue: OutgoingQueue, command: str) -> None:
    extra = ["--yes"] if command == "remove" else []
    refused = (1, "", "pillarbox: the queue has no such mail\n")
    assert run("queue", command, "--id", "Z", *extra) == refused
    assert len(listed(run)) == 3


@pytest.mark.parametrize("age", ["", "4", "h", "-1h", "1w", "1.5h"])
def test_an_age_that_is_none_is_a_usage_error(run: Run, queue: OutgoingQueue, age: str) -> None:
    code, out, err = run("queue", "list", "--older-than", age)
    assert (code, out) == (2, "")
    assert "90m" in err


def test_hold_and_release(run: Run, queue: OutgoingQueue) -> None:
    assert run("queue", "hold", "--id", "A") == (0, "2 recipients held.\n", "")
    assert {row.held for row in queue.selected.rows(Selection("A"))} == {1}
    assert run("queue", "hold", "--id", "A")[2] == "pillarbox: nothing to do: it is held already\n"
    assert run("queue", "retry", "--id", "A") == (
        1,
        "",
        "pillarbox: nothing to do: it is being sent, or is held (pillarbox queue release lets it go)\n",
    )
    assert run("queue", "release", "--all") == (0, "2 recipients released.\n", "")
    assert {row.held for row in queue.selected.rows(Selection())} == {0}
    assert run("queue", "release", "--all")[2] == "pillarbox: nothing to do: it is not held\n"


def test_sendmail_q_retries_the_queue(run: Run, queue: OutgoingQueue) -> None:
    """As cron jobs of long ago call it; nothing is sent, also not what stands on standard input."""
    for options in (("-q",), ("-qf",), ("-q5m", "-v")):
        assert run("sendmail", *options, typed="x") == (0, "", "")
    assert "x@one.example" in run("queue", "list", "--id", "A")[1]
    assert all("now" in line for line in run("queue", "list")[1].splitlines()[1:])
    assert not Path("data/drop").exists()


def test_retry_makes_due(run: Run, queue: OutgoingQueue) -> None:
    assert run("queue", "retry", "--domain", "two.example") == (
        0,
        "1 recipient will be tried now.\n",
        "",
    )
    assert "now" in run("queue", "list", "--domain", "two.example")[1]


def test_remove_asks_and_drops_the_message_with_its_last_recipient(
    run: Run, queue: OutgoingQueue
) -> None:
    assert run("queue", "remove", "--id", "A", "--domain", "two.example", "--yes")[0] == 0
    assert queue.count() == (2, 2)
    assert run("queue", "remove", "--all", "--yes") == (0, "2 recipients removed.\n", "")
    assert queue.count() == (0, 0)
    assert run("queue", "remove", "--all")[2] == "pillarbox: the queue is empty\n"


def test_remove_says_how_much_it_is_and_needs_somebody_to_ask(
    run: Run, queue: OutgoingQueue
) -> None:
    code, out, err = run("queue", "remove", "--all")
    assert (code, out) == (1, "")
    assert err == "pillarbox: there is no terminal to ask whether you mean it; use --yes\n"
    assert "the queue has no such mail" in run("queue", "remove", "--id", "NONE")[2]
    assert queue.count() == (2, 3)


@pytest.mark.parametrize(
    ("typed", "meant"), [("explian", "explain"), ("statsu", "status"), ("quue", "queue")]
)
def test_a_command_that_is_not_there_names_one_like_it(run: Run, typed: str, meant: str) -> None:
    code, _, err = run(typed, "list")
    assert code == 2
    assert f"No such command '{typed}'. Did you mean '{meant}'?" in err


def test_no_summary_of_a_command_is_cut(run: Run) -> None:
    groups = (
        *("account", "alias", "ban", "config", "dns", "domain", "identity", "queue"),
        *("throttle", "tls"),
    )
    for group in ((), *((name,) for name in groups)):
        _, out, _ = run(*group, "--help")
        assert not [
            line for line in out.splitlines() if line.endswith("...") and "ARGS" not in line
        ]


def test_help_has_an_example(run: Run) -> None:
    for command in (["queue"], ["queue", "list"], *(["queue", one] for one in CHANGES), ["mx"]):
        code, out, _ = run(*command, "--help")
        assert code == 0
        assert "Example: pillarbox" in out


# Beside a server, and with the DNS


def test_commands_beside_a_running_server(tmp_path: Path, run: Run) -> None:
    async def wait_for(condition: Callable[[], bool], seconds: float) -> None:
        end = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < end
            await asyncio.sleep(0.02)

    async def scenario() -> None:
        async with Internet() as net:
            host = await net.host("mx.one.example", greeting="421 4.3.2 not now")
            net.mx("one.example", (10, "mx.one.example"))
            config = Config(
                hostname="mail.example.org",
                data_dir=str(tmp_path / "data"),
                listen=Listen(),
                dns=Dns(servers=[f"{net.dns[0]}:{net.dns[1]}"]),
                outbound=Outbound(mx_port=net.port),
            )
            server = Server(config)
            await server.start()
            queue = OutgoingQueue(tmp_path / "data" / "queue.db", clock=time.time)
            try:
                await put(queue, "A", "", "x@one.example", "y@one.example")
                rows: list[Row] = []

                def tried() -> bool:
                    rows[:] = queue.selected.rows(Selection())
                    return all(row.attempts == 1 for row in rows)

                await wait_for(tried, 3)  # seen without a hint
                assert run("queue", "hold", "--address", "y@one.example")[0] == 0
                host.script.greeting = "220 welcome"
                assert run("queue", "retry", "--all")[0] == 0  # the destination is given a rest
                await wait_for(lambda: bool(host.received), 2)
                assert host.received[0].recipients == ["x@one.example"]
                assert run("queue", "release", "--all")[0] == 0
                await wait_for(lambda: len(host.received) == 2, 2.5)
                await wait_for(lambda: queue.count() == (0, 0), 2)
            finally:
                queue.close()
                await server.stop(1)

    asyncio.run(scenario())


@pytest.fixture
def zone(run: Run) -> Iterator[Internet]:
    """A DNS server in a thread, that the configuration names."""
    loop = asyncio.new_event_loop()
    made: list[Internet] = []
    ready, over = Event(), asyncio.Event()

    async def serve() -> None:
        async with Internet() as net:
            made.append(net)
            ready.set()
            await over.wait()

    thread = Thread(target=loop.run_until_complete, args=(serve(),))
    thread.start()
    assert ready.wait(5)
    with Path("pillarbox.toml").open("a") as file:
        file.write(f'[dns]\nservers = ["{made[0].dns[0]}:{made[0].dns[1]}"]\n')
    yield made[0]
    loop.call_soon_threadsafe(over.set)
    thread.join(5)
    loop.close()


def test_mx_shows_hosts_in_the_order_of_their_trial(run: Run, zone: Internet) -> None:
    zone.mx("one.example", (20, "b.one.example"), (10, "a.one.example"), (30, "mail.example.org"))
    zone.zone["a.one.example", "A"] = ["192.0.2.1"]
    zone.zone["b.one.example", "A"] = ["192.0.2.2"]
    zone.zone["mail.example.org", "A"] = ["192.0.2.3"]
    code, out, err = run("mx", "One.Example", "--json")
    assert (code, err) == (0, "")
    shown = [(one["try"], one["host"], one["note"]) for one in json.loads(out)]
    assert shown == [
        (1, "a.one.example", ""),
        (2, "b.one.example", ""),
        ("-", "mail.example.org", "it is this host"),
    ]
    assert len(run("mx", "one.example")[1].splitlines()) == 4


@pytest.mark.parametrize(
    ("domain", "records", "words"),
    [
        ("null.example", ["0 ."], "goes back to its sender (556 5.1.10)"),
        ("gone.example", None, "goes back to its sender (550 5.1.2)"),
        ("broken.example", "SERVFAIL", "waits, and is tried again (451 4.4.3)"),
        ("own.example", ["5 mail.example.org."], "goes back to its sender (554 5.4.6)"),
    ],
)
def test_mx_of_a_domain_without_a_way(
    run: Run, zone: Internet, domain: str, records: list[str] | str | None, words: str
) -> None:
    if records is not None:
        zone.zone[domain, "MX"] = records
    code, _, err = run("mx", domain)
    assert code == 1
    assert err.startswith("pillarbox: ")
    assert err.endswith(f": mail for it {words}\n")
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ("not a domain", '"not a domain" is no domain name'),
        ("kim@gone.example", "give its domain, gone.example"),
    ],
)
def test_mx_of_what_is_no_domain_is_wrong_usage(run: Run, given: str, words: str) -> None:
    code, _, err = run("mx", given)
    assert code == 2
    assert words in err


@pytest.mark.parametrize("command", ["list", "retry", "hold", "release", "remove"])
@pytest.mark.parametrize(
    ("given", "option"),
    [("02H35N444BPXZQGY", "--id"), ("x@one.example", "--address"), ("one.example", "--domain")],
)
def test_what_is_given_without_its_option_is_told_with_it(
    run: Run, command: str, given: str, option: str
) -> None:
    code, _, err = run("queue", command, given)
    assert code == 2
    assert f"Did you mean {option} {given}?" in err


def test_mx_shows_what_the_configuration_says_before_the_dns(
    run: Run, zone: Internet, tmp_path: Path
) -> None:
    zone.zone["relay.example", "A"] = ["192.0.2.7", "192.0.2.8"]
    zone.mx("direct.example", (10, "mx.direct.example"))
    zone.zone["mx.direct.example", "A"] = ["192.0.2.9"]
    path = tmp_path / "pillarbox.toml"
    path.write_text(
        path.read_text()
        + '[outbound]\nsmarthost = "gone.example:587"\n[outbound.routes]\n'
        + '"*.lists.example" = {host = "relay.example:24", protocol = "lmtp"}\n'
        + '"direct.example" = {tls = "verified"}\n'
    )
    code, out, err = run("mx", "a.Lists.example", "--json")
    assert code == 0
    assert "*.lists.example goes to relay.example:24 by LMTP" in err
    assert {row["addresses"] for row in json.loads(out)} == {"192.0.2.7", "192.0.2.8"}
    code, out, err = run("mx", "direct.example")
    assert (code, "192.0.2.9" in out) == (0, True)
    assert "as the DNS says by SMTP, as configured. TLS: always, verified." in err
    code, _, err = run("mx", "any.example")
    assert code == 1
    assert "All other mail goes to gone.example:587" in err
    assert "gone.example has no address" in err


def test_mx_of_a_domain_of_ours_is_here(run: Run, zone: Internet) -> None:
    assert run("domain", "add", "ours.example")[0] == 0
    code, out, err = run("mx", "Ours.example", "--json")
    assert (code, json.loads(out)) == (0, [])
    assert "delivered here" in err


def test_mx_without_a_domain_is_a_usage_error(run: Run) -> None:
    assert run("mx")[0] == 2


def test_a_message_is_shown_as_json(run: Run, queue: OutgoingQueue) -> None:
    shown = json.loads(run("queue", "--config", "pillarbox.toml", "show", "A", "--json")[1])
    assert shown["sender"] == "ann@example.org"
    assert [one["recipient"] for one in shown["recipients"]] == ["x@one.example", "y@two.example"]
    assert shown["recipients"][0]["attempts"] == 1
    assert "Greylisted" in shown["recipients"][0]["reply"]
    assert shown["recipients"][0]["what_to_do"]


def test_whoever_means_nothing_is_asked_nothing(run: Run, queue: OutgoingQueue) -> None:
    code, _, err = run("queue", "remove")
    assert code == 2
    assert "say which" in err
    assert "Delete" not in err


def test_what_is_being_sent_is_not_nothing(run: Run, queue: OutgoingQueue) -> None:
    asyncio.run(queue.lease("w", 60, limit=9))
    code, _, err = run("queue", "retry", "--id", "B")
    assert code == 1
    assert "is being sent" in err
