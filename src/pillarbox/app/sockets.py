"""The listening sockets of the configuration, one for each worker and address."""

import socket
from collections.abc import Mapping

from pillarbox.config.schema import Config
from pillarbox.core.endpoint import format_endpoint, parse_endpoint
from pillarbox.core.errors import Refused
from pillarbox.core.tally import SERVICES
from pillarbox.net.listener import bind, why_not_heard

Sockets = dict[str, list[socket.socket]]
"""By service."""


def bind_all(
    config: Config, workers: int = 1, passed: Mapping[str, list[socket.socket]] | None = None
) -> list[Sockets]:
    """For each worker, all of them. Services with sockets that were `passed` to us have these alone; the workers share
    them. Raises Refused, with none of them open, when another program has a port or it is
    not to be had."""
    made: list[Sockets] = [{} for _ in range(workers)]
    passed = passed or {}
    try:
        for name, given in passed.items():
            for sockets in made:
                sockets[name] = [sock.dup() for sock in given]
            for sock in given:
                sock.close()
        for name in SERVICES:
            for address in getattr(config.listen, name) if name not in passed else ():
                try:
                    for sockets, sock in zip(made, _bind(address, workers), strict=True):
                        sockets.setdefault(name, []).append(sock)
                except OSError as error:
                    raise Refused(why_not_heard(name, address, error)) from error
    except BaseException:
        for sockets in made:
            close_all(sockets)
        raise
    return made


def bind_metrics(config: Config) -> list[socket.socket]:
    """Where figures and health are told; once, however many workers there are. Raises Refused."""
    made: list[socket.socket] = []
    for address in config.listen.metrics:
        try:
            made.append(bind(address))
        except OSError as error:
            for sock in made:
                sock.close()
            raise Refused(why_not_heard("metrics", address, error)) from error
    return made


def close_all(sockets: Sockets) -> None:
    for bound in sockets.values():
        for sock in bound:
            sock.close()


def addresses_of(sockets: Sockets) -> dict[str, list[tuple[str, int]]]:
    """By service: host and port."""
    return {name: [sock.getsockname()[:2] for sock in bound] for name, bound in sockets.items()}


def _bind(address: str, workers: int) -> list[socket.socket]:
    first = bind(address)
    if workers == 1:
        return [first]
    # That nobody else has it shows only without sharing: two servers of one user would get half of the mail each.
    port = first.getsockname()[1]
    first.close()
    host = parse_endpoint(address)[0]
    made: list[socket.socket] = []
    try:
        for _ in range(workers):
            made.append(bind(format_endpoint(host, port), shared=True))
    except BaseException:
        for sock in made:
            sock.close()
        raise
    return made
