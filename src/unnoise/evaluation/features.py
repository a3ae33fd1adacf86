"""Feature spaces by name, and those that a user brings."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from ..data.dataset import fingerprint
from ..errors import DataError, InvalidArgument, unknown
from .efficientnet import check_event
from .efficientnet_weights import efficientnet
from .pixels import ValuePCA
from .shipped import features_for, load_classifier
from .sides import FeatureNet, Labelled

FEATURES = {
    "classifier": "penultimate layer of a classifier of the data's labels: shipped, or trained",
    "efficientnet": "EfficientNet-Lite0, learned on ImageNet, for colour images (--fetch: 17 MB)",
    "pca": "principal components of the raw values",
}
Extract = Callable[[Tensor], Tensor | np.ndarray]
_PROBES = 32


def named_features(
    name: str | None,
    train: Labelled,
    validation: Labelled | None = None,
    *,
    test: Labelled | None = None,
    value_range: tuple[float, float] = (0.0, 255.0),
    cache: str | Path | None = None,
    fetch: bool = False,
) -> FeatureNet:
    """Return the feature space `name` for data; None chooses as `features_for` does.

    name: a key of `FEATURES`, or the path of a classifier stored by another evaluation (its .json,
    or the folder of the run), which makes two runs comparable. value_range: of the raw values, for
    EfficientNet; cache: folder of a classifier trained now; fetch: whether EfficientNet's weights
    may be fetched through pip. Raises the errors of `check_features` and of the feature space.
    """
    labels = None if train.labels is None else torch.as_tensor(train.labels)
    check_features(
        name, tuple(train.values.shape[1:]), 0 if labels is None else len(labels.unique())
    )
    if name is None:
        return features_for(train, validation, test=test, cache=cache)
    if name not in FEATURES:
        return load_classifier(kept_classifier(name))[0]
    if name == "pca":
        return ValuePCA(train.values)
    if name == "efficientnet":
        return efficientnet(value_range, fetch=fetch)
    return features_for(train, validation, test=test, cache=cache)


def check_features(name: str | None, event: tuple[int, ...], classes: int) -> None:
    """Raise, before any work, unless the feature space `name` can be had for data.

    event: the shape of one value; classes: number of classes of the labels. Raises InvalidArgument
    for an unknown name, DataError for a classifier of data without two classes, Unsupported for
    EfficientNet on data that are not images.
    """
    if name == "efficientnet":
        check_event(event)
    elif name == "classifier" and classes < 2:
        raise DataError(
            "features 'classifier' need data with labels of two classes or more; use features "
            "'pca', or 'efficientnet' for colour images"
        )
    elif name is not None and name not in FEATURES:
        kept_classifier(name)


def kept_classifier(name: str) -> Path:
    """Return the path, without suffix, of the classifier stored at `name`.

    Raises InvalidArgument unless there is exactly one.
    """
    path = Path(name).expanduser()
    if path.is_dir():
        kept = sorted(path.glob("classifier-*.json"))
        if len(kept) == 1:
            return kept[0].with_suffix("")
        raise InvalidArgument(
            f"{path} holds {len(kept)} classifiers (classifier-*.json); give one of them, or one "
            f"of: {', '.join(FEATURES)}"
        )
    if path.suffix == ".json" and path.is_file():
        return path.with_suffix("")
    known = [*FEATURES, "the folder of a run that holds a classifier"]
    raise unknown("features", name, known)


class GivenFeatures:
    """A user's own function from raw values (n, *event) to features (n, d), as a `FeatureNet`.

    Its fingerprint is the hash of its float32 output for the first 32 of `probe` (training values):
    the same function on the same data gives comparable cards. Give `fingerprint` instead for a
    function whose results are not bitwise the same on every machine. Raises InvalidArgument unless
    exactly one of the two is given.
    """

    def __init__(
        self,
        extract: Extract,
        name: str,
        probe: Tensor | np.ndarray | None = None,
        fingerprint: str | None = None,
    ) -> None:
        if (probe is None) == (fingerprint is None):
            raise InvalidArgument(
                "features of one's own are identified by their values on some data or by a hash; "
                "give probe=train.values or fingerprint=, one of them"
            )
        self.extract, self.name = extract, name
        if fingerprint is None:
            output = self.features(torch.as_tensor(probe)[:_PROBES]).astype("<f4")
            fingerprint = hashlib.sha256(
                f"{name}{output.shape}".encode() + output.tobytes()
            ).hexdigest()
        self.fingerprint = fingerprint

    @torch.no_grad()
    def features(self, values: Tensor | np.ndarray) -> Float[np.ndarray, "n d"]:
        """Return the function's output in float64; raises InvalidArgument unless it is (n, d)."""
        found = self.extract(torch.as_tensor(values))
        found = found.detach().cpu().numpy() if isinstance(found, Tensor) else np.asarray(found)
        if found.ndim != 2 or len(found) != len(values):
            raise InvalidArgument(
                f"features {self.name!r} have shape {found.shape} for {len(values)} values; give "
                "(n, d), a row a value"
            )
        return found.astype(np.float64)


class StoredFeatures:
    """Features computed elsewhere, found again by the raw value they belong to, as a `FeatureNet`.

    pairs: (values (n, *event), features (n, d)), in the same order. Raises DataError for pairs that
    do not fit, for equal values with different features, and for a value without features.
    """

    def __init__(
        self, pairs: list[tuple[Tensor | np.ndarray, np.ndarray]], name: str = "given features"
    ) -> None:
        self.name = name
        widths = {np.shape(found)[1:] for _, found in pairs}
        if len(widths) != 1 or len(next(iter(widths))) != 1:
            raise DataError(
                f"features of shapes {[np.shape(f) for _, f in pairs]}; give (n, d) with one d"
            )
        self.rows: dict[bytes, np.ndarray] = {}
        for values, found in pairs:
            found = np.asarray(found, np.float64)
            if len(values) != len(found):
                raise DataError(
                    f"{len(found)} rows of features for {len(values)} values; give a row a value, "
                    "in the same order"
                )
            if not np.isfinite(found).all():
                raise DataError("features hold NaN or infinity; nothing can be measured on them")
            for key, row in zip(_keys(values), found, strict=True):
                if not np.array_equal(self.rows.setdefault(key, row), row):
                    raise DataError(
                        "two equal values have different features; they must be a function of the "
                        "value alone: compute them without augmentation, and in this order"
                    )
        reference, found = pairs[-1]
        self.fingerprint = fingerprint(
            torch.as_tensor(reference), torch.as_tensor(np.asarray(found, np.float32))
        )

    def features(self, values: Tensor | np.ndarray) -> Float[np.ndarray, "n d"]:
        """Return the features that were given for these values."""
        keys = _keys(values)
        if missing := sum(key not in self.rows for key in keys):
            raise DataError(
                f"{missing} of {len(keys)} values have no features given; give a row for every "
                "sample and for every value of the data"
            )
        return np.stack([self.rows[key] for key in keys])


def _keys(values: Tensor | np.ndarray) -> list[bytes]:
    array = values.cpu().numpy() if isinstance(values, Tensor) else np.asarray(values)
    return [hashlib.sha256(row.tobytes()).digest() for row in array]
