"""A campaign that loads damaged and malicious files of every kind that this project reads.

Each attack is made on a good file and loaded in a process of its own, which may take 1.5 GiB more
and a minute. It has to end in one clear error of the family, or, if the file's content is still
valid, in exactly that content. Prints a table and writes docs/campaigns/malformed.json; exits with
1 if an attack ended otherwise, took two seconds of the processor or 256 MB of memory.

    python tools/campaigns/malformed.py [--seed 0] [--only model.json] [--every 10]
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from tests.artifacts.attacks.attack import Attack  # noqa: E402
from tests.artifacts.attacks.judge import Bench, Outcome, summary  # noqa: E402
from tests.artifacts.attacks.targets import TARGETS  # noqa: E402

SECONDS, MEGABYTES = 2.0, 256.0


def problem(target: str, attack: Attack, outcome: Outcome) -> str | None:
    """Return the fault of an outcome, or None."""
    if not outcome.right:
        return f"{target}, {attack}: {outcome.how}: {outcome.text[:200]}"
    if outcome.seconds >= SECONDS or outcome.growth >= MEGABYTES:
        return f"{target}, {attack}: {outcome.seconds:.1f} s, {outcome.growth:.0f} MB"
    return None


def row(outcomes: list[tuple[Attack, Outcome]]) -> dict[str, Any]:
    """Return the counts of some outcomes."""
    hows = [outcome.how for _, outcome in outcomes]
    return {
        "attacks": len(outcomes),
        "refused": hows.count("refused"),
        "taken as what they say": hows.count("accepted"),
        "most seconds": round(max(o.seconds for _, o in outcomes), 2),
        "most MB": round(max(o.growth for _, o in outcomes), 1),
    }


def main() -> int:
    options = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    options.add_argument("--seed", type=int, default=0)
    options.add_argument("--only", choices=list(TARGETS), action="append")
    options.add_argument("--every", type=int, default=1, help="only every nth attack")
    options.add_argument("--out", type=Path, default=ROOT / "docs" / "campaigns" / "malformed.json")
    args = options.parse_args()
    torch.set_num_threads(1)
    memory = "/dev/shm" if os.path.isdir("/dev/shm") else None
    everything: list[tuple[Attack, Outcome]] = []
    by_file: dict[str, dict[str, Any]] = {}
    problems: list[str] = []
    for name in args.only or TARGETS:
        with tempfile.TemporaryDirectory(prefix="unnoise-malformed-", dir=memory) as folder:
            bench = Bench(TARGETS[name], Path(folder), args.seed)
            attacks = list(bench.attacks())[:: args.every]
            outcomes = list(zip(attacks, bench.judge_apart(attacks), strict=True))
        found = [problem(name, *outcome) for outcome in outcomes]
        problems += [p for p in found if p is not None]
        everything += outcomes
        by_file[name] = row(outcomes)
        print(name, by_file[name], flush=True)
    tree = {
        "title": "Malformed files",
        "about": "Files that were damaged or made to do damage, each loaded in a process of its "
        "own: one clear error, or exactly the file's content. `resealed` attacks corrected the "
        "hashes. Seconds are of the processor; memory is what loading added.",
        **row(everything),
        "code run": sum(o.how == "code was run" for _, o in everything),
        "seed": args.seed,
        "problems": problems,
        "by_file": by_file,
        "by_attack": summary(everything),
    }
    if args.only is None and args.every == 1:
        args.out.parent.mkdir(parents=True, exist_ok=True)
        args.out.write_text(json.dumps(tree, indent=2, ensure_ascii=False) + "\n", "utf-8")
    print(f"{'':32}{'attacks':>8}{'refused':>9}{'taken':>7}{'s':>7}{'MB':>8}")
    for name, counts in summary(everything).items():
        numbers = (counts[k] for k in ("attacks", "refused", "accepted"))
        print(f"{name:32}{next(numbers):8}{next(numbers):9}{next(numbers):7}", end="")
        print(f"{counts['seconds']:7}{counts['MB']:8}")
    print(f"{len(everything)} attacks, {len(problems)} problems")
    for line in problems:
        print(f"  {line}")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
