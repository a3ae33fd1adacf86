"""The metric card: what was measured, on what, with which error, as JSON and as a table."""

from __future__ import annotations

import json
import math
import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from ..data.spec import strict_json
from ..errors import DataError, InvalidArgument, unknown
from .intervals import Interval

FORMAT = 1
TITLES = {
    "frechet": "Fréchet distance",
    "frechet_ratio": "Fréchet distance ÷ floor",
    "c2st": "two-sample test accuracy (C2ST)",
    "precision": "precision",
    "recall": "recall",
    "density": "density",
    "coverage": "coverage",
    "memorisation": "memorisation",
    "copies": "near copies of training data",
    "accuracy": "requested-class accuracy",
}
GOALS = {
    "frechet": "low",
    "frechet_ratio": "1",
    "c2st": "0.5",
    "precision": "high",
    "recall": "high",
    "density": "1",
    "coverage": "high",
    "memorisation": "0.5",
    "copies": "0",
    "accuracy": "1",
}


@dataclass(frozen=True)
class Metric:
    """A value with its 95 % bootstrap interval, and what real data reach: mean, least, most."""

    value: float
    low: float
    high: float
    floor: float | None = None
    floor_low: float | None = None
    floor_high: float | None = None

    @classmethod
    def of(cls, estimate: Interval, floor: Sequence[float] = ()) -> Metric:
        """An estimate and the values that real data reached."""
        known = (sum(floor) / len(floor), min(floor), max(floor)) if len(floor) else (None,) * 3
        return cls(estimate.value, estimate.low, estimate.high, *known)


@dataclass(frozen=True)
class Provenance:
    """What made the samples; None where the caller did not say.

    passes: network passes per sample. seeds: of the noise. ema: which average of the weights.
    """

    model: str | None = None
    model_hash: str | None = None
    ema: str | None = None
    solver: str | None = None
    grid: str | None = None
    steps: int | None = None
    passes: float | None = None
    guidance: float | None = None
    interval: str | None = None
    rescale: float | None = None
    seeds: tuple[int, ...] | None = None
    precision: str | None = None


@dataclass(frozen=True)
class Card:
    """Every metric of one set of samples, and all that is needed to repeat or to compare it.

    samples: how many were given; compared: points a side in one comparison; parts: comparisons
    averaged; per_class: points of each class a side, None where classes were not matched or not
    equal. Hashes are sha256 of arrays (reference: of the points compared with) or of weights.
    """

    data: str
    samples: int
    compared: int
    parts: int
    per_class: int | None
    subsets: int
    k: int
    folds: int
    replicates: int
    seed: int
    features: str
    features_hash: str
    features_record: Mapping[str, Any]
    reference_hash: str
    train_hash: str
    samples_hash: str
    provenance: Provenance
    versions: Mapping[str, str]
    metrics: Mapping[str, Metric]
    protocol: str
    format: int = field(default=FORMAT)

    def to_json(self) -> str:
        """Strict JSON (no NaN), keys in the order of the fields."""
        return json.dumps(asdict(self), indent=2, ensure_ascii=False, allow_nan=False) + "\n"

    @classmethod
    def from_json(cls, text: str) -> Card:
        """Read a card; raises DataError for broken JSON, unknown or missing keys, wrong types."""
        raw = strict_json(text, "a metric card")
        _keys(cls, raw, "a metric card")
        if raw["format"] != FORMAT:
            raise DataError(
                f"a metric card of format {raw['format']!r}; this version reads {FORMAT}"
            )
        metrics = raw["metrics"]
        if not isinstance(metrics, dict):
            raise DataError(f"metrics of a metric card are {metrics!r}; they must be an object")
        for name, metric in metrics.items():
            _keys(Metric, metric, f"metric {name!r}")
            for key, value in metric.items():
                optional = value is None and key.startswith("floor")
                if not optional and (isinstance(value, bool) or not isinstance(value, int | float)):
                    raise DataError(f"{key} of metric {name!r} is {value!r}; it must be a number")
        _keys(Provenance, raw["provenance"], "the provenance of a metric card")
        seeds = raw["provenance"]["seeds"]
        raw["provenance"]["seeds"] = None if seeds is None else tuple(seeds)
        raw["metrics"] = {name: Metric(**m) for name, m in metrics.items()}
        raw["provenance"] = Provenance(**raw["provenance"])
        return cls(**raw)

    def to_markdown(self) -> str:
        """The table, what made the samples, and the protocol in words."""
        lines = [
            f"# Metric card: {self.provenance.model or 'samples'} on {self.data or 'data'}",
            "",
            "| metric | value | 95 % interval | real data (least – most) | ideal |",
            "|---|---|---|---|---|",
        ]
        for name, m in self.metrics.items():
            floor = "–"
            if m.floor is not None:
                floor = _number(m.floor)
                if m.floor_low != m.floor_high:
                    floor += f" ({_number(m.floor_low)} – {_number(m.floor_high)})"
            lines.append(
                f"| {TITLES.get(name, name)} | **{_number(m.value)}** | "
                f"{_number(m.low)} – {_number(m.high)} | {floor} | {GOALS.get(name, '')} |"
            )
        made = {k: v for k, v in asdict(self.provenance).items() if v is not None}
        if "seeds" in made:
            made["seeds"] = ", ".join(map(str, made["seeds"]))
        record = ", ".join(f"{k.replace('_', ' ')} {v}" for k, v in self.features_record.items())
        facts = {
            **{k.replace("_", " "): v for k, v in made.items()},
            "samples": f"{self.samples}, sha256 {self.samples_hash[:16]}",
            "features": f"{self.features}, sha256 {self.features_hash[:16]}"
            + (f" ({record})" if record else ""),
            "reference": f"{self.compared} values, sha256 {self.reference_hash[:16]}",
            "training data": f"sha256 {self.train_hash[:16]}",
            "versions": ", ".join(f"{k} {v}" for k, v in self.versions.items()),
        }
        lines += ["", "| | |", "|---|---|", *(f"| {k} | {v} |" for k, v in facts.items())]
        return "\n".join([*lines, "", "## Protocol", "", self.protocol, ""])

    def save(self, folder: str | Path) -> tuple[Path, Path]:
        """Write card.json and card.md, each whole or not at all; returns their paths."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        out = []
        for name, text in (("card.json", self.to_json()), ("card.md", self.to_markdown())):
            part = folder / f".{name}.{os.getpid()}"
            part.write_text(text, encoding="utf-8")
            os.replace(part, folder / name)
            out.append(folder / name)
        return out[0], out[1]

    def compare(self, other: Card) -> dict[str, tuple[Metric, Metric]]:
        """Both cards' metrics side by side; InvalidArgument where they are not comparable.

        Comparable cards share reference, training data, features, sizes and protocol.
        """
        same = (
            *("format", "reference_hash", "train_hash", "features_hash"),
            *("compared", "parts", "per_class", "subsets", "k", "folds"),
        )
        for key in same:
            mine, theirs = getattr(self, key), getattr(other, key)
            if mine != theirs:
                raise InvalidArgument(
                    f"these cards cannot be compared: {key} is {mine!r} and {theirs!r}; "
                    "evaluate both models by one protocol on one reference"
                )
        return {n: (m, other.metrics[n]) for n, m in self.metrics.items() if n in other.metrics}


def load_card(path: str | Path) -> Card:
    """Read card.json, or the card in a folder; raises DataError where there is none."""
    path = Path(path)
    path = path / "card.json" if path.is_dir() else path
    try:
        return Card.from_json(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"no metric card can be read at {path}: {error}") from error


def versions() -> dict[str, str]:
    """Versions of python and of the packages that the numbers depend on."""
    out = {"python": platform.python_version()}
    for name in ("unnoise", "torch", "numpy", "scipy", "scikit-learn"):
        try:
            out[name] = version(name)
        except PackageNotFoundError:
            out[name] = "unknown"
    return out


def _keys(kind: type, raw: Any, what: str) -> None:
    if not isinstance(raw, dict):
        raise DataError(f"{what} is {type(raw).__name__}; it must be an object")
    known = [f.name for f in fields(kind)]
    for key in raw:
        if key not in known:
            raise unknown(f"key of {what}", key, known, DataError)
    if missing := [key for key in known if key not in raw]:
        raise DataError(f"{what} lacks {', '.join(missing)}; evaluate again")


def _number(x: float | None) -> str:
    if x is None:
        return "–"
    return f"{x:.0f}" if abs(x) >= 1000 else f"{x:.{max(0, 2 - _magnitude(x))}f}"


def _magnitude(x: float) -> int:
    return max(-1, math.floor(math.log10(abs(x)))) if x else -1
