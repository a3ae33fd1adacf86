"""`import unnoise` against `import torch`, each in a fresh interpreter.

`import unnoise` alone loads nothing, not even torch; what it puts off is measured too: the core
rooms, and the names `unnoise.load` and `unnoise.sample`.

    python benchmarks/import_time.py

Interpreters take turns, CPU and wall time of the import alone are taken inside each; medians are
compared. The first pair, which warms the disk's cache, is thrown away.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
from pathlib import Path

ROUNDS = 9
WANTED = 1.15
CASES = {
    "torch": "import torch",
    "unnoise": "import unnoise",
    "core rooms": "import unnoise.objectives, unnoise.solvers, unnoise.guidance",
    "load, sample": "from unnoise import load, sample",
}
RESULT = Path(__file__).parent / "results" / "import_time.json"
CODE = (
    "import time; wall, cpu = time.perf_counter(), time.process_time(); {}; "
    "print(time.perf_counter() - wall, time.process_time() - cpu)"
)


def once(statement: str) -> tuple[float, float]:
    out = subprocess.run(
        [sys.executable, "-c", CODE.format(statement)], capture_output=True, text=True, check=True
    )
    wall, cpu = map(float, out.stdout.split())
    return wall, cpu


def main() -> None:
    seen: dict[str, list[tuple[float, float]]] = {name: [] for name in CASES}
    for turn in range(ROUNDS + 1):
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
    result = {"rounds": ROUNDS, "wanted": WANTED, "imports": table}
    RESULT.parent.mkdir(exist_ok=True)
    RESULT.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    print(f"written to {RESULT}")


if __name__ == "__main__":
    main()
