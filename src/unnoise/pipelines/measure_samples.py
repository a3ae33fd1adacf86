"""The evaluation of samples of any origin against data: a metric card without a model."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ..data import Dataset
from ..data.numpy_files import read_npy
from ..data.registry import detect, load_data
from ..errors import DataError, InvalidArgument
from ..evaluation import (
    Card,
    FeatureNet,
    GivenFeatures,
    Judge,
    Part,
    Provenance,
    StoredFeatures,
    evaluate,
    named_features,
    subsample,
)
from .measure import LEAST

HELD = 500  # most values set aside from the data if no reference is given


def measure_samples(
    samples: str | Path,
    data: str | Path,
    *,
    reference: str | Path | None = None,
    features: FeatureNet | Callable[[Tensor], Tensor | np.ndarray] | str | None = None,
    fetch: bool = False,
    cache: str | Path | None = None,
    judge: bool = True,
    seed: int = 0,
) -> Card:
    """Return the metric card of pictures in a folder or of an array, whatever made them.

    samples, data, reference: a folder of pictures, a .npy or a .npz (and for the data a built-in
    name), values of one shape and kind. The samples are compared with the reference: data on which
    their model was not trained. Without one, a fifth of the data and at most 500 values are set
    aside at random (in proportion to the classes) and the rest counts as training data; if the
    model was trained on all of the data, copying then goes unnoticed. Classes are matched if all
    sides have them. features: a FeatureNet, a function, a name or path for `named_features`, or two
    or three .npy files with commas between: features of the samples, of the data (and of the
    reference), in the order of the values. cache: folder of a classifier trained now. judge:
    whether the learned two-sample test is made. Raises
    DataError if the sides do not fit together, and the errors of reading and evaluating.
    """
    given, known = _open(samples), _open(data)
    held = None if reference is None else _open(reference)
    sides = {"samples": given, "data": known} | ({} if held is None else {"reference": held})
    for name, side in sides.items():
        if (side.spec.shape, side.spec.dtype) != (known.spec.shape, known.spec.dtype):
            raise DataError(
                f"the {name} hold {side.spec.dtype} of shape {side.spec.shape}, and the data "
                f"{known.spec.dtype} of shape {known.spec.shape}; bring them to the same"
            )
    labelled = all(side.spec.class_names is not None for side in sides.values())
    if labelled:
        for name, side in sides.items():
            if side.spec.class_names != known.spec.class_names:
                raise DataError(
                    f"the {name} have the classes {_names(side)}, and the data {_names(known)}; "
                    "give folders of the same names, or samples without labels"
                )
    stored = isinstance(features, str) and "," in features
    if stored:
        features = _stored(str(features).split(","), list(sides.values()))
    train = known
    if held is None:
        size = min(HELD, len(known) // 5)
        if size < LEAST:
            raise DataError(
                f"{len(known)} values of data leave {size} to compare with; give {5 * LEAST} or "
                "more, or held-out data as the reference"
            )
        parts = known.split({"train": None, "reference": size}, seed)
        train, held = parts["train"], parts["reference"]
    some = _part(train, labelled)
    net = _net(features, some, _part(held, labelled), known.spec.value_range, cache, fetch)
    return evaluate(
        _part(given, labelled),
        some,
        _part(held, labelled),
        net,
        data=known.spec.name if reference is None else f"{known.spec.name}, {held.spec.name}",
        train_values=len(known) if reference is not None else len(known) - len(held),
        provenance=Provenance(model=given.spec.name),
        about_reference="The reference was given as data that the maker of the samples never saw."
        if reference is not None
        else "The reference is a random part of the data; whether the maker of the samples saw it "
        "is not known.",
        judge=Judge() if judge else None,
        seed=seed,
    )


def _open(what: str | Path) -> Dataset:
    source, path = detect(str(what))
    return load_data(source, **({} if path is None else {"path": path}))


def _net(
    features: FeatureNet | Callable[[Tensor], Tensor | np.ndarray] | str | None,
    train: Part,
    held: Part,
    value_range: tuple[float, float],
    cache: str | Path | None,
    fetch: bool,
) -> FeatureNet:
    if isinstance(features, FeatureNet):
        return features
    if features is not None and not isinstance(features, str):
        return GivenFeatures(features, getattr(features, "__name__", "given"), train.values)
    return named_features(
        features, train, test=held, value_range=value_range, cache=cache,
        fetch=fetch,
    )  # fmt: skip


def _stored(paths: Sequence[str], sides: Sequence[Dataset]) -> StoredFeatures:
    if len(paths) != len(sides):
        raise InvalidArgument(
            f"{len(paths)} files of features for {len(sides)} sets of values; give one of the "
            "samples, one of the data, and one of the reference where there is one"
        )
    arrays = [read_npy(Path(path.strip())) for path in paths]
    return StoredFeatures(
        [(torch.as_tensor(s.values), a) for s, a in zip(sides, arrays, strict=True)],
        f"features given ({arrays[0].shape[-1]} numbers a value)",
    )


def _part(data: Dataset, labelled: bool) -> Part:
    some = subsample(data)
    return Part(torch.as_tensor(some.values), some.labels if labelled else None)


def _names(data: Dataset) -> str:
    names = data.spec.class_names or ()
    return ", ".join(names[:6]) + (", …" if len(names) > 6 else "")
