"""`pillarbox demo`: a server to play with, on ports of this machine, mostly the same ones, that tells how to use it."""

import shlex
from collections.abc import Iterator
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path

from rich.console import Console

from pillarbox.app.run import run
from pillarbox.app.server import Server
from pillarbox.auth.passwords import hash_password
from pillarbox.config.schema import Config, Listen
from pillarbox.core.secret import Secret
from pillarbox.net.listener import bind
from pillarbox.store import mailboxes
from pillarbox.store.appending import Append
from pillarbox.store.content import make_content
from pillarbox.store.store import Store

DOMAIN = "example.test"
ALICE = f"alice@{DOMAIN}"
BOB = f"bob@{DOMAIN}"
PASSWORD = "pillarbox"
FOLDER = Path("pillarbox-demo")
HOST = "127.0.0.1"
PORTS = {
    "smtp": 2525,
    "submission": 2587,
    "submissions": 2465,
    "imap": 2143,
    "imaps": 2993,
    "pop3": 2110,
    "pop3s": 2995,
}


@dataclass(slots=True)
class Lines:
    """Something to do, and the lines to paste into a shell."""

    what: str
    lines: list[str] = field(default_factory=list)


def run_demo(folder: Path = FOLDER) -> int:
    """Serve until Ctrl-C; returns the exit code. Raises Refused and Unavailable when the server cannot start."""
    folder = folder.resolve()
    listen = Listen(**{service: [f"{HOST}:{port}"] for service, port in free_ports().items()})
    config = Config(f"mail.{DOMAIN}", str(folder), listen=listen)
    return run(config, lambda server: _announce(server, folder), prepare, sends=False)


def free_ports() -> dict[str, int]:
    """PORTS; where another program has one of them, like another demo, the system chooses all."""
    try:
        for port in PORTS.values():
            bind(f"{HOST}:{port}").close()
    except OSError:
        return dict.fromkeys(PORTS, 0)
    return PORTS


async def prepare(store: Store) -> None:
    """At the first start: the domain, the accounts, and mail for alice."""
    directory = store.directory
    if not directory.is_local(DOMAIN):
        directory.add_domain(DOMAIN)
    for address in (ALICE, BOB):
        if directory.account(address) is None:
            directory.add_account(address, *hash_password(Secret(PASSWORD)))
    if not directory.alias_targets(f"postmaster@{DOMAIN}"):
        directory.add_alias(f"postmaster@{DOMAIN}", ALICE)
    alice = directory.known_account(ALICE).id
    inbox = await store.read(alice, lambda tx: mailboxes.by_id(tx, mailboxes.INBOX))
    if inbox.uidnext == 1:  # there never was any
        for octets in demo_mail():
            content = make_content(octets)
            await store.append(alice, Append(inbox.id, content, content.rendered.sent or 0))


def demo_mail() -> Iterator[bytes]:
    """The messages, oldest first."""
    folder = resources.files("pillarbox.app") / "demo_mail"
    for entry in sorted(folder.iterdir(), key=lambda entry: entry.name):
        if entry.name.endswith(".eml"):
            yield entry.read_bytes().replace(b"\n", b"\r\n")


def lines_to_paste(folder: Path, ports: dict[str, int]) -> list[Lines]:
    """Each line works as it stands in a shell; `folder` is the server's data folder."""
    ca = shlex.quote(str(folder / "tls" / "ca.pem"))
    send = f"--from {BOB} --to {ALICE} --header 'Subject: Hello' --body 'Sent with swaks.'"
    user = f"--user {ALICE}:{PASSWORD}"
    typed = (
        f"'a1 LOGIN {ALICE} {PASSWORD}' 'a2 SELECT INBOX' 'a3 FETCH 1:* (FLAGS ENVELOPE)'"
        " 'a4 LOGOUT'"
    )
    return [
        Lines(
            "Send a message to alice, as bob",
            [
                f"swaks --server {HOST}:{ports['submission']} --tls --auth-user {BOB}"
                f" --auth-password {PASSWORD} {send}",
                f"printf 'From: {BOB}\\nTo: {ALICE}\\nSubject: Hello again\\n\\nSent with curl.\\n'"
                f" | curl -sS --crlf --cacert {ca} --user {BOB}:{PASSWORD} --mail-from {BOB}"
                f" --mail-rcpt {ALICE} --upload-file - smtps://{HOST}:{ports['submissions']}",
            ],
        ),
        Lines(
            "Send one as another server would, without a login",
            [
                f"swaks --server {HOST}:{ports['smtp']} --from carol@orchards.example --to {ALICE}",
            ],
        ),
        Lines(
            "Read alice's mail: what there is, the first message, her folders",
            [
                f"curl -sS --cacert {ca} {user} imaps://{HOST}:{ports['imaps']}/INBOX"
                " -X 'FETCH 1:* (FLAGS ENVELOPE)'",
                f"curl -sS --cacert {ca} {user} 'imaps://{HOST}:{ports['imaps']}/INBOX;MAILINDEX=1'",
                f"curl -sS --cacert {ca} {user} imaps://{HOST}:{ports['imaps']}/",
            ],
        ),
        Lines(
            "The same by POP3",
            [
                f"curl -sS --cacert {ca} {user} pop3s://{HOST}:{ports['pop3s']}/",
                f"curl -sS --cacert {ca} {user} pop3s://{HOST}:{ports['pop3s']}/1",
            ],
        ),
        Lines(
            "Speak IMAP yourself",
            [
                f"printf '%s\\n' {typed} | openssl s_client -quiet -crlf -CAfile {ca}"
                f" -connect {HOST}:{ports['imaps']}",
                f"openssl s_client -quiet -crlf -CAfile {ca} -starttls imap"
                f" -connect {HOST}:{ports['imap']}",
            ],
        ),
    ]


def _announce(server: Server, folder: Path) -> None:
    ports = {service: addresses[0][1] for service, addresses in server.addresses.items()}
    console = Console(highlight=False, soft_wrap=True)
    console.print(f"[bold]Pillarbox runs.[/] Accounts: {ALICE} and {BOB}, password {PASSWORD}")
    console.print("  ".join(f"{service} {port}" for service, port in ports.items()))
    if ports != PORTS:
        console.print("Another program has one of the usual ports, so all of these are others.")
    console.print(
        f"Its mail is kept in {folder}; mail to other hosts stays there too.", markup=False
    )
    for block in lines_to_paste(folder, ports):
        console.print(f"\n[bold]{block.what}[/]")
        for line in block.lines:
            console.print(line, markup=False)
    console.print("\nCtrl-C stops it.\n")
