"""All deterministic samplers that can be installed against unnoise's own, at equal evaluations.

    python benchmarks/solvers.py [--problems ring,unequal] [--budgets 5,8] [--only ours]

Exact denoisers of mixtures in float64; the error of each trajectory against DOP853 at 1e-10.
Writes benchmarks/results/solvers.json, whose other cells stay, and docs/solvers.md. The peers take
about fifteen minutes of one core, ours five.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
import warnings
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).parent))

from contest import azula_peers, diffusers_peers, k_diffusion_peers, ours
from contest.arena import Arena, Contestant, OverBudget
from contest.mixtures import Exact, problems
from contest.report import document, pack, table

RESULT = Path(__file__).parent / "results" / "solvers.json"
DOCUMENT = Path(__file__).parent.parent / "docs" / "solvers.md"
BUDGETS = (5, 8, 10, 15, 20, 50)
REFUSALS = (
    ValueError, RuntimeError, IndexError, NotImplementedError, OverBudget, ZeroDivisionError,
    AssertionError, TypeError,
)  # fmt: skip


def contestants(which: str) -> list[Contestant]:
    """Return the contestants: all, or "ours" or "peers" only."""
    peers = [diffusers_peers, k_diffusion_peers, azula_peers]
    rooms = {"peers": peers, "ours": [ours], "all": [*peers, ours]}[which]
    return [c for room in rooms for c in room.contestants()]


def main() -> None:
    """Run the contest, write the result and the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--problems", default="")
    parser.add_argument("--budgets", default=",".join(map(str, BUDGETS)))
    parser.add_argument("--count", type=int, default=256)
    parser.add_argument("--only", choices=("peers", "ours", "all"), default="all")
    parser.add_argument("--out", type=Path, default=RESULT)
    args = parser.parse_args()
    torch.set_num_threads(1)
    warnings.filterwarnings("ignore")
    result = json.loads(args.out.read_text("utf-8")) if args.out.exists() else {}
    every = contestants(args.only)
    for problem in problems():
        if args.problems and problem.name not in args.problems.split(","):
            continue
        arena, begun = Arena(problem, args.count), time.time()
        check = Exact(problem, ours.PATHS["edm"][0]).check(arena.start(1.0)[:32], 0.5)
        assert check < 1e-10, f"the fast field differs from fields.Mixture by {check}"
        kept = result.setdefault(
            problem.name, {"about": problem.about, "rms": round(problem.rms, 6), "rows": {}}
        )
        for contestant in every:
            for budget in map(int, args.budgets.split(",")):
                try:
                    with torch.no_grad():
                        found = contestant.run(arena, budget)
                except REFUSALS as error:
                    found = {"refused": f"{type(error).__name__}: {error}"[:80]}
                kept["rows"].setdefault(contestant.name, {})[str(budget)] = pack(found)
        print(
            f"{problem.name}: {len(every)} contestants in {time.time() - begun:.0f} s", flush=True
        )
        args.out.parent.mkdir(exist_ok=True)
        args.out.write_text(
            json.dumps(result, separators=(",", ":"), ensure_ascii=False).replace("},", "},\n")
            + "\n",
            encoding="utf-8",
        )
    print(table(result))
    if args.out == RESULT:
        DOCUMENT.write_text(document(result, ours.PILOTS), encoding="utf-8")


if __name__ == "__main__":
    main()
