"""The rights of this process: which it has, acting as the server's user for a while, and giving up all for good.

Linux: user ids, capabilities(7) and the no_new_privs flag of prctl(2). Nothing here reads files but /etc/passwd (by the
system's functions) and /proc/self/status.
"""

import ctypes
import os
import pwd
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pillarbox.core.errors import Refused

DAC_READ_SEARCH = 2
"""The capability to read any file (capabilities(7))."""

_VERSION_3 = 0x20080522
_PR_SET_DUMPABLE, _PR_CAPBSET_DROP, _PR_SET_NO_NEW_PRIVS, _PR_CAP_AMBIENT = 4, 24, 38, 47
_AMBIENT_CLEAR_ALL = 4
_MOST_CAPABILITIES = 64


class User:
    """One of the machine, by name."""

    __slots__ = ("gid", "name", "uid")

    def __init__(self, name: str) -> None:
        """Raises Refused."""
        try:
            found = pwd.getpwnam(name)
        except KeyError as error:
            raise Refused(
                f'user: this machine has no user "{name}"; make one: useradd --system'
                f" --home-dir /nonexistent --no-create-home --shell /usr/sbin/nologin {name}"
            ) from error
        if found.pw_uid == 0:
            raise Refused("user: root is no user to give up rights for; name another")
        self.name, self.uid, self.gid = name, found.pw_uid, found.pw_gid


def server_user(name: str) -> User | None:
    """Whom to become: `name`, where it is given and this process is root. Raises Refused."""
    return User(name) if name and os.geteuid() == 0 else None


def become(user: User) -> None:
    """Be this user for good, without any other group. Raises Refused."""
    try:
        os.setgroups([])
        os.setresgid(user.gid, user.gid, user.gid)
        os.setresuid(user.uid, user.uid, user.uid)
    except OSError as error:
        raise Refused(f"user: cannot become {user.name}: {error.strerror}") from error


def act_as(user: User) -> None:
    """Make and open files as this user, without any other group; root can be again. Not with threads."""
    os.setgroups([])
    os.setegid(user.gid)
    os.seteuid(user.uid)


@contextmanager
def acting_as(user: User | None) -> Iterator[None]:
    """Files are made, and locks taken, as this user meanwhile; None: as we are. Not with threads."""
    if user is None:
        yield
        return
    group, groups = os.getegid(), os.getgroups()
    act_as(user)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(group)
        os.setgroups(groups)


def make_folder(folder: Path, user: User | None) -> None:
    """With all above it, if it is not there, for this user. For root. Raises OSError."""
    if folder.exists():
        return
    if user is not None:
        for above in reversed([each for each in folder.parents if not each.exists()]):
            above.mkdir()
            above.chmod(0o755)  # whatever the umask is: the user must get through
    folder.mkdir(mode=0o700, parents=True)
    if user is not None:
        give_empty(folder, user)


def give_empty(folder: Path, user: User) -> None:
    """Give the user a folder that is new or has nothing in it, and no other: not what a link leads to, and where the
    user may exchange it meanwhile, nothing that is worth having. For root. Raises OSError."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        if not os.listdir(descriptor):
            os.fchown(descriptor, user.uid, user.gid)
    finally:
        os.close(descriptor)


def make_folder_as_root(folder: Path, name: str) -> None:
    """The same while root acts as the user of this name. Not with threads. Raises Refused, OSError."""
    user = User(name)
    os.seteuid(0)
    try:
        make_folder(folder, user)
    finally:
        os.seteuid(user.uid)


def has_capability(number: int) -> bool:
    """Whether it counts now; root mostly has all."""
    return bool(_capabilities("CapEff") >> number & 1)


def has_any() -> bool:
    """Whether there is anything to give up."""
    return os.geteuid() == 0 or bool(_capabilities("CapPrm"))


def bar_return(*, but: int | None = None) -> None:
    """Nothing that is started from here on can have capabilities, with one exception. Where we may not say so (only
    CAP_SETPCAP may), other users do not get any by exec anyway. Before `become`."""
    for number in range(_MOST_CAPABILITIES):
        if number != but and _libc().prctl(_PR_CAPBSET_DROP, number, 0, 0, 0):
            break  # there are no more of them, or we may not


def give_up_all(*, but: int | None = None) -> None:
    """No capabilities from now on, for what this process starts neither, with one exception; setuid programs give
    none. Raises OSError."""
    _check(_libc().prctl(_PR_CAP_AMBIENT, _AMBIENT_CLEAR_ALL, 0, 0, 0))
    kept = 0 if but is None else 1 << but
    header = (ctypes.c_uint32 * 2)(_VERSION_3, 0)
    low, high = kept & 0xFFFFFFFF, kept >> 32
    sets = (ctypes.c_uint32 * 6)(low, low, 0, high, high, 0)  # effective, permitted, inheritable
    _check(_libc().capset(header, sets))
    _check(_libc().prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))


def hide_memory() -> None:
    """No core files, and nobody of the same user may look into this process. Raises OSError."""
    _check(_libc().prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0))


def _capabilities(name: str) -> int:
    for line in Path("/proc/self/status").read_text("ascii", "replace").splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1], 16)
    return 0


def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def _check(result: int) -> None:
    if result:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
