"""What systemd and a server say to each other, by environment variables and datagrams: sd_notify(3),
sd_watchdog_enabled(3), sd_listen_fds(3). Without systemd, nothing is said and no sockets are passed."""

import asyncio
import os
import socket
import time
from collections.abc import Callable, MutableMapping
from contextlib import suppress

from pillarbox.core.errors import Refused
from pillarbox.core.tally import SERVICES

_FIRST_PASSED = 3

Passed = dict[str, list[socket.socket]]
"""Sockets that somebody else bound, by service."""


class Manager:
    """Who started us and wants to hear of us; maybe nobody."""

    def __init__(self, path: str = "", watchdog_s: float = 0.0) -> None:
        """`path` of its socket, "@..." is abstract; it kills us when it hears nothing for `watchdog_s` (0: never)."""
        self._socket: socket.socket | None = None
        self._watchdog_s = watchdog_s
        self._timer: asyncio.TimerHandle | None = None
        if path:
            self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
            with suppress(OSError):  # now, while we may
                self._socket.connect(f"\0{path[1:]}" if path[0] == "@" else path)
            self._socket.setblocking(False)

    def starting(self) -> None:
        self._say("STATUS=reads what the last run left")

    def ready(self, what: str) -> None:
        """All ports answer; `what` is for people."""
        self._say("READY=1", f"STATUS={what}", f"MAINPID={os.getpid()}")

    def reloading(self) -> None:
        """Until the next `ready`."""
        self._say("RELOADING=1", f"MONOTONIC_USEC={time.monotonic_ns() // 1000}")

    def stopping(self) -> None:
        self._say("STOPPING=1", "STATUS=ends the commands in hand")

    def watch(self, is_alive: Callable[[], bool]) -> None:
        """On the event loop from now on: feed the watchdog for as long as `is_alive`."""
        if not self._watchdog_s:
            return
        if is_alive():
            self._say("WATCHDOG=1")
        self._timer = asyncio.get_running_loop().call_later(
            self._watchdog_s / 3, self.watch, is_alive
        )

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        if self._socket is not None:
            self._socket.close()

    def _say(self, *lines: str) -> None:
        if self._socket is not None:
            with suppress(OSError):  # it does not want to hear us, which is no reason to stop
                self._socket.send("\n".join(lines).encode())


def find_manager(environment: MutableMapping[str, str]) -> Manager:
    """As the environment says; what we start shall not see that."""
    path = environment.pop("NOTIFY_SOCKET", "")
    us = environment.pop("WATCHDOG_USEC", "")
    pid = environment.pop("WATCHDOG_PID", "")
    is_watched = us.isdigit() and pid in ("", str(os.getpid()))
    return Manager(path, int(us) / 1e6 if is_watched else 0.0)


def take_passed(environment: MutableMapping[str, str]) -> Passed:
    """The listening sockets that we were started with, each with the name of a service. Raises Refused."""
    pid = environment.pop("LISTEN_PID", "")
    count = environment.pop("LISTEN_FDS", "")
    names = environment.pop("LISTEN_FDNAMES", "").split(":")
    passed: Passed = {}
    if pid != str(os.getpid()) or not count.isdigit():
        return passed
    for index in range(int(count)):
        name = names[index] if index < len(names) else ""
        if name not in SERVICES:
            raise Refused(
                f'a socket with the name "{name}" was passed to us;'
                f" set FileDescriptorName= to one of {', '.join(SERVICES)}"
            )
        sock = socket.socket(fileno=_FIRST_PASSED + index)
        if sock.family not in (socket.AF_INET, socket.AF_INET6) or sock.type != socket.SOCK_STREAM:
            raise Refused(f"the socket that was passed to us for {name} is not one of TCP")
        os.set_inheritable(sock.fileno(), False)
        sock.setblocking(False)
        passed.setdefault(name, []).append(sock)
    return passed
