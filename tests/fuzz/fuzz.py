"""Fuzzing of all parsers: `make fuzz`, or `python tests/fuzz/fuzz.py [--seconds N] [TARGET ...]`.

Inputs grow from the kept corpus (tests/corpus/TARGET) by edits that Hypothesis chooses, and makes small again when one
fails: by an exception that is not allowed, by a step that takes longer than 0.1 s for a megabyte (and an allowance), or
because the same inputs leave more memory taken each time. What fails is kept in the corpus, and replayed for ever.
"""

import argparse
import faulthandler
import gc
import hashlib
import itertools
import random
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from targets import TARGETS, Target

CORPUS = Path(__file__).parents[1] / "corpus"

ALLOWANCE_S = 0.05
"""Of processor time, whatever the size: what may keep an event loop."""
HANG_S = 60.0
"""More than it was to take: then it hangs."""
SHRINK_S = 400.0
"""Hypothesis gives up making an input smaller after 300 s."""
EXAMPLES_A_ROUND = 100
MOST_EDITS = 8
FALLING = (
    "\u035d\u035c\u0315\u0301\u0323\u1dfa\u0f74\u0f72\u0eb8\u0e48\u0e38\u0670\u0652\u0651\u0650\u05c2\u05bb"
    "\u05b8\u05b4\u05b0\u094d\u3099\u093c\u0334"
)
"""Marks of falling combining class, which Unicode puts in order: by insertion, each one goes before all others."""
BLOCKS_LEFT = 200
"""Of allocated memory that a replay may leave behind; caches of regular expressions and the like fill up."""


class Slow(Exception):
    """It took too long for its size."""


class Grows(Exception):
    """Memory does."""


def corpus_of(name: str) -> list[bytes]:
    """The inputs that are kept."""
    return [path.read_bytes() for path in sorted((CORPUS / name).glob("*"))]


def check(target: Target, octets: bytes) -> None:
    """Once; raises what is not allowed, or Slow."""
    limit_s = ALLOWANCE_S + target.s_a_megabyte * len(octets) / 1_000_000
    took_s = _time(target, octets)
    if took_s > limit_s:
        took_s = min(took_s, _time(target, octets), _time(target, octets))
    if took_s > limit_s:
        raise Slow(f"{len(octets)} octets took {took_s:.3f} s, more than {limit_s:.3f} s")


def _time(target: Target, octets: bytes) -> float:
    """Of the longest step."""
    longest_s = 0.0
    start = time.thread_time()
    try:
        for _ in target.run(octets) or ():
            longest_s = max(longest_s, time.thread_time() - start)
            start = time.thread_time()
    except target.allowed:
        pass
    return max(longest_s, time.thread_time() - start)


def check_growth(target: Target, inputs: Sequence[bytes]) -> None:
    """The same again and again must not take more memory each time."""
    counts = []
    for _ in range(4):
        for octets in inputs:
            _time(target, octets)
        gc.collect()
        counts.append(sys.getallocatedblocks())
    if all(later - before > BLOCKS_LEFT for before, later in itertools.pairwise(counts)):
        raise Grows(f"allocated blocks after each of 4 replays: {counts}")


@st.composite
def edited(draw: st.DrawFn, seeds: Sequence[bytes], largest: int) -> bytes:
    """A kept input with some edits: cut, insert, overwrite, double, splice another in, repeat a piece very often, put
    marks in that have to be put in order."""
    octets = draw(st.sampled_from(seeds))
    for _ in range(draw(st.integers(0, MOST_EDITS))):
        start = draw(st.integers(0, len(octets)))
        end = min(len(octets), start + draw(st.integers(0, 40)))
        piece = octets[start:end]
        match draw(st.integers(0, 6)):
            case 0:
                octets = octets[:start] + octets[end:]
            case 1:
                octets = octets[:start] + draw(st.binary(max_size=8)) + octets[start:]
            case 2:
                octets = octets[:start] + draw(st.binary(max_size=8)) + octets[end:]
            case 3:
                octets = octets[:end] + piece + octets[end:]
            case 4:
                other = draw(st.sampled_from(seeds))
                octets = octets[:start] + other[draw(st.integers(0, len(other))) :] + octets[end:]
            case 5:
                room = max(0, largest - len(octets)) // max(1, len(piece))
                octets = (
                    octets[:end] + piece * min(room, 4 ** draw(st.integers(0, 10))) + octets[end:]
                )
            case 6:
                each = 4 ** draw(st.integers(0, 6))
                marks = "".join([mark * each for mark in FALLING]).encode()
                octets = octets[:start] + marks[: max(0, largest - len(octets))] + octets[end:]
    return octets[:largest]


def fuzz(name: str, seconds: float, dice: random.Random) -> int:
    """For so long; how many inputs it were. Raises what was found, with the smallest input in the corpus. A hang ends
    the process, with the stack."""
    faulthandler.dump_traceback_later(seconds + HANG_S, exit=True)
    try:
        return _fuzz(name, seconds, dice)
    finally:
        faulthandler.cancel_dump_traceback_later()


def _fuzz(name: str, seconds: float, dice: random.Random) -> int:
    target = TARGETS[name]
    seeds = corpus_of(name) or [b""]
    for octets in seeds:
        check(target, octets)
    check_growth(target, seeds)
    end = time.monotonic() + seconds
    count = 0
    smallest: list[bytes] = []
    latest = Path(tempfile.gettempdir(), f"pillarbox-fuzz-{name}")
    """The process may be at its end before the smallest is known."""

    def one(octets: bytes) -> None:
        nonlocal count
        count += 1
        if time.monotonic() > end and not smallest:
            return
        try:
            check(target, octets)
        except BaseException as error:
            if not smallest:
                print(f"{name}: {error}; {latest} until it is made smaller", file=sys.stderr)
            latest.write_bytes(octets)
            smallest[:] = [octets]
            faulthandler.dump_traceback_later(SHRINK_S, exit=True)
            raise

    while time.monotonic() < end:
        round_of = seed(dice.getrandbits(64))(
            settings(
                max_examples=EXAMPLES_A_ROUND,
                deadline=None,
                database=None,
                phases=[Phase.generate, Phase.shrink],
                suppress_health_check=list(HealthCheck),
            )(given(edited(seeds, target.largest))(one))
        )
        try:
            round_of()
        except Exception:
            if not smallest:
                raise
            try:
                check(target, smallest[0])
            except Exception:
                keep(name, smallest[0])
                raise
            smallest.clear()  # the machine was busy for a moment
    check_growth(target, seeds)
    return count


def keep(name: str, octets: bytes) -> Path:
    """Put it into the corpus."""
    path = CORPUS / name / f"found-{hashlib.sha256(octets).hexdigest()[:12]}"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(octets)
    print(f"kept as {path}", file=sys.stderr)
    return path


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=600.0, help="for each target")
    parser.add_argument("--seed", type=int, default=None)
    parser.add_argument("targets", nargs="*", metavar="TARGET", help=", ".join(TARGETS))
    arguments = parser.parse_args()
    number = random.getrandbits(32) if arguments.seed is None else arguments.seed
    failed = 0
    for name in arguments.targets or TARGETS:
        try:
            count = fuzz(name, arguments.seconds, random.Random(f"{number} {name}"))
        except Exception as error:
            failed += 1
            print(f"{name}: {type(error).__name__}: {error} (seed {number})", flush=True)
        else:
            print(f"{name}: {count} inputs, nothing found", flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
