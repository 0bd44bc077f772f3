"""The root command, and how every failure ends: one line on stderr, exit code 1; 2 for wrong usage."""

import sys

import click

from pillarbox import __version__
from pillarbox.cli.account import account
from pillarbox.cli.alias import alias
from pillarbox.cli.check import check
from pillarbox.cli.common import config_option
from pillarbox.cli.configuration import config
from pillarbox.cli.demo import demo
from pillarbox.cli.dns import dns
from pillarbox.cli.domain import domain
from pillarbox.cli.identity import identity
from pillarbox.cli.mx import mx
from pillarbox.cli.queue import queue
from pillarbox.cli.sendmail import sendmail
from pillarbox.cli.serve import serve
from pillarbox.core.errors import Failure

REFUSED = 1


@click.group(
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Example: pillarbox domain add example.org && pillarbox account add alice@example.org",
)
@click.version_option(__version__, prog_name="pillarbox", message="%(prog)s %(version)s")
@config_option
def pillarbox() -> None:
    """A complete mail server: SMTP, IMAP and POP3 with TLS.

    The configuration is FILE, else $PILLARBOX_CONFIG, else ./pillarbox.toml, else
    /etc/pillarbox/pillarbox.toml. Changes of domains, accounts and aliases count at once, whether a
    server runs or not.
    """


for command in (
    serve,
    demo,
    domain,
    account,
    alias,
    identity,
    queue,
    mx,
    dns,
    sendmail,
    config,
    check,
):
    pillarbox.add_command(command)


def main() -> None:
    """Run the command line; never returns."""
    try:
        code = pillarbox.main(prog_name="pillarbox", standalone_mode=False)
        sys.exit(code if isinstance(code, int) else 0)
    except click.UsageError as error:
        error.show()
        sys.exit(error.exit_code)
    except click.ClickException as error:
        print(f"pillarbox: {error.format_message()}", file=sys.stderr)
        sys.exit(REFUSED)
    except (click.Abort, KeyboardInterrupt):
        print("pillarbox: given up", file=sys.stderr)
        sys.exit(REFUSED)
    except Failure as error:
        for line in error.text.splitlines():
            print(f"pillarbox: {line}", file=sys.stderr)
        sys.exit(REFUSED)
    except BrokenPipeError:
        sys.stderr.close()  # the reader of our output had enough
        sys.exit(REFUSED)
    except OSError as error:
        print(f"pillarbox: {error.filename or 'error'}: {error.strerror}", file=sys.stderr)
        sys.exit(REFUSED)
