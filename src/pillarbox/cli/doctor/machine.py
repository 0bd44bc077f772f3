"""The machine and the data folder: is a server running, room on the disk, the clock, the queue.

The clock is held against the kernel's word and the times of files only. No peer of mail tells the time at its greeting,
and we ask no server of time: a clock that is wrong and said to be right is not found out.
"""

import ctypes
import os
import time
from contextlib import suppress
from pathlib import Path

from pillarbox.app.readiness import LEAST_FREE_OCTETS, STUCK_S, disk_of, probe
from pillarbox.app.status import ask
from pillarbox.cli.common import duration
from pillarbox.cli.doctor.case import WAIT_S, Case, in_thread
from pillarbox.cli.doctor.finding import Finding, error, ok, warning
from pillarbox.core.duration import parse_duration
from pillarbox.core.errors import Failure, Refused
from pillarbox.core.words import counted
from pillarbox.store import drop, made
from pillarbox.store.accounts import account_path
from pillarbox.store.copying import find_damage
from pillarbox.store.damage import how_to_mend
from pillarbox.store.directory import Directory
from pillarbox.store.journal import ALLOCATION_OCTETS, kept_aside
from pillarbox.store.lacking import Lacking, find_missing, find_unusable, find_waiting
from pillarbox.store.owned import find_denied, is_shut, may_look
from pillarbox.store.queue_figures import QueueFigures, QueueReader

LITTLE = 0.1
"""Of the disk, and of its files."""
FUTURE_S = 60
FILES_S = 30.0
"""For all mail files."""
_TIMEX_OCTETS = 512
"""More than struct timex has."""
_TIME_ERROR = 5
"""What adjtimex(2) returns when the clock is not synchronized."""


async def check_server(case: Case) -> list[Finding]:
    """Whether a server runs on the data folder."""
    folder = case.config.data_path
    try:
        report = await in_thread(lambda: ask(folder), WAIT_S)
    except TimeoutError:
        advice = "look at its log; pillarbox status asks again"
        return [error("server", str(folder), f"it does not answer within {WAIT_S:g} s", advice)]
    except Failure as failure:
        advice = "start it: pillarbox serve (or systemctl start pillarbox)"
        return [error("server", str(folder), failure.text, advice)]
    up = duration(case.now - report["started"])
    found = f"Pillarbox {report['version']}, process {report['pid']}, runs for {up}"
    if _is_roots(report["pid"]):
        advice = (
            f'name its user in the configuration, like user = "pillarbox"; stop it, chown -R that user: {folder},'
            " and start it again"
        )
        return [warning("server", str(folder), f"{found}, as root", advice)]
    silent = [
        each for each in report["workers"] if each["state"] == "running" and not each["serves"]
    ]
    if silent and not report["stopping"]:
        which = ", ".join(f"{each['worker']} (process {each['pid']})" for each in silent)
        advice = "see its log and pillarbox top; where it goes on, restart the server"
        return [error("server", str(folder), f"{found}; worker {which} does not answer", advice)]
    if report["stopping"]:
        advice = "wait for it to end (30 s at most), and start it again: pillarbox serve"
        return [warning("server", str(folder), f"{found}, is stopping", advice)]
    return [ok("server", str(folder), found)]


def _is_roots(pid: int) -> bool:
    """Whether a process acts as root, as far as we can see. The owner of its folder in /proc does not tell: that is
    root also for one that gave up its rights."""
    try:
        status = Path(f"/proc/{pid}/status").read_text("utf-8", "replace")
    except OSError:
        return False
    ids = next((line.split() for line in status.splitlines() if line.startswith("Uid:")), [])
    return ids[2:3] == ["0"]


async def check_disk(case: Case) -> list[Finding]:
    """Room for mail, and whether the disk takes any."""
    folder = case.config.data_path
    try:
        return [await in_thread(lambda: _disk(folder), WAIT_S)]
    except TimeoutError:
        advice = "look at the disk: dmesg"
        return [error("disk", str(folder), f"no answer within {WAIT_S:g} s", advice)]
    except OSError as failure:
        advice = "see that the file system is mounted, writable, and not full"
        found = f"it cannot be written: {failure.strerror}"
        return [error("disk", str(folder), found, advice)]


def _disk(folder: Path) -> Finding:
    figures, found = disk_of(folder), os.statvfs(folder)
    shown = f"{figures.free_octets >> 20} MiB of {figures.all_octets >> 20} MiB are free"
    advice = "make room, or move data_dir to a larger disk"
    if figures.free_octets < ALLOCATION_OCTETS:
        shown += f"; mail is refused, but for what the journal's last {ALLOCATION_OCTETS >> 20} MiB have room for"
        return error("disk", str(folder), shown, advice)
    if figures.free_octets < LEAST_FREE_OCTETS:
        return error("disk", str(folder), f"{shown}; mail is refused soon", advice)
    probe(folder)
    if figures.free_octets < LITTLE * figures.all_octets:
        return warning("disk", str(folder), shown, advice)
    if found.f_files and found.f_favail < LITTLE * found.f_files:
        shown = f"only {found.f_favail} more files can be made (inodes)"
        return warning("disk", str(folder), shown, advice)
    return ok("disk", str(folder), shown)


async def check_clock(case: Case) -> list[Finding]:
    """What can be known without asking others: see the module."""
    folder = case.config.data_path
    advice = "set the clock, and let something keep it: systemctl enable --now systemd-timesyncd"
    try:
        newest = await in_thread(lambda: _newest(folder), WAIT_S)
    except (TimeoutError, OSError):
        newest = 0.0  # the finding about the disk says so
    ahead_s = newest - case.now
    if ahead_s > FUTURE_S:
        found = f"files of the data folder are {duration(ahead_s)} ahead of it: it went back"
        return [error("clock", "this machine", found, advice)]
    if not is_synchronized():
        return [warning("clock", "this machine", "the kernel says nothing keeps it right", advice)]
    return [ok("clock", "this machine", "the kernel says it is kept right")]


def _newest(folder: Path) -> float:
    newest = 0.0
    for each in folder.iterdir():
        with suppress(FileNotFoundError):  # it was there for a moment
            newest = max(newest, each.stat().st_mtime)
    return newest


def is_synchronized() -> bool:
    """What the kernel says of the clock; True where it cannot be asked."""
    try:
        adjtimex = ctypes.CDLL(None).adjtimex
    except (OSError, AttributeError):
        return True
    return bool(adjtimex(ctypes.create_string_buffer(_TIMEX_OCTETS)) != _TIME_ERROR)


async def check_queue(case: Case) -> list[Finding]:
    """Whether mail moves, and how old the oldest is."""
    path = case.config.data_path / "queue.db"
    if not path.exists():
        return [ok("queue", str(path), "there is none yet")]
    try:
        figures = await in_thread(lambda: _figures(path), WAIT_S)
    except TimeoutError:
        return [error("queue", str(path), f"no answer within {WAIT_S:g} s", "look at the disk")]
    except Failure as failure:
        advice = "see what is wrong: pillarbox check"
        return [error("queue", str(path), failure.text, advice)]
    return [_judge(str(path), figures, parse_duration(case.config.outbound.warn_after))]


async def check_drop(case: Case) -> list[Finding]:
    """Whether mail that programs left could be taken up."""
    folder = case.config.drop_path
    try:
        aside = await in_thread(lambda: drop.set_aside_in(folder), WAIT_S)
    except FileNotFoundError:
        return []
    except TimeoutError:
        return [error("drop", str(folder), f"no answer within {WAIT_S:g} s", "look at the disk")]
    except OSError as failure:
        advice = "run this as root or as the server's user"
        return [warning("drop", str(folder), f"it cannot be listed: {failure.strerror}", advice)]
    if not aside:
        return [ok("drop", str(folder), "no mail of programs waits there")]
    found = f"{counted(len(aside), 'file')} could not be taken up, as {aside[0]}"
    advice = "the log says why; what is mended gets a name that ends in .mail, else delete it"
    return [warning("drop", str(folder), found, advice)]


def _figures(path: Path) -> QueueFigures:
    reader = QueueReader(path)
    try:
        return reader.read()
    finally:
        reader.close()


def _judge(path: str, figures: QueueFigures, old_s: int) -> Finding:
    look = "see why: pillarbox queue list"
    shown = (
        f"{counted(figures.messages, 'message')}, the oldest came {duration(figures.oldest_s)} ago"
    )
    if max(figures.overdue_s, figures.local_overdue_s) > STUCK_S:
        late = duration(max(figures.overdue_s, figures.local_overdue_s))
        return error("queue", path, f"mail has been due for {late}, and nobody sends it", look)
    if figures.held:
        advice = "look at them: pillarbox queue list; then queue release or queue remove"
        return warning("queue", path, f"held: {counted(figures.held, 'recipient')}", advice)
    if figures.local_deliveries:
        found = f"mail for {counted(figures.local_deliveries, 'recipient')} here waits, as its mail file took none"
        return warning("queue", path, found, "see why in the server's log; it is tried again")
    if old_s and figures.oldest_s > old_s:
        return warning("queue", path, shown, look)
    return ok("queue", path, shown if figures.messages else "empty")


async def check_accounts(case: Case) -> list[Finding]:
    """Whether mail files can be used, and mail that was acknowledged gets into them."""
    folder = case.config.data_path
    if not (folder / "directory.db").exists():
        return []
    try:
        return await in_thread(lambda: _accounts(folder, case.now), FILES_S)
    except TimeoutError:
        advice = "see what is wrong: pillarbox check"
        return [warning("accounts", str(folder), f"not looked at within {FILES_S:g} s", advice)]
    except (Failure, OSError) as failure:
        text = failure.text if isinstance(failure, Failure) else str(failure.strerror)
        return [error("accounts", str(folder), text, "see what is wrong: pillarbox check")]


def _accounts(folder: Path, now: float) -> list[Finding]:
    denied = [error("accounts", str(folder), *line.split("; ", 1)) for line in find_denied(folder)]
    if denied and is_shut(folder):
        return denied
    try:
        made.ensure_not_all_missing(folder)
    except Refused as lost:
        return [error("accounts", str(folder), *lost.text.split("; ", 1))]
    directory = Directory(folder / "directory.db", clock=lambda: now)
    try:
        known = {
            account.id: account.address
            for account in directory.accounts()
            if may_look(account_path(folder / "accounts", account.id).parent)
        }
    finally:
        directory.close()
    waiting = {
        account: each for account, each in find_waiting(folder, now).items() if account in known
    }
    lacking = {account: each for account, each in waiting.items() if not each.is_missing}
    unusable = dict(find_unusable(folder, known))
    findings = denied + [
        error("accounts", known[account], why, "then the server takes its mail again by itself")
        if (why := unusable.get(account))
        else _judge_account(folder, account, known[account], lacking.get(account), now)
        for account in sorted({*unusable, *lacking})
    ]
    findings += [
        error(
            "accounts",
            known[account],
            "; ".join(["its mail file is missing", *_how_much(waiting.get(account), now)]),
            how_to_mend(known[account]),
        )
        for account in sorted(find_missing(folder, known))
    ]
    findings += [_judge_journal(path) for path in kept_aside(folder)]
    shown = f"{counted(len(known), 'account')}, no mail waits for a mail file"
    return findings or [ok("accounts", str(folder), shown)]


def _judge_journal(path: Path) -> Finding:
    written = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(path.stat().st_mtime))
    found = (
        f"a damaged journal, last written {written}: mail that was acknowledged then may be lost"
    )
    advice = (
        "what could be read is in the mail files; delete it when nobody misses mail of that time"
    )
    return error("accounts", str(path), found, advice)


def _judge_account(
    folder: Path, account: int, address: str, lacking: Lacking | None, now: float
) -> Finding:
    much = _how_much(lacking, now)
    if find_damage(account_path(folder / "accounts", account)):
        found = "; ".join(["its mail file is damaged", *much])
        advice = f"stop the server, then run: pillarbox check --repair {address}"
    else:
        found = ": ".join(["its mail file takes no mail", *much])
        advice = (
            "see why in the server's log: make room, or end what has the file; it is tried again"
        )
    return error("accounts", address, found, advice)


def _how_much(lacking: Lacking | None, now: float) -> list[str]:
    """Of mail that waits for a file, in words; none where there is none."""
    if lacking is None:
        return []
    most = "" if lacking.is_exact else "at most "
    since = f"the oldest came {duration(now - lacking.oldest)} ago"
    return [f"{most}{counted(len(lacking.queue_ids), 'message')} taken and not in it, {since}"]
