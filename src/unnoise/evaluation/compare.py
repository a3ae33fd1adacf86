"""A comparison of two metric cards: the better one in each metric, in standard errors."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

from ..errors import InvalidArgument
from .card import Card
from .metric import GOALS, TITLES, Metric, number

ENOUGH = 2.0  # standard errors that make a difference
REPEATED = ("frechet_ratio",)  # a multiple of another metric: shown, not counted
_REMEDIES = {
    "train_hash": "both models must be trained on the same part of the same data",
    "reference_hash": "evaluate both against the same part of the same data (--part), with the "
    "same classes",
    "features_hash": "evaluate both with the same --features; for a classifier trained on the way "
    "give the folder of the other run, as --features FOLDER",
    "compared": "evaluate both with as many samples, and enough to fill one comparison (--n)",
    "per_class": "evaluate both with as many samples of every class (--n)",
}
_REMEDY = "evaluate both by one release of unnoise and one protocol"
MUST_AGREE = (
    "train_hash", "reference_hash", "features_hash", "compared", "per_class", "subsets", "k",
    "folds", "seed",
)  # fmt: skip
_MAY_DIFFER = ("data", "samples", "parts", "replicates", "samples_hash")


@dataclass(frozen=True)
class Verdict:
    """One metric of both cards.

    standard_errors: by how much the better card is nearer to the goal, in standard errors of the
    difference; better: "A", "B", or "neither" below 2 of them.
    """

    name: str
    goal: str
    a: Metric
    b: Metric
    better: str
    standard_errors: float
    counted: bool


@dataclass(frozen=True)
class Comparison:
    """The verdicts, the fields in which the cards differ, notes for the reader, one sentence."""

    verdicts: tuple[Verdict, ...]
    differences: dict[str, tuple[Any, Any]]
    notes: tuple[str, ...]
    sentence: str

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values; an infinite number of standard errors is null."""
        return {
            "verdict": self.sentence,
            "metrics": {
                v.name: {
                    "a": asdict(v.a),
                    "b": asdict(v.b),
                    "goal": v.goal,
                    "better": v.better,
                    "standard_errors": v.standard_errors if math.isfinite(v.standard_errors)
                    else None,
                    "counted": v.counted,
                }
                for v in self.verdicts
            },
            "differences": {key: list(pair) for key, pair in self.differences.items()},
            "notes": list(self.notes),
        }  # fmt: skip

    def to_text(self) -> str:
        """Return a table for people."""
        rows = [("metric", "A", "B", "ideal", "better", "by")]
        for v in self.verdicts:
            by = f"{v.standard_errors:.1f} standard errors"
            rows.append(
                (
                    TITLES.get(v.name, v.name),
                    f"{number(v.a.value, v.a)} ± {number(v.a.standard_error)}",
                    f"{number(v.b.value, v.b)} ± {number(v.b.standard_error)}",
                    v.goal,
                    v.better,
                    by if v.better != "neither" else f"({by})",
                )
            )
        widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
        lines = [
            "  ".join(c.ljust(w) for c, w in zip(r, widths, strict=True)).rstrip() for r in rows
        ]
        what = [f"  {k}: {_short(a)} | {_short(b)}" for k, (a, b) in self.differences.items()]
        lines += ["", "what differs (A | B):", *(what or ["  nothing"]), "", *self.notes, ""]
        return "\n".join([*lines, self.sentence])


def compare(a: Card, b: Card) -> Comparison:
    """Return which card is better in which metric, nearer to its goal, and by how much.

    The error of a difference is √(error_A² + error_B²). Raises InvalidArgument, naming the field
    and the remedy, if the cards have other training data, reference, features or numbers of the
    protocol: then their values do not mean the same. Solver, steps, seeds and model may differ.
    """
    for key in MUST_AGREE:
        mine, theirs = getattr(a, key), getattr(b, key)
        if mine != theirs:
            raise InvalidArgument(
                f"these cards cannot be compared: {key} is {_shown(a, key)} and {_shown(b, key)}; "
                f"{_REMEDIES.get(key, _REMEDY)}"
            )
    shared, notes = [], []
    for name in TITLES:
        if name not in a.metrics or name not in b.metrics:
            if name in a.metrics or name in b.metrics:
                lacks = "B" if name in a.metrics else "A"
                notes.append(f"left out: {TITLES[name]}, which card {lacks} does not have")
        elif why := _incomparable(name, a, b):
            notes.append(f"left out: {TITLES[name]}, {why}")
        else:
            shared.append(_verdict(name, a.metrics[name], b.metrics[name]))
    notes.append(
        "Both cards share the reference, whose part in the errors cancels in a difference: the "
        "standard errors here are rather too large."
    )
    if a.samples_hash == b.samples_hash:
        notes.append("Both cards measure the same samples.")
    if any(m.error is None for v in shared for m in (v.a, v.b)):
        notes.append("A card of format 1 has no standard errors: they are read off its intervals.")
    return Comparison(tuple(shared), _differences(a, b), tuple(notes), _sentence(shared))


def _verdict(name: str, a: Metric, b: Metric) -> Verdict:
    goal = GOALS[name]
    error = math.hypot(a.standard_error, b.standard_error)
    lead = _distance(a.value, goal) - _distance(b.value, goal)  # above 0 where B is nearer
    errors = abs(lead) / error if error > 0 else math.inf if lead else 0.0
    better = "neither" if errors < ENOUGH else "B" if lead > 0 else "A"
    return Verdict(name, goal, a, b, better, errors, name not in REPEATED)


def _distance(value: float, goal: str) -> float:
    """Return the distance from the goal (less is better)."""
    if goal in ("low", "high"):
        return value if goal == "low" else -value
    return abs(value - float(goal))


def _incomparable(name: str, a: Card, b: Card) -> str | None:
    if name == "sliced" and a.directions != b.directions:
        return f"with {a.directions} and {b.directions} directions"
    if name in ("learned", "learned_shape", "flawed", "missed") and a.judge != b.judge:
        return "by learned tests of different settings"
    if name == "copies" and a.searched != b.searched and None not in (a.searched, b.searched):
        return f"looked for among {a.searched} and {b.searched} training values"
    if name == "denoising" and a.provenance.path != b.provenance.path:
        return (
            f"on the paths {a.provenance.path} and {b.provenance.path}, other noise at the same t"
        )
    return None


def _differences(a: Card, b: Card) -> dict[str, tuple[Any, Any]]:
    mine, theirs = asdict(a.provenance), asdict(b.provenance)
    mine |= {key: getattr(a, key) for key in _MAY_DIFFER}
    theirs |= {key: getattr(b, key) for key in _MAY_DIFFER}
    for name in sorted({*a.versions, *b.versions}):
        mine[f"version of {name}"] = a.versions.get(name)
        theirs[f"version of {name}"] = b.versions.get(name)
    return {key: (mine[key], theirs[key]) for key in mine if mine[key] != theirs[key]}


def _sentence(verdicts: list[Verdict]) -> str:
    counted = [v for v in verdicts if v.counted]
    won = {side: [v for v in counted if v.better == side] for side in "AB"}
    n, ties = len(counted), len(counted) - len(won["A"]) - len(won["B"])
    chance = f"(of {n} metrics, one in twenty differs by {ENOUGH:g} standard errors by chance)"
    if not counted:
        return "The cards have no metric in common."
    if not won["A"] and not won["B"]:
        return (
            f"No difference: none of {n} metrics differs by {ENOUGH:g} standard errors or more; "
            "more samples (--n) would show a smaller one."
        )
    if won["A"] and won["B"]:
        return (
            f"Neither is better in all: A in {_list(won['A'])}; B in {_list(won['B'])}; no "
            f"difference in {ties} {chance}."
        )
    side, other = ("A", "B") if won["A"] else ("B", "A")
    rest = f"no difference in the other {ties}" if ties else "and no tie"
    return (
        f"{side} is better in {len(won[side])} of {n} metrics, {_list(won[side])}, {other} in "
        f"none; {rest} {chance}."
    )


def _list(verdicts: list[Verdict]) -> str:
    ordered = sorted(verdicts, key=lambda v: -v.standard_errors)
    return ", ".join(
        f"{TITLES.get(v.name, v.name)} (by {v.standard_errors:.1f} standard errors)"
        for v in ordered
    )


def _shown(card: Card, key: str) -> str:
    value = getattr(card, key)
    of = {"features_hash": card.features, "train_hash": card.data, "reference_hash": card.data}
    return f"{_short(value)!r} ({of[key]})" if key in of else repr(value)


def _short(value: Any) -> Any:
    return f"{value[:12]}…" if isinstance(value, str) and len(value) == 64 else value
