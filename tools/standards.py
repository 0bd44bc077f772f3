"""The page of what the server announces, and how far each RFC goes.

It is made from the tables of the protocols and docs/rfc/index.tsv.
"""

from types import SimpleNamespace
from typing import cast

from pillarbox.imap.table import State
from pillarbox.imapd.capabilities import capabilities
from pillarbox.imapd.context import ImapContext
from pillarbox.pop3 import capabilities as pop3
from pillarbox.pop3.options import ServerOptions as Pop3Options
from pillarbox.sasl.mechanisms import MECHANISMS
from pillarbox.smtp import extensions as smtp
from pillarbox.smtp.options import ServerOptions as SmtpOptions
from rfcs import STATUSES, read_index

HEAD = """# Standards

Made by `python tools/reference.py --write` from the tables of the protocols and `docs/rfc/index.tsv`.
[compat.md](../compat.md) says what is done in another way, and why.

"""


def announced() -> dict[str, list[str]]:
    """What clients see under TLS, by protocol and state."""
    passwords = tuple(
        name for name in MECHANISMS if name not in ("EXTERNAL", "OAUTHBEARER", "XOAUTH2")
    )
    submission = SmtpOptions("mail.example.org", 10_240_000, starttls=True, mechanisms=passwords)
    stranger = SmtpOptions("mail.example.org", 10_240_000, starttls=True)
    imap = cast(
        ImapContext,
        SimpleNamespace(literal_minus=False, max_message_size=10_240_000, unauthenticate=True),
    )

    def words(state: State) -> list[str]:
        names = capabilities(state, imap, tls=True, mechanisms=passwords)
        return [name.decode("ascii") for name in names]

    mail = pop3.Situation(Pop3Options(), tls=True, logged_in=False, mechanisms=passwords)
    return {
        "SMTP, port 25, without TLS": smtp.ehlo_lines(smtp.Situation(stranger, tls=False)),
        "SMTP, submission (587, 465), under TLS": smtp.ehlo_lines(
            smtp.Situation(submission, tls=True, mechanisms=passwords)
        ),
        "IMAP, before login": words(State.NOT_AUTHENTICATED),
        "IMAP, after login": words(State.AUTHENTICATED),
        "POP3": [line.decode("ascii").strip() for line in pop3.capability_lines(mail)],
    }


def page() -> str:
    """In Markdown."""
    text = (
        HEAD
        + "## What is announced\n\nAs a client sees it where nothing of this is configured otherwise:\n"
    )
    for title, lines in announced().items():
        text += f"\n**{title}**: {', '.join(f'`{line}`' for line in lines)}\n"
    text += f"\nWays to log in: {', '.join(f'`{name}`' for name in MECHANISMS)}.\n"
    text += "`EXTERNAL` is there for a client with a certificate that `[tls] client_ca` signed,\n"
    text += "`OAUTHBEARER` and `XOAUTH2` with `[oauth]`.\n"
    text += "\n## RFCs\n\n"
    text += "".join(f"- {status}: {meaning}\n" for status, meaning in STATUSES.items())
    text += "\n| RFC | what | how far |\n| ---: | --- | --- |\n"
    rows, _ = read_index()
    for row in rows:
        link = f"[{row.number}](https://www.rfc-editor.org/rfc/rfc{row.number})"
        text += f"| {link} | {row.title} | {row.status} |\n"
    return text
