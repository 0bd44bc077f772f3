"""The figures of a server in the text format of Prometheus (version 0.0.4). What is counted stands in `core.tally`;
what is only looked at when somebody asks stands here."""

from collections.abc import Iterable, Iterator, Sequence

from pillarbox.app.canary import LIMITS_S, STAGES, Canary
from pillarbox.app.figures import Status, WorkerState
from pillarbox.app.processes import cpu_s_of_all, most_descriptors, usage_of
from pillarbox.app.readiness import DiskFigures
from pillarbox.core.tally import FAMILIES, PLACES, SERVICES, Family
from pillarbox.store.queue_figures import QueueFigures

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

Sample = tuple[tuple[str, ...], float]
"""Values of the labels, and the number."""

_BY_WORKER = (("worker", ()),)

LOOKED_AT = {
    family.name: family
    for family in (
        Family("pillarbox_build_info", "gauge", "Always 1.", (("version", ()),)),
        Family("pillarbox_ready", "gauge", "1 when /readyz says yes, else 0."),
        Family(
            "pillarbox_connections", "gauge", "Connections that are open.", (("service", SERVICES),)
        ),
        Family("pillarbox_workers", "gauge", "Workers that there should be."),
        Family(
            "pillarbox_worker_up",
            "gauge",
            "1 while a worker serves and its event loop goes round, else 0.",
            _BY_WORKER,
        ),
        Family(
            "pillarbox_worker_restarts_total",
            "counter",
            "How often a worker was started again since it had ended by a fault.",
            _BY_WORKER,
        ),
        Family(
            "pillarbox_worker_cpu_seconds_total",
            "counter",
            "CPU time of a worker since it was last started.",
            _BY_WORKER,
        ),
        Family(
            "pillarbox_worker_resident_memory_bytes", "gauge", "Memory of a worker.", _BY_WORKER
        ),
        Family(
            "pillarbox_worker_sqlite_memory_bytes",
            "gauge",
            "Of the memory of a worker, what SQLite has: pages of account files and search indexes, kept for the next"
            " look. All workers together have at most about 512 MiB.",
            _BY_WORKER,
        ),
        Family("pillarbox_worker_open_fds", "gauge", "Open files of a worker.", _BY_WORKER),
        Family(
            "pillarbox_queue_messages", "gauge", "Messages for other hosts that wait in the queue."
        ),
        Family(
            "pillarbox_queue_recipients",
            "gauge",
            "Their recipients: active (due, or at work), deferred, or held.",
            (("state", ("active", "deferred", "held")),),
        ),
        Family(
            "pillarbox_queue_oldest_seconds", "gauge", "Age of the oldest message in the queue."
        ),
        Family(
            "pillarbox_queue_local_deliveries",
            "gauge",
            "Deliveries to accounts here that could not be done at once.",
        ),
        Family("pillarbox_disk_free_bytes", "gauge", "Free space where data_dir is."),
        Family("pillarbox_disk_size_bytes", "gauge", "Size of that file system."),
        Family(
            "process_cpu_seconds_total",
            "counter",
            "CPU time of all processes of the server, those that ended included.",
        ),
        Family("process_resident_memory_bytes", "gauge", "Memory of all processes together."),
        Family("process_virtual_memory_bytes", "gauge", "Address space of all processes together."),
        Family("process_open_fds", "gauge", "Open files of all processes together."),
        Family("process_max_fds", "gauge", "How many files one process may open."),
        Family(
            "process_start_time_seconds", "gauge", "When the server was started (epoch seconds)."
        ),
    )
}
"""By name."""


CANARY = {
    family.name: family
    for family in (
        Family(
            "pillarbox_canary_seconds",
            "histogram",
            "How long the stages of the round trips of doctor --watch took that worked.",
            (("stage", STAGES),),
            LIMITS_S,
        ),
        Family(
            "pillarbox_canary_runs_total",
            "counter",
            "Round trips of doctor --watch. They are kept in data_dir: no start of the server, or of the command,"
            " begins anew.",
            (("result", ("worked", "failed")),),
        ),
        Family(
            "pillarbox_canary_last_run_timestamp_seconds",
            "gauge",
            "When doctor --watch last ended a round trip (epoch seconds), 0 for never: figures of long ago are stale.",
        ),
        Family(
            "pillarbox_canary_last_success_timestamp_seconds",
            "gauge",
            "When one last worked, 0 for never.",
        ),
        Family(
            "pillarbox_canary_interval_seconds",
            "gauge",
            "From one round trip to the next, 0 where there was none.",
        ),
    )
}
"""Of `doctor --watch`, by name."""


def all_families() -> list[Family]:
    """All that can be in an answer, sorted by name."""
    return sorted(
        (*FAMILIES.values(), *LOOKED_AT.values(), *CANARY.values()), key=lambda family: family.name
    )


def expose(
    status: Status,
    workers: list[WorkerState],
    queue: QueueFigures | None,
    disk: DiskFigures | None,
    canary: Canary,
    *,
    is_ready: bool,
) -> bytes:
    """All figures. Of a queue or a disk that could not be looked at, nothing is said."""
    lines: list[str] = []
    row = status.counts().row
    for attribute, family in FAMILIES.items():
        lines += _head(family)
        for key, place in PLACES[attribute]:
            if family.kind == "histogram":
                lines += _histogram(family, key, row[place])
            else:
                lines.append(_line(family.name, _labels(family, key), row[place][0]))
    looked_at: dict[str, list[Sample]] = {
        "pillarbox_build_info": [((status.version,), 1.0)],
        "pillarbox_ready": [((), float(is_ready))],
        **_of_workers(status, workers),
        **(_of_queue(queue) if queue is not None else {}),
        **(_of_disk(disk) if disk is not None else {}),
    }
    for name, samples in looked_at.items():
        family = LOOKED_AT[name]
        lines += _head(family)
        lines += [_line(name, _labels(family, key), value) for key, value in samples]
    lines += _of_canary(canary)
    return ("\n".join(lines) + "\n").encode()


def _of_canary(canary: Canary) -> Iterator[str]:
    samples: dict[str, list[Sample]] = {
        "pillarbox_canary_runs_total": [(("worked",), canary.worked), (("failed",), canary.failed)],
        "pillarbox_canary_last_run_timestamp_seconds": [((), canary.last_run)],
        "pillarbox_canary_last_success_timestamp_seconds": [((), canary.last_success)],
        "pillarbox_canary_interval_seconds": [((), canary.every_s)],
    }
    for name, family in CANARY.items():
        yield from _head(family)
        if family.kind == "histogram":
            for stage in STAGES:
                yield from _histogram(family, (stage,), canary.row(stage))
        for key, value in samples.get(name, ()):
            yield _line(name, _labels(family, key), value)


def _of_workers(status: Status, workers: list[WorkerState]) -> dict[str, list[Sample]]:
    own = usage_of(status.pid)
    # A server of one process is its own worker.
    children = [worker.usage for worker in workers if worker.pid and worker.pid != status.pid]

    def each(value: Iterable[float]) -> list[Sample]:
        return [((str(worker.number),), one) for worker, one in zip(workers, value, strict=True)]

    return {
        "pillarbox_connections": [
            ((name,), float(sum(worker.figures[name] for worker in workers))) for name in SERVICES
        ],
        "pillarbox_workers": [((), float(len(workers)))],
        "pillarbox_worker_up": each(float(worker.serves) for worker in workers),
        "pillarbox_worker_restarts_total": each(float(worker.restarts) for worker in workers),
        "pillarbox_worker_cpu_seconds_total": each(worker.usage.cpu_s for worker in workers),
        "pillarbox_worker_resident_memory_bytes": each(
            worker.usage.resident_octets for worker in workers
        ),
        "pillarbox_worker_sqlite_memory_bytes": each(
            worker.figures["sqlite_octets"] for worker in workers
        ),
        "pillarbox_worker_open_fds": each(worker.usage.descriptors for worker in workers),
        "process_cpu_seconds_total": [((), cpu_s_of_all(children))],
        "process_resident_memory_bytes": [
            ((), sum(one.resident_octets for one in (own, *children)))
        ],
        "process_virtual_memory_bytes": [((), sum(one.virtual_octets for one in (own, *children)))],
        "process_open_fds": [((), sum(one.descriptors for one in (own, *children)))],
        "process_max_fds": [((), most_descriptors())],
        "process_start_time_seconds": [((), status.started)],
    }


def _of_queue(queue: QueueFigures) -> dict[str, list[Sample]]:
    return {
        "pillarbox_queue_messages": [((), queue.messages)],
        "pillarbox_queue_recipients": [
            (("active",), queue.active),
            (("deferred",), queue.deferred),
            (("held",), queue.held),
        ],
        "pillarbox_queue_oldest_seconds": [((), queue.oldest_s)],
        "pillarbox_queue_local_deliveries": [((), queue.local_deliveries)],
    }


def _of_disk(disk: DiskFigures) -> dict[str, list[Sample]]:
    return {
        "pillarbox_disk_free_bytes": [((), disk.free_octets)],
        "pillarbox_disk_size_bytes": [((), disk.all_octets)],
    }


def _head(family: Family) -> list[str]:
    return [f"# HELP {family.name} {family.help}", f"# TYPE {family.name} {family.kind}"]


def _labels(family: Family, key: tuple[str, ...]) -> list[str]:
    return [f'{name}="{value}"' for (name, _), value in zip(family.labels, key, strict=True)]


def _histogram(family: Family, key: tuple[str, ...], numbers: Sequence[float]) -> Iterator[str]:
    labels = _labels(family, key)
    *counts, total = numbers
    below = 0.0
    for limit, count in zip((*map(_number, family.limits), "+Inf"), counts, strict=True):
        below += count
        yield _line(f"{family.name}_bucket", [*labels, f'le="{limit}"'], below)
    yield _line(f"{family.name}_sum", labels, total)
    yield _line(f"{family.name}_count", labels, below)


def _line(name: str, labels: list[str], value: float) -> str:
    shown = f"{{{','.join(labels)}}}" if labels else ""
    return f"{name}{shown} {_number(value)}"


def _number(value: float) -> str:
    return str(int(value)) if value == int(value) else repr(value)
