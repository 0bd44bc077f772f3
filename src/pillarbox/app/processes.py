"""What the kernel knows of our processes, from /proc."""

import os
import resource
import time
from dataclasses import dataclass

_TICKS_A_S = os.sysconf("SC_CLK_TCK")
_PAGE_OCTETS = os.sysconf("SC_PAGE_SIZE")


@dataclass(slots=True)
class Usage:
    """Of one process; all zero where there is none."""

    cpu_s: float = 0.0
    cpu_of_children_s: float = 0.0
    """Of those that ended."""
    resident_octets: int = 0
    virtual_octets: int = 0
    descriptors: int = 0


def usage_of(pid: int) -> Usage:
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            fields = file.read().rpartition(b") ")[2].split()
    except OSError:
        return Usage()
    # proc_pid_stat(5): utime, stime, cutime and cstime are fields 14 to 17, vsize and rss 23 and 24; ours begin at 3.
    return Usage(
        (int(fields[11]) + int(fields[12])) / _TICKS_A_S,
        (int(fields[13]) + int(fields[14])) / _TICKS_A_S,
        int(fields[21]) * _PAGE_OCTETS,
        int(fields[20]),
        _descriptors(pid),
    )


def _descriptors(pid: int) -> int:
    """How many files a process has open. Linux 6.2 tells that at once; before, each is listed."""
    try:
        return os.stat(f"/proc/{pid}/fd").st_size or len(os.listdir(f"/proc/{pid}/fd"))
    except OSError:
        return 0


def cpu_s_of_all(children: list[Usage]) -> float:
    """CPU time of this process and its children, those that live (`children`) and those that ended: it never falls."""
    own = resource.getrusage(resource.RUSAGE_SELF)
    ended = resource.getrusage(resource.RUSAGE_CHILDREN)
    return (
        own.ru_utime
        + own.ru_stime
        + ended.ru_utime
        + ended.ru_stime
        + sum(child.cpu_s + child.cpu_of_children_s for child in children)
    )


def most_descriptors() -> int:
    """How many files a process of ours may open."""
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]


def monotonic_ms() -> int:
    """The clock of `beat` (`app.shared`)."""
    return time.monotonic_ns() // 1_000_000
