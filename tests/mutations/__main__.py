"""Plant known bugs, one at a time, and see that the tests named beside each one fail.

    python -m tests.mutations                    all of them
    python -m tests.mutations chain "score of"   those whose name or file contains one of these
    python -m tests.mutations --sample 20 --seed 3
    python -m tests.mutations --list

Exits with 1 where a bug survives, where its place in the package is gone, or where one of its
tests fails without it too.
"""

from __future__ import annotations

import argparse
import os
import sys
import time

from .runner import failing_without, load, run, sample


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tests.mutations", description=(__doc__ or "").split("\n", 1)[0]
    )
    parser.add_argument("names", nargs="*", help="only those whose name or file contains one")
    parser.add_argument("--sample", type=int, metavar="N", help="only N of them")
    parser.add_argument("--seed", type=int, default=0, help="of the sample")
    parser.add_argument("--part", default="1/1", metavar="K/N", help="the K-th of N parts")
    parser.add_argument("--no-control", action="store_true", help="do not run the tests without")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="at a time")
    parser.add_argument("--list", action="store_true", help="print the names and stop")
    options = parser.parse_args()
    begun = time.monotonic()
    chosen = (
        list(load().values()) if options.sample is None else sample(options.sample, options.seed)
    )
    if options.names:
        chosen = [m for m in chosen if any(n in (m.room, m.name) or n in m.name
                                           for n in options.names)]  # fmt: skip
    k, parts = map(int, options.part.split("/"))
    chosen = chosen[k - 1 :: parts]
    if options.list or not chosen:
        print("\n".join(f"{m.room:12} {m.name}" for m in chosen) or "no such mutation")
        return 0 if options.list else 2
    bad = 0
    for mutation, wrong, seconds in run(chosen, options.jobs):
        print(f"{'MISSED' if wrong else 'caught'} {mutation.name}  [{seconds:.1f} s]")
        if wrong:
            print(f"       {wrong}")
        bad += bool(wrong)
        sys.stdout.flush()
    for test in [] if options.no_control else failing_without(chosen):
        print(f"fails without any mutation too, and so proves nothing: {test}")
        bad += 1
    seconds = time.monotonic() - begun
    ending = f"{bad} complaints" if bad else "all caught"
    print(f"{len(chosen)} mutations planted in {seconds:.0f} s, {ending}")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
