"""The units by which systemd runs a server: `pillarbox.service`, and one for the sockets of each service."""

import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

from pillarbox.config.schema import Config
from pillarbox.core.endpoint import parse_endpoint
from pillarbox.core.errors import Refused
from pillarbox.store.drop import SHARED_MODE

USUAL_USER = "pillarbox"
"""Where the configuration names none."""

_HIDDEN = {
    "a home folder": ("/home", "/root", "/run/user"),
    "a folder for what is temporary": ("/tmp", "/var/tmp"),
}
"""ProtectHome and PrivateTmp of the unit."""


@dataclass(slots=True)
class UnitNames:
    """What stands where on this machine."""

    program: Path
    config: Path

    @staticmethod
    def of_this_program(config: Path) -> "UnitNames":
        found = shutil.which(sys.argv[0]) or shutil.which("pillarbox") or sys.argv[0]
        return UnitNames(Path(found).absolute(), config.absolute())

    def notes(self, config: Config) -> list[str]:
        """What will not work: a line for each path; mostly empty."""
        paths = [self.program, self.program.resolve(), self.config, config.data_path]
        paths += [config.drop_path] if config.sendmail.drop_dir else []
        return [
            f"{path} is in {what}, which the unit hides from the server; put it elsewhere"
            for path in dict.fromkeys(paths)
            for what, folders in _HIDDEN.items()
            if any(path.is_relative_to(folder) for folder in folders)
        ]


def service_unit(config: Config, names: UnitNames) -> str:
    """Raises Refused where a path has characters that systemd gives a meaning."""
    writable = [config.data_path]
    if config.sendmail.drop_dir:
        writable.append(config.drop_path)
    user = config.user or USUAL_USER
    text = files("pillarbox.app").joinpath("units", "pillarbox.service").read_text("utf-8")
    if config.sendmail.drop_dir:
        # The unit's user may not make a folder where all users can reach it, nor give it this mode; "+": root does.
        make = f"ExecStartPre=+/usr/bin/install -d -o {user} -g {user} -m {SHARED_MODE:o} @DROP@\n"
        text = text.replace("ExecStart=", make + "ExecStart=", 1)
    for mark, paths in (
        ("@PROGRAM@", [names.program]),
        ("@CONFIG@", [names.config]),
        ("@WRITABLE@", writable),
        ("@DROP@", [config.drop_path]),
    ):
        text = text.replace(mark, " ".join(_plain(path) for path in paths))
    return text.replace("@USER@", user)


def socket_unit(service: str, addresses: Sequence[str]) -> str:
    """For these addresses ("host:port")."""
    lines = []
    for address in addresses:
        host, port = parse_endpoint(address)
        lines.append(f"ListenStream={f'[{host}]' if ':' in host else host}:{port}\n")
    return (
        f"[Unit]\nDescription=Pillarbox mail server, {service}\n\n"
        f"[Socket]\n{''.join(lines)}FileDescriptorName={service}\n"
        "Service=pillarbox.service\nBindIPv6Only=ipv6-only\nBacklog=1024\n\n"
        "[Install]\nWantedBy=sockets.target\n"
    )


def _plain(path: Path) -> str:
    text = str(path)
    if any(character.isspace() or character in "%\"'\\$;" for character in text):
        raise Refused(
            f"a unit of systemd cannot name {text}: give it a name without blanks and signs"
        )
    return text
