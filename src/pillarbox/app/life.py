"""What every kind of server process says of its life in the log, and its exit codes."""

import ipaddress
import logging
import os
import stat

from pillarbox.app.sockets import Sockets, addresses_of
from pillarbox.config.schema import Config
from pillarbox.core.endpoint import format_endpoint, parse_endpoint

STOPPED, FATAL = 0, 1
"""Exit codes."""

log = logging.getLogger("pillarbox.app")


def announce(sockets: Sockets) -> None:
    """It runs."""
    for service, addresses in addresses_of(sockets).items():
        for host, port in addresses:
            log.info("%s listens on %s", service, format_endpoint(host, port))
    log.info("ready")


def warn(config: Config, sockets: Sockets | None) -> None:
    """Of what is dangerous or useless, at each start; `sockets` are those that are bound already."""
    if config.security.allow_cleartext_login:
        log.warning(
            "allow_cleartext_login is on: passwords may pass unencrypted; only for a laboratory"
        )
    mode = stat.S_IMODE(config.data_path.stat().st_mode) if config.data_path.exists() else 0
    if mode & 0o077:
        log.warning(
            "data_dir: others on this machine may look into %s (%04o); run: chmod 700 %s",
            config.data_path,
            mode,
            config.data_path,
        )
    for address in config.listen.metrics:
        if not ipaddress.ip_address(parse_endpoint(address)[0]).is_loopback:
            log.warning(
                "listen.metrics: %s is not on loopback: whoever reaches it may read the figures",
                address,
            )
    if not sockets and not any(
        getattr(config.listen, name) for name in config.listen.__struct_fields__
    ):
        log.warning("nothing to do: [listen] names no address")


def warn_of_root(config: Config) -> None:
    """After rights were given up: root that is left is somebody's mistake."""
    if os.geteuid() == 0:
        log.warning(
            "this server stays root, and its files become root's: name its user in the configuration, like"
            ' user = "pillarbox", stop it, chown -R that user: %s, and start it again',
            config.data_path,
        )


def summary(sockets: Sockets) -> str:
    """What it does, in a line."""
    return f"serves {', '.join(sockets)}"
