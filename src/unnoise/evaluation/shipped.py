"""Feature classifiers on disk: the one that ships with the project, and those trained on demand.

`python -m unnoise.evaluation` trains and writes the shipped one anew.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ..data.dataset import fingerprint
from ..errors import ArtifactError, DataError, UnnoiseError, unknown
from ..safe_files.files import check_entries, check_finite, read_json, read_tensors
from ..safe_files.header import Entry
from .classifier import FeatureClassifier, layers
from .classifier_training import train_classifier
from .pixels import ValuePCA
from .sides import FeatureNet, Labelled

FORMAT = 1
WEIGHTS = Path(__file__).parent / "weights"
_CONFIG: dict[str, Any] = {  # (is a list, least number, types)
    "event": (True, 1, int), "classes": (False, 1, int), "width": (False, 1, int),
    "features": (False, 1, int), "mean": (True, -(2**40), int | float),
    "std": (True, 1e-30, int | float),
}  # fmt: skip
_KEYS = ("format", "config", "record", "fingerprint", "train_hash")


def save_classifier(model: FeatureClassifier, stem: str | Path, train_hash: str) -> Path:
    """Write STEM.safetensors and STEM.json (configuration, record, hashes); return the latter."""
    from safetensors.torch import save_file

    stem = Path(stem)
    stem.parent.mkdir(parents=True, exist_ok=True)
    card = {
        "format": FORMAT,
        "config": model.config(),
        "record": model.record,
        "fingerprint": model.fingerprint,
        "train_hash": train_hash,
    }
    part = stem.parent / f".{stem.name}.{os.getpid()}"
    save_file({k: v.contiguous() for k, v in model.state_dict().items()}, part)
    part.chmod(0o644)
    os.replace(part, _with(stem, ".safetensors"))
    part.write_text(json.dumps(card, indent=2, allow_nan=False) + "\n", encoding="utf-8")
    os.replace(part, _with(stem, ".json"))
    return _with(stem, ".json")


def load_classifier(stem: str | Path) -> tuple[FeatureClassifier, str]:
    """Return the classifier of `save_classifier` and the hash of its training data.

    Raises ArtifactError if a file is missing or damaged, or the weights are not those whose hash
    the card names.
    """
    stem = Path(stem)
    card = _card(_with(stem, ".json"))
    weights, config = _with(stem, ".safetensors"), card["config"]

    def agree(entries: dict[str, Entry]) -> None:
        """Raise ArtifactError unless the file lists exactly the network's tensors."""
        names = ("body", "to_features", "head")
        sizes = (config["classes"], config["width"], config["features"])
        parts = layers(tuple(config["event"]), *sizes)
        check_entries(nn.ModuleDict(dict(zip(names, parts, strict=True))), entries, str(weights))

    try:
        _check_config(config)
        tensors = read_tensors(weights, agree=agree)
        check_finite(tensors, str(weights))
        model = FeatureClassifier(**config)
        model.load_state_dict(tensors, assign=False)
    except (RuntimeError, TypeError, ValueError, OverflowError, UnnoiseError) as error:
        raise ArtifactError(f"the classifier at {stem} cannot be read: {error}") from error
    if model.fingerprint != card["fingerprint"]:
        raise ArtifactError(
            f"the classifier at {stem} has hash {model.fingerprint[:16]} but its card has "
            f"{str(card['fingerprint'])[:16]}; take both files from one place"
        )
    model.record = dict(card["record"])
    return model.eval(), card["train_hash"]


def shipped_classifier(name: str) -> FeatureClassifier:
    """Return a classifier that ships with the project; raises InvalidArgument on unknown names."""
    names = sorted(path.stem for path in WEIGHTS.glob("*.json"))
    if name not in names:
        raise unknown("shipped classifier", name, names)
    return load_classifier(WEIGHTS / name)[0]


def features_for(
    train: Labelled,
    validation: Labelled | None = None,
    *,
    test: Labelled | None = None,
    cache: str | Path | None = None,
    **options: Any,
) -> FeatureNet:
    """Return the feature space for data: a classifier if there are labels, else `ValuePCA`.

    The classifier is the shipped one if `train` is its training data, else the one in the folder
    `cache`, else a new one from `train_classifier(**options)`, which is stored in `cache`. Its
    accuracy on `validation` and `test` goes into its record. Raises DataError for data that do not
    fit.
    """
    if train.labels is None or len(torch.as_tensor(train.labels).unique()) < 2:
        return ValuePCA(train.values)
    train_hash = fingerprint(torch.as_tensor(train.values), torch.as_tensor(train.labels))
    for path in sorted(WEIGHTS.glob("*.json")):
        if _card(path)["train_hash"] == train_hash:
            return load_classifier(path.with_suffix(""))[0]
    stem = None if cache is None else Path(cache) / f"classifier-{train_hash[:16]}"
    if stem is not None and _with(stem, ".json").exists():
        model, of = load_classifier(stem)
        if of == train_hash:
            return model
    model = trained(train, validation, test, **options)
    if stem is not None:
        save_classifier(model, stem, train_hash)
    return model


def trained(
    train: Labelled, validation: Labelled | None, test: Labelled | None, **options: Any
) -> FeatureClassifier:
    """Train a classifier and record its accuracy on the parts that have labels."""
    if train.labels is None:
        raise DataError("a classifier needs labels; evaluate data without them by `ValuePCA`")
    model = train_classifier(train.values, train.labels, **options)
    for name, part in (("validation", validation), ("test", test)):
        if part is not None and part.labels is not None:
            model.record[f"{name}_accuracy"] = model.accuracy(part.values, part.labels)
    return model


def _with(stem: Path, ending: str) -> Path:
    return stem.parent / (stem.name + ending)


def _check_config(config: Any) -> None:
    if not isinstance(config, dict) or set(config) != set(_CONFIG):
        raise ValueError(f"its configuration has not exactly the keys {', '.join(_CONFIG)}")
    for key, value in config.items():
        listed, least, kinds = _CONFIG[key]
        most = 4 if key == "event" else 10_000
        sound = isinstance(value, list) and 0 < len(value) <= most if listed else True
        given = value if listed and sound else [value]
        if not sound or not all(
            isinstance(v, kinds) and not isinstance(v, bool) and least <= v < 2**40 for v in given
        ):
            raise ValueError(f"{key} of its configuration is {value!r:.80}, which it cannot be")


def _card(path: Path) -> dict[str, Any]:
    try:
        card = read_json(path)
    except ArtifactError as error:
        raise ArtifactError(f"no classifier card can be read: {error}") from error
    if (
        not isinstance(card, dict)
        or set(card) != set(_KEYS)
        or card["format"] != FORMAT
        or card["format"] is True
    ):
        raise ArtifactError(f"{path} is not a classifier card of format {FORMAT}; train it again")
    for key, kind in (("record", dict), ("fingerprint", str), ("train_hash", str)):
        if not isinstance(card[key], kind):
            raise ArtifactError(f"{path}: {key} is {card[key]!r:.80}, which it cannot be")
    return card
