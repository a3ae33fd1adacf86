"""The metric card: which metrics were measured on which values, with their errors."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from ..errors import DataError, unknown
from ..safe_files.safe_read import read_text
from ..safe_files.strict_json import strict_json
from .metric import GOALS, TITLES, Level, Metric, number
from .migration import migrated

FORMAT = 3


@dataclass(frozen=True)
class Provenance:
    """The origin of the samples; a field that the caller did not state is None.

    ema: which average of the weights was used. path: from data to noise. passes: network
    evaluations per sample (nfe). seeds: of the noise.
    """

    model: str | None = None
    model_hash: str | None = None
    ema: str | None = None
    path: str | None = None
    solver: str | None = None
    grid: str | None = None
    steps: int | None = None
    passes: float | None = None
    guidance: float | str | None = None
    interval: str | None = None
    rescale: float | None = None
    seeds: tuple[int, ...] | None = None
    precision: str | None = None


@dataclass(frozen=True)
class Card:
    """Every metric of one set of samples, and all that is needed to repeat or to compare it.

    samples: number of samples given; compared: points a side in one comparison; parts: number of
    comparisons averaged; per_class: points of each class a side, None unless classes were matched
    in equal numbers. directions: number of directions of the sliced distance. searched: number of
    training values that were searched for copies, out of `train_values`. levels: the loss by noise
    level, None if no model was given. judge: the settings of the learned two-sample test, None if
    it was not made. flawed: the PNG of the worst and the best samples, which the JSON leaves out.
    Hashes are sha256 of arrays (reference: of the points compared with; train: of the values
    searched) or of weights. Fields that an older format lacks are None.
    """

    data: str
    samples: int
    compared: int
    parts: int
    per_class: int | None
    subsets: int
    k: int
    folds: int
    directions: int | None
    replicates: int
    seed: int
    features: str
    features_hash: str
    features_record: Mapping[str, Any]
    reference_hash: str
    train_hash: str
    searched: int | None
    train_values: int | None
    samples_hash: str
    provenance: Provenance
    versions: Mapping[str, str]
    metrics: Mapping[str, Metric]
    levels: tuple[Level, ...] | None
    judge: Mapping[str, Any] | None
    protocol: str
    format: int = field(default=FORMAT)
    flawed: bytes | None = field(default=None, compare=False, repr=False)

    def to_json(self) -> str:
        """Return strict JSON (no NaN), keys in the order of the fields."""
        raw = {key: value for key, value in asdict(self).items() if key != "flawed"}
        return json.dumps(raw, indent=2, ensure_ascii=False, allow_nan=False) + "\n"

    @classmethod
    def from_json(cls, text: str) -> Card:
        """Read a card; a card of an older format is migrated.

        Raises DataError for broken JSON, unknown or missing keys, wrong types, a newer format.
        """
        raw = migrated(strict_json(text, "a metric card"), FORMAT)
        _keys(cls, raw, "a metric card", without="flawed")
        for key, value in raw.items():
            if key in _KINDS and not _is(value, _KINDS[key]):
                raise DataError(f"{key} of a metric card is {value!r}; it must be {_KINDS[key]}")
        for name, metric in raw["metrics"].items():
            _numbers(Metric, metric, f"metric {name!r}")
        if raw["levels"] is not None:
            for level in raw["levels"]:
                _numbers(Level, level, "a noise level")
            raw["levels"] = tuple(Level(**level) for level in raw["levels"])
        _keys(Provenance, raw["provenance"], "the provenance of a metric card")
        seeds = raw["provenance"]["seeds"]
        if seeds is not None and not (
            isinstance(seeds, list) and all(_is(s, "a whole number") for s in seeds)
        ):
            raise DataError(f"seeds of a metric card are {seeds!r}; they must be whole numbers")
        raw["provenance"]["seeds"] = None if seeds is None else tuple(seeds)
        raw["metrics"] = {name: Metric(**m) for name, m in raw["metrics"].items()}
        raw["provenance"] = Provenance(**raw["provenance"])
        return cls(**raw)

    def to_markdown(self) -> str:
        """Return Markdown: metrics, loss by noise level, origin of the samples, protocol."""

        lines = [
            f"# Metric card: {self.provenance.model or 'samples'} on {self.data or 'data'}",
            "",
            "| metric | value | 95 % interval | real data (least – most) | ideal |",
            "|---|---|---|---|---|",
        ]
        for name, m in self.metrics.items():
            lines.append(
                f"| {TITLES.get(name, name)} | **{number(m.value, m)}** | "
                f"{number(m.low, m)} – {number(m.high, m)} | {_floor(m)} | {GOALS.get(name, '')} |"
            )
        lines += _level_lines(self.levels)
        made = {k: v for k, v in asdict(self.provenance).items() if v is not None}
        if "seeds" in made:
            made["seeds"] = ", ".join(map(str, made["seeds"]))
        record = ", ".join(f"{k.replace('_', ' ')} {v}" for k, v in self.features_record.items())
        searched = "" if self.searched is None else f"{self.searched} values, "
        facts = {
            **{k.replace("_", " "): v for k, v in made.items()},
            "samples": f"{self.samples}, sha256 {self.samples_hash[:16]}",
            "features": f"{self.features}, sha256 {self.features_hash[:16]}"
            + (f" ({record})" if record else ""),
            "reference": f"{self.compared} values, sha256 {self.reference_hash[:16]}",
            "training data": f"{searched}sha256 {self.train_hash[:16]}",
            "versions": ", ".join(f"{k} {v}" for k, v in self.versions.items()),
        }
        lines += ["", "| | |", "|---|---|", *(f"| {k} | {v} |" for k, v in facts.items())]
        return "\n".join([*lines, "", "## Protocol", "", self.protocol, ""])

    def save(self, folder: str | Path) -> tuple[Path, Path]:
        """Write card.json, card.md and, if there is one, flawed.png, each whole or not at all.

        Returns the paths of card.json and card.md.
        """
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        out = []
        for name, text in (("card.json", self.to_json()), ("card.md", self.to_markdown())):
            part = folder / f".{name}.{os.getpid()}"
            part.write_text(text, encoding="utf-8")
            os.replace(part, folder / name)
            out.append(folder / name)
        if self.flawed is not None:
            part = folder / f".flawed.png.{os.getpid()}"
            part.write_bytes(self.flawed)
            os.replace(part, folder / "flawed.png")
        return out[0], out[1]


def load_card(path: str | Path) -> Card:
    """Read a card from card.json, or from the folder that holds it; raises DataError for none."""
    path = Path(path)
    path = path / "card.json" if path.is_dir() else path
    try:
        text = read_text(path, DataError)
    except DataError as error:
        raise DataError(f"no metric card can be read: {error}") from error
    try:
        return Card.from_json(text)
    except DataError as error:
        raise DataError(f"{path}: {error}") from error


def versions() -> dict[str, str]:
    """Return the versions of python and of the packages that the numbers depend on."""
    out = {"python": platform.python_version()}
    for name in ("unnoise", "torch", "numpy", "scipy", "scikit-learn"):
        try:
            out[name] = version(name)
        except PackageNotFoundError:
            out[name] = "unknown"
    return out


def _floor(m: Metric) -> str:
    if m.floor is None:
        return "–"
    if m.floor_low == m.floor_high:
        return number(m.floor, m)
    return f"{number(m.floor, m)} ({number(m.floor_low, m)} – {number(m.floor_high, m)})"


def _level_lines(levels: Sequence[Level] | None) -> list[str]:
    if levels is None:
        return []
    lines = [
        "",
        "## Loss by noise level",
        "",
        "| t (0 data, 1 noise) | held-out loss | 95 % interval | trivial | ÷ trivial | on training "
        "values |",
        "|---|---|---|---|---|---|",
    ]
    for v in levels:
        share = f"{v.loss / v.trivial:.2f}" if v.trivial else "–"
        lines.append(
            f"| {v.low:.2f} – {v.high:.2f} | **{number(v.loss)}** | {number(v.loss_low)} – "
            f"{number(v.loss_high)} | {number(v.trivial)} | {share} | {number(v.train)} |"
        )
    return lines


_OPTIONAL = " or null"
_KINDS = {
    **dict.fromkeys(("data", "features", "protocol"), "text"),
    **dict.fromkeys(("features_hash", "reference_hash", "train_hash", "samples_hash"), "text"),
    **dict.fromkeys(("samples", "compared", "parts", "subsets", "k", "folds"), "a whole number"),
    **dict.fromkeys(("replicates", "seed"), "a whole number"),
    **dict.fromkeys(
        ("per_class", "directions", "searched", "train_values"), "a whole number" + _OPTIONAL
    ),
    **dict.fromkeys(("features_record", "versions", "metrics", "provenance"), "an object"),
    "levels": "a list" + _OPTIONAL,
    "judge": "an object" + _OPTIONAL,
}
_TYPES: dict[str, type] = {"text": str, "a whole number": int, "an object": dict, "a list": list}


def _is(value: Any, kind: str) -> bool:
    if kind.endswith(_OPTIONAL):
        return value is None or _is(value, kind.removesuffix(_OPTIONAL))
    return isinstance(value, _TYPES[kind]) and not isinstance(value, bool)


def _numbers(kind: type, raw: Any, what: str) -> None:
    """Raise DataError unless every field of a Metric or Level is a number, or null by default."""
    _keys(kind, raw, what)
    optional = {f.name for f in fields(kind) if f.default is None}
    for key, value in raw.items():
        null = value is None and key in optional
        if not null and (isinstance(value, bool) or not isinstance(value, int | float)):
            raise DataError(f"{key} of {what} is {value!r}; it must be a number")


def _keys(kind: type, raw: Any, what: str, without: str = "") -> None:
    if not isinstance(raw, dict):
        raise DataError(f"{what} is {type(raw).__name__}; it must be an object")
    known = [f.name for f in fields(kind) if f.name != without]
    for key in raw:
        if key not in known:
            raise unknown(f"key of {what}", key, known, DataError)
    if missing := [key for key in known if key not in raw]:
        raise DataError(f"{what} lacks {', '.join(missing)}; evaluate again")
