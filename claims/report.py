"""docs/claims.md for people, docs/claims.json for programs."""

from __future__ import annotations

import math
import platform
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from unnoise.safe_files.files import write_bytes, write_json

from .claim import CHAPTERS, FAILS, HOLDS, WHEN, Interval, Result, Value
from .registry import library
from .runner import as_tree

MARKS = {HOLDS: "✔", FAILS: "✘", WHEN: "◐"}
SEED = 0  # every measurement draws from Streams of this seed unless its label says another


def write(results: Sequence[Result], folder: Path) -> None:
    """Write claims.md and claims.json into `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / "claims.json", json_of(results))
    write_bytes(folder / "claims.md", markdown(results).encode())


def versions() -> dict[str, str]:
    """Return the versions of the packages that the results depend on."""
    import torch

    from unnoise import __version__

    return {
        "unnoise": __version__,
        "torch": torch.__version__,
        "python": platform.python_version(),
        "library": library(),
    }


def json_of(results: Sequence[Result]) -> dict[str, Any]:
    """Return strict JSON: versions, dates, seed, and every result."""
    return {
        "format": 1,
        "versions": versions(),
        "date": max((r.date for r in results), default=""),
        "seed": SEED,
        "claims": [as_tree(r) for r in results],
    }


def markdown(results: Sequence[Result]) -> str:
    """Return a page: the count of verdicts, the claims that fail, then a table a chapter."""
    counts = {v: sum(r.finding.verdict == v for r in results) for v in MARKS}
    made = versions()
    lines = [
        "# The claims, re-measured",
        "",
        "Claims of introductions to diffusion, measured again by `make claims`. "
        f"Of {len(results)} claims {counts[HOLDS]} hold, {counts[WHEN]} hold under a condition, "
        f"{counts[FAILS]} do not hold.",
        "",
        "Intervals in [brackets] hold the truth in 95 % of repetitions; numbers without one are "
        "exact up to rounding or quadrature. Unless a line states otherwise the field is known "
        "in closed form, so that the claim is measured and not a network.",
        "",
        f"unnoise {made['unnoise']}, torch {made['torch']}, python {made['python']}, seed {SEED}, "
        f"measured {_days(results)}, {sum(r.seconds for r in results):.0f} s in all. "
        "The same results for programs: [claims.json](claims.json).",
        "",
    ]
    for chapter, title in CHAPTERS.items():
        inside = [r for r in results if r.claim.chapter == chapter]
        if not inside:
            continue
        lines += [f"## {title}", "", "| verdict | claim | measured |", "|---|---|---|"]
        lines += [_row(r) for r in inside]
        lines.append("")
    return "\n".join(lines)


def _days(results: Sequence[Result]) -> str:
    days = sorted({r.date for r in results})
    return days[0] if len(days) == 1 else f"{days[0]} to {days[-1]}" if days else "never"


def _row(result: Result) -> str:
    claim, finding = result.claim, result.finding
    verdict = f"{MARKS[finding.verdict]} **{finding.verdict}**"
    if finding.when:
        verdict += f" {finding.when}"
    made = f" Trained: {claim.trained}." if claim.trained else ""
    about = f"{claim.statement}<br><sub>{claim.source} · `{claim.name}`.{made}</sub>"
    found = "<br>".join(f"{label}: {show(value)}" for label, value in finding.measured.items())
    if finding.remark:
        found += f"<br>*{finding.remark}*"
    return f"| {' | '.join(_cell(part) for part in (verdict, about, found))} |"


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


def show(value: Value) -> str:
    """Format a number to three or four digits, with its interval if it has one."""
    if isinstance(value, Interval):
        return f"{_number(value.value)} [{_number(value.low)}, {_number(value.high)}]"
    return _number(value) if isinstance(value, float) else str(value)


def _number(x: float) -> str:
    if math.isinf(x):
        return "∞" if x > 0 else "−∞"
    if x == 0:
        return "0"
    if 1e-3 <= abs(x) < 1e5:
        digits = 4 if abs(x) < 10 else 3
        text = f"{x:.{max(0, digits - 1 - math.floor(math.log10(abs(x))))}f}"
        text = text.rstrip("0").rstrip(".") if "." in text else text
    else:
        text = f"{x:.1e}".replace("e-0", "e-").replace("e+0", "e").replace("e+", "e")
    return text.replace("-", "−")
