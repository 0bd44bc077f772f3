"""CPU seconds and memory of a tree of processes, from /proc; what servers need at their start."""

import os
import socket
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

_TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(slots=True)
class Tree:
    """A process and all below it."""

    root: int

    def pids(self) -> list[int]:
        """The root and its descendants that live now."""
        parents: dict[int, list[int]] = {}
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit():
                fields = _stat(int(entry.name))
                if fields:
                    parents.setdefault(int(fields[1]), []).append(int(entry.name))
        found = [self.root]
        for pid in found:
            found += parents.get(pid, [])
        return found

    def cpu_s(self) -> float:
        """User and system seconds so far, those of ended and awaited children included."""
        total = 0
        for pid in self.pids():
            fields = _stat(pid)
            if fields:
                total += sum(int(value) for value in fields[11:15])
        return total / _TICKS

    def pss_kib(self) -> int:
        """Proportional set size."""
        total = 0
        for pid in self.pids():
            try:
                text = Path(f"/proc/{pid}/smaps_rollup").read_text()
            except OSError:
                continue
            total += sum(
                int(line.split()[1]) for line in text.splitlines() if line.startswith("Pss:")
            )
        return total


def machine_cpu_s() -> float:
    """CPU seconds of the whole machine since it started; what the kernel does for anybody (syncs, network) counts."""
    user, nice, system, _idle, _iowait, irq, softirq = (
        int(field) for field in Path("/proc/stat").read_text().split()[1:8]
    )
    return (user + nice + system + irq + softirq) / _TICKS


def _stat(pid: int) -> list[str] | None:
    """The fields of /proc/PID/stat behind the command, state first."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    return text.rpartition(")")[2].split()


def wait_for_port(port: int, seconds: float = 30) -> None:
    """Until a connection to the loopback port is accepted."""
    end = time.monotonic() + seconds
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return
        except OSError:
            if time.monotonic() > end:
                raise SystemExit(f"port {port} does not answer") from None
            time.sleep(0.05)


def make_certificate(folder: Path) -> None:
    """cert.pem and key.pem in `folder`: P-256, signed by itself."""
    arguments = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 30 -subj /CN=localhost"
    files = ["-keyout", str(folder / "key.pem"), "-out", str(folder / "cert.pem")]
    subprocess.run(["openssl", *arguments.split(), *files], check=True, capture_output=True)
