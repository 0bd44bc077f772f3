"""`pillarbox explain` of mail to other hosts: each attempt, the words of the peer, what they mean, and bounces."""

import asyncio
import re
import smtplib
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from command import lines_of, run_explain, stories
from internet import Internet

from pillarbox.app.server import Server
from pillarbox.auth.passwords import hash_password
from pillarbox.config.schema import Config, Dns, Listen, Outbound, Security, Submission
from pillarbox.core.secret import Secret
from pillarbox.outbound.signing import add_keys
from pillarbox.store.directory import Directory
from pillarbox.store.outgoing import OutgoingQueue
from pillarbox.store.outgoing_row import Selection

ANN = "ann@here.example"
CREDENTIALS = hash_password(Secret("password"))


class Rig:
    """A server that sends, and the Internet, on one loop; clients and commands block in threads."""

    def __init__(self, folder: Path, net: Internet) -> None:
        self.net = net
        self.folder = folder
        self.server: Server | None = None
        (folder / "pillarbox.toml").write_text(
            'hostname = "mail.here.example"\ndata_dir = "data"\n'
        )
        (folder / "data").mkdir()
        directory = Directory(folder / "data" / "directory.db", clock=time.time)
        directory.add_domain("here.example")
        directory.add_account(ANN, *CREDENTIALS)
        add_keys(directory, "here.example", int(time.time()))
        directory.add_alias("team@here.example", "friend@example.com")
        directory.add_alias("team@here.example", ANN)
        directory.add_alias("@here.example", ANN)
        directory.add_domain("there.example")
        directory.add_alias("info@there.example", ANN)
        directory.add_alias("info@there.example", "nobody@there.example")
        directory.close()

    async def start(self, submission: Submission | None = None) -> None:
        config = Config(
            hostname="mail.here.example",
            data_dir=str(self.folder / "data"),
            listen=Listen(submission=["127.0.0.1:0"], smtp=["127.0.0.1:0"]),
            dns=Dns(servers=[f"{self.net.dns[0]}:{self.net.dns[1]}"]),
            security=Security(allow_cleartext_login=True),
            outbound=Outbound(mx_port=self.net.port or 25, copy_bounces_to="boss@here.example"),
            submission=submission or Submission(),
        )
        self.server = Server(config, failure_delay_s=0)
        await self.server.start()

    async def stop(self) -> None:
        assert self.server is not None
        await self.server.stop(1)

    def _submit(self, recipients: list[str], text: str) -> str:
        assert self.server is not None
        octets = f"From: {ANN}\r\nSubject: x\r\n\r\n{text}\r\n".encode()
        with smtplib.SMTP(*self.server.addresses["submission"][0]) as client:
            client.login(ANN, "password")
            client.mail(ANN)
            for recipient in recipients:
                client.rcpt(recipient)
            code, said = client.data(octets)
            assert code == 250, said
            return said.split()[-1].decode()

    async def submit(self, *recipients: str, text: str = "hello") -> str:
        """The queue id."""
        return await asyncio.to_thread(self._submit, list(recipients), text)

    async def story(self, what: str, *whats: str, times: int = 1) -> dict[str, Any]:
        """The first story, once all these happened in it."""
        for _ in range(60):
            found = await asyncio.to_thread(stories, self.folder, what)
            happened = [event["what"] for event in found[0]["events"]] if found else []
            if all(happened.count(each) >= times for each in whats):
                return found[0]
            await asyncio.sleep(0.2)
        raise AssertionError((what, whats, found))


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Callable[[Callable[[Rig], Awaitable[None]]], None]]:
    def run(scenario: Callable[[Rig], Awaitable[None]]) -> None:
        async def main() -> None:
            async with Internet() as net:
                rig = Rig(tmp_path, net)
                try:
                    await asyncio.wait_for(scenario(rig), 60)
                finally:
                    await rig.stop()

        asyncio.run(main())

    return run


def test_a_deferral_its_meaning_and_the_delivery_are_told(run) -> None:
    async def scenario(rig: Rig) -> None:
        host = await rig.net.host("mx.example.com", rcpt="450 4.2.0 greylisted, come back later")
        rig.net.mx("example.com", (10, "mx.example.com"))
        await rig.start()
        queue_id = await rig.submit("friend@example.com", text="caf\u00e9")
        story = await rig.story(queue_id, "deferred")
        lines = lines_of(story)
        assert f"login: {ANN} by CRAM-MD5 over smtp from 127.0.0.1" in lines or any(
            line.startswith(f"login: {ANN} by PLAIN over smtp") for line in lines
        )
        assert f"sender: <{ANN}> by {ANN}" in lines
        queued = next(event for event in story["events"] if event["what"] == "queued")
        assert queued["text"] == "for <friend@example.com> by way of example.com"
        assert queued["more"][0] == "made 7-bit"
        assert queued["more"][1].startswith("signed with DKIM: ")
        assert "d=here.example, s=" in queued["more"][1]
        deferred = next(event for event in story["events"] if event["what"] == "deferred")
        assert deferred["text"] == (
            f"<friend@example.com> at mx.example.com [{host.address}], attempt 1:"
            " 450 4.2.0 greylisted, come back later"
        )
        assert "makes strangers wait" in deferred["more"][0]
        assert deferred["more"][1].startswith("to do: Nothing: the next attempts")
        assert deferred["more"][2].startswith("next try 20")
        assert story["now"][0].startswith("in the queue for friend@example.com: next try 20")
        host.script.rcpt = "250 ok"
        queue = OutgoingQueue(rig.folder / "data" / "queue.db", clock=time.time)
        queue.selected.retry(Selection(queue_id=queue_id))
        queue.close()
        story = await rig.story(queue_id, "deferred", "delivered")
        delivered = lines_of(story)[-1]
        assert delivered.startswith("delivered: <friend@example.com> at mx.example.com [")
        assert ", attempt 2: 250 2.0.0 Ok" in delivered
        assert story["now"] == []
        found = await asyncio.to_thread(stories, rig.folder, "FRIEND@example.com")
        assert [one["queue_id"] for one in found] == [queue_id]

    run(scenario)


def test_a_bounce_is_linked_both_ways(run) -> None:
    async def scenario(rig: Rig) -> None:
        await rig.net.host("mx.example.com", rcpt="550 5.1.1 nobody of that name")
        rig.net.mx("example.com", (10, "mx.example.com"))
        await rig.start()
        queue_id = await rig.submit("ghost@example.com")
        story = await rig.story(queue_id, "failed", "bounce")
        failed = next(event for event in story["events"] if event["what"] == "failed")
        assert "550 5.1.1 nobody of that name" in failed["text"]
        assert failed["more"][0] == "There is no such mailbox."
        bounce = next(event for event in story["events"] if event["what"] == "bounce")
        report = bounce["text"].split()[0]
        assert bounce["text"] == f"{report} to <{ANN}>: failed, <ghost@example.com>"
        assert bounce["more"] == [f"pillarbox explain {report}"]
        story = await rig.story(report, "filed", "bounce")
        assert story["title"] == f"{report}, a notice to <{ANN}>"
        assert any(f"about {queue_id}, <ghost@example.com>" in line for line in lines_of(story))
        assert any(line.startswith(f"filed: in INBOX of {ANN}") for line in lines_of(story))

    run(scenario)


def test_hosts_that_do_not_answer_are_told_before_the_one_that_does(run) -> None:
    async def scenario(rig: Rig) -> None:
        first = await rig.net.host("mail1.example.com")
        await rig.net.host("mail2.example.com")
        rig.net.mx("example.com", (10, "mail1.example.com"), (20, "mail2.example.com"))
        first.stop()
        await rig.start()
        queue_id = await rig.submit("friend@example.com")
        story = await rig.story(queue_id, "no session", "delivered")
        lines = lines_of(story)
        assert lines[-2].startswith("no session: mail1.example.com [")
        said = rf"cannot connect to mail1\.example\.com \[[\d.]+\]:{rig.net.port}: "
        assert re.search(said, lines[-2])
        assert "mail2.example.com" in lines[-1]

    run(scenario)


def test_an_alias_to_both_worlds_shows_where_it_leads(run) -> None:
    async def scenario(rig: Rig) -> None:
        await rig.net.host("mx.example.com")
        rig.net.mx("example.com", (10, "mx.example.com"))
        await rig.start()
        queue_id = await rig.submit("team@here.example")
        story = await rig.story(queue_id, "delivered", "filed")
        (recipient,) = [line for line in lines_of(story) if line.startswith("recipient: ")]
        assert recipient == (
            f"recipient: <team@here.example>, which leads to <{ANN}>, <friend@example.com> by an alias"
        )

    run(scenario)


def test_a_target_of_an_alias_that_nobody_has_is_told(run) -> None:
    async def scenario(rig: Rig) -> None:
        await rig.start()
        queue_id = await rig.submit("info@there.example")
        story = await rig.story(queue_id, "filed")
        (recipient,) = [one for one in story["events"] if one["what"] == "recipient"]
        assert recipient["text"] == f"<info@there.example>, which leads to <{ANN}> by an alias"
        assert recipient["more"] == [
            "and to <nobody@there.example>, which nobody has: no copy goes there"
        ]

    run(scenario)


def test_a_catch_all_is_told_from_an_alias_and_a_tag(run) -> None:
    async def scenario(rig: Rig) -> None:
        await rig.start()
        queue_id = await rig.submit("Anybody@here.example")
        story = await rig.story(queue_id, "filed")
        assert (
            f"recipient: <Anybody@here.example>, which leads to <{ANN}>"
            " by the catch-all @here.example" in lines_of(story)
        )
        queue_id = await rig.submit("ann+tag@here.example")
        story = await rig.story(queue_id, "filed")
        assert "recipient: <ann+tag@here.example>" in lines_of(story)

    run(scenario)


def test_what_an_administrator_removed_from_the_queue_is_told(run) -> None:
    async def scenario(rig: Rig) -> None:
        rig.net.mx("example.com", (10, "mx.example.com"))
        await rig.start(Submission(recipients_per_hour=1))
        await rig.submit("one@example.com")
        queue_id = await rig.submit("two@example.com", "three@example.com")
        await rig.story(queue_id, "queued")
        command = [sys.executable, "-m", "pillarbox", "queue", "remove", "--yes", "--id", queue_id]
        config = str(rig.folder / "pillarbox.toml")
        done = await asyncio.to_thread(
            subprocess.run, [*command, "--config", config], capture_output=True, text=True
        )
        assert (done.returncode, done.stdout, done.stderr) == (0, "2 recipients removed.\n", "")
        path = rig.folder / "data" / "trace-0.db"
        assert path.stat().st_mode & 0o777 == 0o600
        for what in (queue_id, "two@example.com"):
            story = await rig.story(what, "removed")
            removed = story["events"][-1]
            assert sorted(removed["text"].removeprefix("from the queue: ").split(", ")) == [
                "<three@example.com>",
                "<two@example.com>",
            ]
            assert removed["more"] == [
                "by pillarbox queue remove: they get nothing, and the sender is not told"
            ]
            assert story["now"] == []

    run(scenario)


def test_mail_over_the_limit_of_an_account_is_told_to_be_held(run) -> None:
    async def scenario(rig: Rig) -> None:
        rig.net.mx("example.com", (10, "mx.example.com"))
        await rig.start(Submission(recipients_per_hour=1))
        await rig.submit("one@example.com")
        queue_id = await rig.submit("two@example.com")
        story = await rig.story(queue_id, "queued")
        queued = next(event for event in story["events"] if event["what"] == "queued")
        assert queued["more"][-1].startswith(
            "held: over its limit of recipients; see pillarbox queue"
        )
        assert story["now"] == ["in the queue for two@example.com: held"]
        code, out, _ = await asyncio.to_thread(run_explain, rig.folder, queue_id)
        assert code == 0
        assert "in the queue for <two@example.com>, held" in out

    run(scenario)
