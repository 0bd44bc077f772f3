"""The page of all metrics: names, kinds, labels and meanings, from the tables of the code."""

from pillarbox.app.exposition import all_families
from pillarbox.core.tally import Family

HEAD = """# Metrics

Made by `python tools/reference.py --write` from `core/tally.py` and `app/exposition.py`.

`[listen] metrics` switches `/metrics` on ([howto/monitoring.md](howto/monitoring.md)). Each name, its
labels and their values stay; more may come. A histogram `NAME` is `NAME_bucket` (with the label `le`), `NAME_sum` and
`NAME_count`. Each answer tells of all workers and the supervisor together, unless there is a label `worker`.

- Counters never fall while the server runs: a worker goes on where its predecessor ended. A worker that is killed takes
  what it counted in its last second with it. (Only `pillarbox_worker_cpu_seconds_total` begins anew, as the process
  does.) When the server itself is started, all begin at zero.
- Workers tell their figures once a second; with one process they are those of the moment.
- What cannot be looked at (a queue that cannot be read, a disk that does not answer) has no sample then, and
  `pillarbox_ready` is 0.

| metric | kind | labels | what it is |
| --- | --- | --- | --- |
"""


def page() -> str:
    """As it should be."""
    return HEAD + "".join(f"{_row(family)}\n" for family in all_families())


def _row(family: Family) -> str:
    labels = "; ".join(
        f"`{name}`: {', '.join(values)}" if values else f"`{name}`"
        for name, values in family.labels
    )
    limits = (
        f" Limits: {', '.join(f'{limit:g}' for limit in family.limits)} s." if family.limits else ""
    )
    return f"| `{family.name}` | {family.kind} | {labels} | {family.help}{limits} |"
