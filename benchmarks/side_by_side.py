"""The common part of the comparisons: taking turns, ratios, the machine, tables and JSON.

Contestants take turns on one thread, each timed by the CPU time of this process, so that a busy
neighbour slows all of them alike; the reported number is the median of each round's own ratio.

    options = arguments(__doc__)                   # --quick, --out FOLDER
    times = rounds({"ours": f, "theirs": g}, 9)    # seconds of every call
    ratio(times, "theirs")["ours"].median          # below 1 if ours is cheaper
    write("name", {"rows": rows}, options.out)
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results"
FLAGS = ("avx2", "avx512f", "avx512_bf16", "amx_bf16")


class Spread(NamedTuple):
    """A median with its quartiles."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Iterable[float]) -> Spread:
        """Return median and quartiles of some values."""
        values = sorted(values)
        if len(values) < 2:
            return cls(values[0], values[0], values[0])
        low, _, high = statistics.quantiles(values, n=4, method="inclusive")
        return cls(statistics.median(values), low, high)

    def rounded(self, digits: int = 4) -> list[float]:
        """Return [median, lower quartile, upper quartile], to this many significant digits."""
        return [float(f"{value:.{digits}g}") for value in self]

    def __str__(self) -> str:
        return f"{self.median:.2f} [{self.low:.2f}, {self.high:.2f}]"


def rounds(
    contestants: Mapping[str, Callable[[], object]],
    rounds: int,
    warm: int = 1,
    calls: int = 1,
    clock: Callable[[], float] = time.process_time,
) -> dict[str, list[float]]:
    """Return seconds a call, of each contestant in each round; the first one changes every round.

    warm: rounds before, not timed. calls: in a row, timed together; more of them if one call takes
    less than about a millisecond.
    """
    names = list(contestants)
    times: dict[str, list[float]] = {name: [] for name in names}
    for turn in range(-warm, rounds):
        first = turn % len(names)
        for name in names[first:] + names[:first]:
            run = contestants[name]
            begun = clock()
            for _ in range(calls):
                run()
            spent = (clock() - begun) / calls
            if turn >= 0:
                times[name].append(spent)
    return times


def ratio(times: Mapping[str, Sequence[float]], base: str) -> dict[str, Spread]:
    """Return, for each contestant, the median over the rounds of its time over the base's."""
    unit = times[base]
    return {
        name: Spread.of(mine / one for mine, one in zip(spent, unit, strict=True))
        for name, spent in times.items()
    }


def speed(times: Mapping[str, Sequence[float]], base: str) -> dict[str, Spread]:
    """Return how many times faster than the base each contestant is: the inverse of `ratio`."""
    unit = times[base]
    return {
        name: Spread.of(one / mine for mine, one in zip(spent, unit, strict=True))
        for name, spent in times.items()
    }


def machine() -> dict[str, Any]:
    """Return the facts about the machine that a reader of the numbers needs."""
    import torch

    info = Path("/proc/cpuinfo")
    text = info.read_text("utf-8", "replace") if info.exists() else ""
    lines = dict(line.split(":", 1) for line in text.splitlines() if ":" in line)
    fields = {key.strip(): value.strip() for key, value in lines.items()}
    known = set(fields.get("flags", "").split())
    load = os.getloadavg() if hasattr(os, "getloadavg") else (float("nan"),)
    return {
        "processor": fields.get("model name") or platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "instructions": [flag for flag in FLAGS if flag in known],
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "threads": torch.get_num_threads(),
        "load": round(load[0], 2),
    }


def library() -> str:
    """Return a hash of the library's source, the one that the claims note."""
    if str(ROOT) not in sys.path:
        sys.path.append(str(ROOT))
    from claims.registry import library

    return library()


def arguments(
    about: str | None, prepare: Callable[[argparse.ArgumentParser], object] | None = None
) -> argparse.Namespace:
    """Parse --quick, --out and the options of `prepare`; a quick run has another default folder."""
    parser = argparse.ArgumentParser(
        description=about, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="seconds, to see that it runs")
    parser.add_argument("--out", type=Path, help="folder of the JSON (default: results/)")
    if prepare:
        prepare(parser)
    args = parser.parse_args()
    if args.out is None:
        args.out = Path(tempfile.mkdtemp(prefix="unnoise-quick-")) if args.quick else RESULTS
    return args


def write(name: str, result: Mapping[str, Any], folder: Path = RESULTS) -> Path:
    """Write `folder`/NAME.json: the result beside the machine, torch and the library's hash."""
    import torch

    whole = {"machine": machine(), "torch": torch.__version__, "library": library(), **result}
    path = folder / f"{name}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps(whole, indent=1, ensure_ascii=False, allow_nan=False)
    path.write_text(text + "\n", encoding="utf-8")
    print(f"written to {path}")
    return path


def table(rows: Sequence[Mapping[str, Any]], columns: Sequence[str] | None = None) -> str:
    """Return rows as aligned text: names to the left, numbers to the right."""
    columns = list(columns or dict.fromkeys(name for row in rows for name in row))
    cells = [[_cell(row.get(name)) for name in columns] for row in rows]
    wide = [max(map(len, column)) for column in zip(columns, *cells, strict=True)]
    numeric = [
        all(isinstance(row.get(name), int | float | Spread | None) for row in rows)
        for name in columns
    ]
    return "\n".join(
        "  ".join(
            text.rjust(width) if right else text.ljust(width)
            for text, width, right in zip(line, wide, numeric, strict=True)
        ).rstrip()
        for line in [columns, *cells]
    )


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.4g}"
    return str(value)
