"""The metric card for people: Markdown."""

from __future__ import annotations

import math
from dataclasses import asdict
from typing import TYPE_CHECKING

from .metric import GOALS, TITLES, Metric

if TYPE_CHECKING:
    from .card import Card


def markdown(card: Card) -> str:
    """The table of metrics, the loss by noise level, what made the samples, the protocol."""
    lines = [
        f"# Metric card: {card.provenance.model or 'samples'} on {card.data or 'data'}",
        "",
        "| metric | value | 95 % interval | real data (least – most) | ideal |",
        "|---|---|---|---|---|",
    ]
    for name, m in card.metrics.items():
        lines.append(
            f"| {TITLES.get(name, name)} | **{number(m.value, m)}** | "
            f"{number(m.low, m)} – {number(m.high, m)} | {_floor(m)} | {GOALS.get(name, '')} |"
        )
    lines += _levels(card)
    made = {k: v for k, v in asdict(card.provenance).items() if v is not None}
    if "seeds" in made:
        made["seeds"] = ", ".join(map(str, made["seeds"]))
    record = ", ".join(f"{k.replace('_', ' ')} {v}" for k, v in card.features_record.items())
    searched = "" if card.searched is None else f"{card.searched} values, "
    facts = {
        **{k.replace("_", " "): v for k, v in made.items()},
        "samples": f"{card.samples}, sha256 {card.samples_hash[:16]}",
        "features": f"{card.features}, sha256 {card.features_hash[:16]}"
        + (f" ({record})" if record else ""),
        "reference": f"{card.compared} values, sha256 {card.reference_hash[:16]}",
        "training data": f"{searched}sha256 {card.train_hash[:16]}",
        "versions": ", ".join(f"{k} {v}" for k, v in card.versions.items()),
    }
    lines += ["", "| | |", "|---|---|", *(f"| {k} | {v} |" for k, v in facts.items())]
    return "\n".join([*lines, "", "## Protocol", "", card.protocol, ""])


def number(x: float | None, metric: Metric | None = None) -> str:
    """Three significant digits; no digit far below the error of the metric it belongs to."""
    if x is None:
        return "–"
    if abs(x) >= 1000:
        return f"{x:.0f}"
    error = 0.0 if metric is None else metric.standard_error
    digits = 2 - _magnitude(x) if abs(x) > error else 1 - _magnitude(error)
    return f"{x:.{max(0, digits)}f}" if digits < 7 else f"{x:.2e}"


def _magnitude(x: float) -> int:
    return math.floor(math.log10(abs(x))) if x else -1


def _floor(m: Metric) -> str:
    if m.floor is None:
        return "–"
    if m.floor_low == m.floor_high:
        return number(m.floor, m)
    return f"{number(m.floor, m)} ({number(m.floor_low, m)} – {number(m.floor_high, m)})"


def _levels(card: Card) -> list[str]:
    if card.levels is None:
        return []
    lines = [
        "",
        "## Loss by noise level",
        "",
        "| t (0 data, 1 noise) | held-out loss | 95 % interval | trivial | ÷ trivial | on training "
        "values |",
        "|---|---|---|---|---|---|",
    ]
    for v in card.levels:
        share = f"{v.loss / v.trivial:.2f}" if v.trivial else "–"
        lines.append(
            f"| {v.low:.2f} – {v.high:.2f} | **{number(v.loss)}** | {number(v.loss_low)} – "
            f"{number(v.loss_high)} | {number(v.trivial)} | {share} | {number(v.train)} |"
        )
    return lines
