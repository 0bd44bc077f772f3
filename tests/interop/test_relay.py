"""Two Pillarboxes, a Postfix and Postfix's smtp-sink and smtp-source exchange mail by MX records, on loopback.

The DNS server is dnsmasq.
"""

import asyncio
import itertools
import os
import pwd
import re
import shutil
import smtplib
import time
from collections import Counter
from collections.abc import Iterator
from email.message import EmailMessage
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from pillarbox.app.server import Server
from pillarbox.auth.passwords import hash_password
from pillarbox.config.schema import Config, Dns, Listen, Outbound, Security
from pillarbox.core.secret import Secret
from pillarbox.store import messages
from pillarbox.store.directory import Directory
from pillarbox.store.outgoing import OutgoingQueue
from pillarbox.store.outgoing_row import Selection

PASSWORD = "Pass word 7"
PORT = 12625
NEEDED = ("postfix", "smtp-sink", "smtp-source", "unshare", "dnsmasq")

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(os.getuid() != 0, reason="Postfix needs root, and port 53 too"),
    pytest.mark.skipif(
        any(shutil.which(name) is None for name in NEEDED),
        reason="Postfix or dnsmasq is not installed",
    ),
]


_subnets = itertools.count(1)


class Net:
    """A loopback network of its own, and its DNS server: dnsmasq, which knows just what it is told."""

    def __init__(self) -> None:
        subnet = f"127.{220 + (os.getpid() + next(_subnets)) % 30}.{os.getpid() % 250}"
        self.at = [f"{subnet}.{number + 1}" for number in range(20)]
        self.dns = self.at[5]
        self._records: list[str] = []
        self._process: asyncio.subprocess.Process | None = None

    def host(self, name: str, address: str) -> None:
        self._records.append(f"--host-record={name},{address}")

    def mx(self, domain: str, *hosts: tuple[int, str]) -> None:
        self._records += [f"--mx-host={domain},{host},{preference}" for preference, host in hosts]

    async def start(self) -> None:
        self._process = await asyncio.create_subprocess_exec(
            *("dnsmasq", "--keep-in-foreground", "--conf-file=/dev/null", "--pid-file="),
            *("--no-resolv", "--no-hosts", "--bind-interfaces", f"--listen-address={self.dns}"),
            *("--user=root", "--local=//", *self._records),
        )
        loop = asyncio.get_running_loop()
        for _ in range(100):
            try:
                _, writer = await asyncio.open_connection(self.dns, 53)
            except OSError:
                await asyncio.sleep(0.05)
            else:
                writer.close()
                return
        raise AssertionError(f"dnsmasq does not answer after {loop.time()} s")

    async def stop(self) -> None:
        if self._process is not None:
            self._process.terminate()
            await self._process.wait()


class Pillarbox:
    """A server on an address of its own, for the domain that it gets."""

    def __init__(self, folder: Path, net: Net, address: str, name: str, user: str) -> None:
        self.folder = folder
        self.user = user
        folder.mkdir()
        directory = Directory(folder / "directory.db", clock=time.time)
        directory.add_domain(user.partition("@")[2])
        directory.add_account(user, *hash_password(Secret(PASSWORD)))
        directory.close()
        self.config = Config(
            hostname=name,
            data_dir=str(folder),
            listen=Listen(smtp=[f"{address}:{PORT}"], submission=[f"{address}:{PORT + 1}"]),
            dns=Dns(servers=[f"{net.dns}:53"]),
            security=Security(allow_cleartext_login=True),
            outbound=Outbound(mx_port=PORT),
        )
        self.server: Server | None = None

    async def start(self) -> None:
        self.server = Server(self.config, failure_delay_s=0)
        await self.server.start()

    async def stop(self) -> None:
        if self.server is not None:
            server, self.server = self.server, None
            await server.stop(1)

    async def submit(self, to: str, numbers: range) -> None:
        await asyncio.to_thread(self._submit, to, numbers)

    def _submit(self, to: str, numbers: range) -> None:
        host, _, port = self.config.listen.submission[0].rpartition(":")
        with smtplib.SMTP(host, int(port)) as client:
            client.login(self.user, PASSWORD)
            for number in numbers:
                message = EmailMessage()
                message["From"], message["To"] = self.user, to
                message["Subject"] = f"number {number}"
                message.set_content(".dot\n..dots\nlast\n")
                client.send_message(message)

    async def until_sent(self) -> None:
        """Until the queue is empty; what was deferred is tried again at once."""
        queue = OutgoingQueue(self.folder / "queue.db", clock=time.time)
        try:
            for _ in range(100):
                if queue.count() == (0, 0):
                    return
                if any(row.attempts and not row.owner for row in queue.selected.rows(Selection())):
                    queue.selected.retry(Selection())
                await asyncio.sleep(0.1)
            raise AssertionError(queue.selected.rows(Selection()))
        finally:
            queue.close()

    async def inbox(self) -> list[bytes]:
        assert self.server is not None
        assert self.server.store is not None
        store = self.server.store

        def work(tx):
            rows = messages.select(tx, 1, [(1, messages.MOST_UIDS)], ("header", "content", "size"))
            return [header + messages.body(tx, content, 0, size) for header, content, size in rows]

        return await store.read(store.directory.known_account(self.user).id, work)


class Postfix:
    """From Debian, in a folder of its own, with the DNS of the test in a mount namespace of its own."""

    def __init__(self, folder: Path, address: str, dns: str, domain: str) -> None:
        self.folder = folder
        mail = pwd.getpwnam("mail")
        postfix = pwd.getpwnam("postfix")
        for name, owner in (
            ("conf", 0),
            ("spool", 0),
            ("data", postfix.pw_uid),
            ("mail", mail.pw_uid),
        ):
            (folder / name).mkdir()
            os.chown(folder / name, owner, -1)
        (folder / "resolv.conf").write_text(f"nameserver {dns}\n")
        (folder / "conf/mailboxes").write_text(f"user@{domain} user/\n")
        (folder / "conf/main.cf").write_text(f"""
compatibility_level = 3.6
queue_directory = {folder}/spool
data_directory = {folder}/data
maillog_file = {folder}/postfix.log
maillog_file_prefixes = {folder}
myhostname = pf.{domain}
mydestination =
inet_interfaces = loopback-only
inet_protocols = ipv4
mynetworks = 127.0.0.0/8
smtp_tcp_port = {PORT}
smtp_tls_security_level = may
smtp_host_lookup = dns
virtual_mailbox_domains = {domain}
virtual_mailbox_base = {folder}/mail
virtual_mailbox_maps = texthash:{folder}/conf/mailboxes
virtual_uid_maps = static:{mail.pw_uid}
virtual_gid_maps = static:{mail.pw_gid}
virtual_minimum_uid = 1
alias_maps =
minimal_backoff_time = 1s
maximal_backoff_time = 2s
queue_run_delay = 1s
smtp_connect_timeout = 2s
""")
        lines = []
        for line in Path("/usr/share/postfix/master.cf.dist").read_text().splitlines():
            if line.startswith("smtp      inet"):
                line = f"{address}:{PORT} inet n - n - - smtpd"
            elif line.startswith("postlog   unix-dgram"):
                line = "postlog unix-dgram n - n - 1 postlogd"
            elif line and line[0].isalpha() and len(fields := line.split(None, 7)) == 8:
                fields[4] = "n"  # no chroot
                line = " ".join(fields)
            lines.append(line)
        (folder / "conf/master.cf").write_text("\n".join(lines) + "\n")

    async def start(self) -> None:
        inside = (
            f"mount --bind {self.folder}/resolv.conf /etc/resolv.conf"
            f" && exec postfix -c {self.folder}/conf start"
        )
        await self._run("unshare", "--mount", "sh", "-c", inside)

    async def stop(self) -> None:
        await self._run("postfix", "-c", str(self.folder / "conf"), "stop")

    async def _run(self, *command: str) -> None:
        with (self.folder / "commands.log").open("ab") as log:
            process = await asyncio.create_subprocess_exec(*command, stdout=log, stderr=log)
            code = await process.wait()
        assert code == 0, (self.folder / "commands.log").read_text()

    def inbox(self) -> list[bytes]:
        return [path.read_bytes() for path in (self.folder / "mail/user/new").glob("*")]


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that Postfix's own users can pass, unlike those of pytest."""
    with TemporaryDirectory(prefix="pillarbox-postfix-") as name:
        Path(name).chmod(0o755)
        yield Path(name)


def numbers(mails: list[bytes]) -> Counter[int]:
    found = [re.search(rb"^Subject: number (\d+)\r?$", mail, re.MULTILINE) for mail in mails]
    return Counter(int(match[1]) for match in found if match)


async def wait_for_count(mails, count: int) -> list[bytes]:
    for _ in range(100):
        found = await mails()
        if len(found) >= count:
            return found
        await asyncio.sleep(0.1)
    raise AssertionError(len(await mails()))


def test_mail_by_three_priorities_arrives_once_while_hosts_stop_and_start(
    tmp_path: Path, open_folder: Path
) -> None:
    """The first two records are those of the seed's `dig +short MX example.com`."""

    async def main() -> None:
        net = Net()
        at = net.at
        names = ("mail1.example.com", "mail2.example.com", "mail-backup.example.com")
        net.mx("example.com", *zip((10, 20, 30), names, strict=True))
        for number, name in enumerate(names, 1):
            net.host(name, at[number])
        user = "user@example.com"
        sender = Pillarbox(tmp_path / "s", net, at[4], "s.back", "ann@back.example")
        first = Pillarbox(tmp_path / "a", net, at[1], names[0], user)
        last = Pillarbox(tmp_path / "b", net, at[3], names[2], user)
        postfix = Postfix(open_folder, at[2], net.dns, "example.com")
        await net.start()
        try:
            for host in (sender, first, postfix, last):
                await host.start()
            await sender.submit(user, range(10))
            await sender.until_sent()
            await first.stop()
            await sender.submit(user, range(10, 20))
            await sender.until_sent()
            await postfix.stop()
            await asyncio.sleep(1.1)  # its idle session is given up
            await sender.submit(user, range(20, 30))
            await sender.until_sent()
            await first.start()
            await last.stop()
            await asyncio.sleep(1.1)
            await asyncio.gather(sender.submit(user, range(30, 50)), first.stop(), postfix.start())
            await last.start()
            await first.start()
            await sender.until_sent()
            in_postfix = await wait_for_count(lambda: asyncio.to_thread(postfix.inbox), 10)
            per_host = [
                numbers(await first.inbox()),
                numbers(in_postfix),
                numbers(await last.inbox()),
            ]
            assert sum(per_host, Counter()) == Counter(range(50))
            for count, low in zip(per_host, (0, 10, 20), strict=True):
                assert set(range(low, low + 10)) <= set(count)
        finally:
            for host in (sender, first, last):
                await host.stop()
            await postfix.stop()
            await net.stop()

    asyncio.run(main())


def test_postfix_and_its_tools_send_and_take(tmp_path: Path, open_folder: Path) -> None:
    async def main() -> None:
        net = Net()
        at = net.at
        net.mx("back.example", (10, "down.back"), (20, "gone.back"), (30, "s.back"))
        net.mx("sink.example", (10, "down.back"), (20, "sink.sink"))
        for name, number in (
            ("down.back", 8),
            ("gone.back", 9),
            ("s.back", 4),
            ("sink.sink", 6),
        ):
            net.host(name, at[number])
        await net.start()
        pillarbox = Pillarbox(tmp_path / "s", net, at[4], "s.back", "ann@back.example")
        postfix = Postfix(open_folder, at[2], net.dns, "target.example")
        dump = tmp_path / "dump"
        dump.mkdir()
        sink = await asyncio.create_subprocess_exec(
            "smtp-sink", "-u", "root", "-d", f"{dump}/%s.", f"{at[6]}:{PORT}", "100"
        )
        try:
            await pillarbox.start()
            await postfix.start()
            await pillarbox.submit("x@sink.example", range(40))
            source = await asyncio.create_subprocess_exec(
                *("smtp-source", "-s", "4", "-m", "40", "-f", "user@target.example"),
                *("-t", "ann@back.example", f"{at[2]}:{PORT}"),
            )
            assert await source.wait() == 0
            await pillarbox.until_sent()
            dumped = [path.read_bytes() for path in dump.iterdir()]
            assert numbers(dumped) == Counter(range(40))
            got = await wait_for_count(pillarbox.inbox, 40)
            ids = Counter(re.findall(rb"^Message-Id: (\S+)", b"\n".join(got), re.MULTILINE | re.I))
            assert len(got) == len(ids) == 40
        finally:
            sink.terminate()
            await sink.wait()
            await pillarbox.stop()
            await postfix.stop()
            await net.stop()

    asyncio.run(main())
