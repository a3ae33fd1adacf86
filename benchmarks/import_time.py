"""`import unnoise` against `import torch`, each in a fresh interpreter.

`import unnoise` alone loads nothing, not even torch; what it puts off is measured too: the core
rooms, and the names `unnoise.load` and `unnoise.sample`.

    python benchmarks/import_time.py [--quick] [--out FOLDER]

Interpreters take turns, CPU and wall time of the import alone are taken inside each; medians are
compared. The first pair, which warms the disk's cache, is thrown away.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from side_by_side import arguments, write

ROUNDS = 9
WANTED = 1.15
CASES = {
    "torch": "import torch",
    "unnoise": "import unnoise",
    "core rooms": "import unnoise.objectives, unnoise.solvers, unnoise.guidance",
    "load, sample": "from unnoise import load, sample",
}
CODE = (
    "import time; wall, cpu = time.perf_counter(), time.process_time(); {}; "
    "print(time.perf_counter() - wall, time.process_time() - cpu)"
)


def once(statement: str) -> tuple[float, float]:
    """Return CPU and wall time of a statement in a fresh interpreter."""
    out = subprocess.run(
        [sys.executable, "-c", CODE.format(statement)], capture_output=True, text=True, check=True
    )
    wall, cpu = map(float, out.stdout.split())
    return wall, cpu


def main() -> None:
    """Measure all imports, print the table, write the result."""
    seen: dict[str, list[tuple[float, float]]] = {name: [] for name in CASES}
    args = arguments(__doc__)
    count = 1 if args.quick else ROUNDS
    for turn in range(count + 1):
        for name in CASES if turn % 2 else reversed(CASES):
            spent = once(CASES[name])
            if turn:
                seen[name].append(spent)
    rows = {
        name: [statistics.median(column) for column in zip(*times, strict=True)]
        for name, times in seen.items()
    }
    base_wall, base_cpu = rows["torch"]
    print(f"{'import':14}{'wall s':>8}{'CPU s':>8}{'ratio':>8}{'CPU':>8}")
    table = {}
    for name, (wall, cpu) in rows.items():
        ratios = wall / base_wall, cpu / base_cpu
        table[name] = {"wall": wall, "cpu": cpu, "ratio": ratios[0], "cpu_ratio": ratios[1]}
        print(f"{name:14}{wall:8.3f}{cpu:8.3f}{ratios[0]:8.3f}{ratios[1]:8.3f}")
    print(f"wanted for unnoise: ratio ≤ {WANTED}")
    write("import_time", {"rounds": count, "wanted": WANTED, "imports": table}, args.out)


if __name__ == "__main__":
    main()
