"""The keeper of keys: a small process that reads the files of TLS when the server has no rights any more.

It is forked before the rights are given up, keeps the one right to read any file, and reads the files that it was
started with, no others, and none that the server's user could exchange for another: who took over the server gets no
other file by it. Whoever asks sends one packet: the path, and the end of a pipe, which gets b"+" and the content, or
b"-", an error number and words. All workers ask through the same socket; the keeper ends once nobody has it.
docs/adr/0003-keys-that-only-root-reads.md says why.
"""

import errno
import fcntl
import os
import resource
import select
import signal
import socket
import stat
import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import NoReturn

from pillarbox.app import rights
from pillarbox.config.regular_file import read_regular

PIPE_OCTETS = 1 << 20
"""Any file that is read fits, so nobody who does not read holds the keeper up."""
LONGEST_PATH = 4096
ANSWER_S = 10.0

MOST_LINKS = 40
"""On a path, as in the kernel."""

_F_SETPIPE_SZ = 1031


def read_by(keeper: socket.socket, path: Path) -> bytes:
    """What stands in a file of TLS, by the keeper, or by ourselves where it is gone. Blocks. Raises OSError."""
    reader, writer = os.pipe2(os.O_CLOEXEC)
    try:
        with suppress(OSError):  # where a user's pipes may not grow, most files fit all the same
            fcntl.fcntl(writer, _F_SETPIPE_SZ, PIPE_OCTETS)
        try:
            socket.send_fds(keeper, [os.fsencode(path)], [writer])
        except OSError:
            return read_regular(path)
        finally:
            os.close(writer)
        answer = _read_all(reader)
    finally:
        os.close(reader)
    if not answer:
        return read_regular(path)
    if answer[:1] == b"-":
        number, _, words = answer[1:].partition(b" ")
        if int(number) == errno.EPERM:
            return read_regular(path)  # that may be ours
        raise OSError(int(number), words.decode(), str(path))
    return answer[1:]


def _read_all(reader: int) -> bytes:
    end = time.monotonic() + ANSWER_S
    answer = b""
    waiting = select.poll()
    waiting.register(reader, select.POLLIN)
    while waiting.poll(max(0.0, end - time.monotonic()) * 1000):
        piece = os.read(reader, PIPE_OCTETS)
        if not piece:
            break
        answer += piece
    return answer


def start_keeper(paths: Iterable[Path], uid: int, gid: int) -> socket.socket:
    """Fork it, from a process with one thread and nothing open that matters; where to ask it. `uid` and `gid`: of the
    server's user. Raises OSError."""
    allowed = frozenset(os.fsencode(path) for path in paths)
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    if os.fork() == 0:
        _keep(theirs.detach(), allowed, uid, gid)
    theirs.close()
    return ours


def _keep(descriptor: int, allowed: frozenset[bytes], uid: int, gid: int) -> NoReturn:
    """The process."""
    code = 1
    try:
        for each in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(each, signal.SIG_IGN)  # it ends when nobody can ask it any more
        os.dup2(descriptor, 3)
        nothing = os.open(os.devnull, os.O_RDWR)
        for number in range(3):
            os.dup2(nothing, number)
        os.closerange(4, resource.getrlimit(resource.RLIMIT_NOFILE)[0])
        rights.bar_return(but=rights.DAC_READ_SEARCH)
        rights.give_up_all(but=rights.DAC_READ_SEARCH)
        rights.hide_memory()
        resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
        with suppress(OSError):
            Path("/proc/self/comm").write_text("pillarbox-keys")
        _answer_all(socket.socket(fileno=3), allowed, uid, gid)
        code = 0
    finally:
        os._exit(code)


def _answer_all(asked: socket.socket, allowed: frozenset[bytes], uid: int, gid: int) -> None:
    while True:
        path, descriptors, _flags, _address = socket.recv_fds(asked, LONGEST_PATH, 1)
        if not path and not descriptors:
            return
        for descriptor in descriptors:
            try:
                os.set_blocking(descriptor, False)
                with suppress(OSError):
                    os.write(descriptor, _answer(path, allowed, uid, gid))
            finally:
                os.close(descriptor)


def _answer(path: bytes, allowed: frozenset[bytes], uid: int, gid: int) -> bytes:
    if path not in allowed:
        return _refusal(errno.EACCES)
    try:
        if may_exchange(os.fsdecode(path), uid, gid):
            return _refusal(errno.EPERM)
        return b"+" + read_regular(Path(os.fsdecode(path)))
    except OSError as error:
        return _refusal(error.errno or errno.EIO, error.strerror)


def _refusal(number: int, words: str | None = None) -> bytes:
    return b"-%d %b" % (number, (words or os.strerror(number)).encode())


def may_exchange(path: str, uid: int, gid: int) -> bool:
    """Whether a user may put another file in the place of the one at an absolute path, or of a folder or link on the
    way to it. Raises OSError."""
    folder, links = "/", 0
    names = path.split("/")[::-1]
    while names:
        name = names.pop()
        if name in ("", "."):
            continue
        if name == "..":
            folder = os.path.dirname(folder)
            continue
        entry = os.path.join(folder, name)
        found = os.lstat(entry)
        if _may_exchange_in(os.stat(folder), found, uid, gid):
            return True
        if not stat.S_ISLNK(found.st_mode):
            folder = entry
            continue
        links += 1
        if links > MOST_LINKS:
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))
        target = os.readlink(entry)
        names += target.split("/")[::-1]
        folder = "/" if target.startswith("/") else folder
    return False


def _may_exchange_in(folder: os.stat_result, entry: os.stat_result, uid: int, gid: int) -> bool:
    if folder.st_uid == uid:
        return True
    is_writable = folder.st_mode & stat.S_IWOTH or (
        folder.st_gid == gid and folder.st_mode & stat.S_IWGRP
    )
    return bool(is_writable) and (not folder.st_mode & stat.S_ISVTX or entry.st_uid == uid)
