"""The root command, and how every failure ends: one line on stderr, exit code 1; 2 for wrong usage."""

import difflib
import importlib
import io
import keyword
import sys

import click

from pillarbox import __version__
from pillarbox.cli.options import config_option
from pillarbox.core.errors import Failure

REFUSED = 1

MODULES = {
    "serve": "serve",
    "status": "status",
    "top": "top",
    "trace": "trace",
    "demo": "demo",
    "domain": "domain",
    "account": "account",
    "alias": "alias",
    "ban": "ban",
    "throttle": "throttle",
    "identity": "identity",
    "queue": "queue",
    "mx": "mx",
    "dns": "dns",
    "doctor": "doctor.command",
    "sendmail": "sendmail",
    "tls": "tls",
    "config": "configuration",
    "explain": "explain",
    "check": "check",
    "sql": "sql",
    "backup": "backup",
    "restore": "restore",
    "import": "import_",
    "systemd-unit": "systemd_unit",
    "quickstart": "quickstart",
}
"""Each command, in the module that has it under its name: only that of the command given is imported, which takes most
of the time of a short one."""


class _Commands(click.Group):
    def list_commands(self, _context: click.Context) -> list[str]:
        return sorted(MODULES)

    def get_command(self, _context: click.Context, name: str) -> click.Command | None:
        if name not in MODULES:
            return None
        module = importlib.import_module(f"pillarbox.cli.{MODULES[name]}")
        word = f"{name}_" if keyword.iskeyword(name) else name.replace("-", "_")
        command: click.Command = getattr(module, word)
        return command

    def resolve_command(
        self, context: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        name = args[0]
        if name not in MODULES and not name.startswith("-"):
            close = difflib.get_close_matches(name, MODULES, 1)
            context.fail(
                f"No such command '{name}'." + (f" Did you mean '{close[0]}'?" if close else "")
            )
        return super().resolve_command(context, args)


@click.group(
    cls=_Commands,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Example: pillarbox domain add example.org && pillarbox account add alice@example.org",
)
@click.version_option(__version__, prog_name="pillarbox", message="%(prog)s %(version)s")
@config_option
def pillarbox() -> None:
    """A complete mail server: SMTP, IMAP and POP3 with TLS.

    The configuration is FILE, else $PILLARBOX_CONFIG, else ./pillarbox.toml, else
    /etc/pillarbox/pillarbox.toml; root has to name one that is another user's. Changes of domains,
    accounts and aliases count at once, whether a server runs or not.
    """


def main() -> None:
    """Run the command line; never returns."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        # A name that the terminal cannot show ends nothing.
        sys.stdout.reconfigure(errors="backslashreplace")
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
        for line in error.told.splitlines():
            print(f"pillarbox: {line}", file=sys.stderr)
        sys.exit(REFUSED)
    except BrokenPipeError:
        sys.stderr.close()  # the reader of our output had enough
        sys.exit(REFUSED)
    except OSError as error:
        print(f"pillarbox: {error.filename or 'error'}: {error.strerror}", file=sys.stderr)
        sys.exit(REFUSED)
