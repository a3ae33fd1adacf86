"""The choice of a recipe for given data: sizes and lengths from the data's shape and number."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..data import Dataset, detect, load_data
from ..errors import InvalidArgument
from .load import load_recipe, parse_override, shipped
from .schema import Recipe

SHARDED = ("parquet", "webdataset")
SIDES = {1: 512, 2: 24, 3: 12}  # positions a side at the first level, by dimensions


def choose(
    what: str,
    budget: str | float | None = None,
    size: int | None = None,
    overrides: Sequence[str] = (),
) -> Recipe:
    """Return a recipe for a built-in data set, a folder of pictures, an array file or shards.

    A built-in one with a shipped recipe of its name gets that. Otherwise the network is a U-Net
    for signals, pictures and volumes (larger ones are cut into patches first) and an MLP for
    vectors, of a size that `training.fit_to_time` fits to the time; one tenth of the data, 20 at
    least and 500 at most, is held out if there are 80 or more. `size` resizes pictures. Overrides
    are those of `load_recipe`; those of the data, such as data.layout=NCL, already apply when the
    data are read. Raises DataError if the data cannot be read.
    """
    return choose_for(what, budget, size, overrides)[0]


def choose_for(
    what: str,
    budget: str | float | None = None,
    size: int | None = None,
    overrides: Sequence[str] = (),
) -> tuple[Recipe, Dataset | None]:
    """Return the recipe of `choose`, and the data if they had to be opened, else None."""
    source, path = detect(what)
    overrides = list(overrides) + ([] if budget is None else [f"train.budget={budget}"])
    if path is None and source in shipped() and size is None:
        return load_recipe(source, overrides), None
    options: dict[str, Any] = {} if path is None else {"path": str(Path(path).resolve())}
    for keys, value in map(parse_override, overrides):
        if path is not None and keys in (["data", "path"], ["data", "source"]):
            raise InvalidArgument(
                f"{'.'.join(keys)}={value} was given beside the data {what}; give one of them"
            )
    options |= data_options(overrides)
    if size is not None:
        if source not in ("folder", *SHARDED):
            raise InvalidArgument(
                f"size={size} is for folders of pictures and for shards; {what} is {source!r}"
            )
        if options.get("size", size) != size:
            raise InvalidArgument(
                f"size={size} and data.size={options['size']} were given; give one of them"
            )
        options["size"] = size
    data = load_data(source, **options)
    held = min(500, max(20, len(data) // 10)) if len(data) >= 80 else 0
    spec = data.spec
    if spec.modality == "vector":
        network: dict[str, Any] = {"kind": "mlp", "width": 256, "depth": 4}
    else:
        network = _unet(spec.shape)
    conditions = list(spec.conditions)
    guided = conditions == ["class"]  # of several, the null of all at once is seldom trained
    chosen = load_recipe(
        {
            "name": source if path is None else _name(source, path, spec.name),
            "about": f"chosen for {len(data)} {spec.modality} samples of shape {spec.shape}",
            "data": {
                "source": source,
                **{key: value for key, value in options.items() if value is not None},
                "split": {"validation": held},
            },
            "path": {"kind": "flow"},
            "network": network,
            "model": {"predicts": "velocity"},
            "objective": {
                "weight": "velocity",
                "condition_dropout": (0.1 if guided else 0.2) if conditions else 0.0,
            },
            "train": {"budget": "5m", "batch": max(1, min(32, len(data) - held))},
            "sample": {"steps": 10, "guidance": 1.25 if guided else 1.0},
        },
        overrides,
    )
    return chosen, data


def data_options(overrides: Sequence[str]) -> dict[str, Any]:
    """Return the options of a data source that overrides such as data.layout=NCL and
    data.conditions.age=vector give."""
    options: dict[str, Any] = {}
    for keys, value in map(parse_override, overrides):
        if keys[0] != "data" or len(keys) < 2 or keys[1] in ("source", "split", "path"):
            continue
        if len(keys) == 2:
            options[keys[1]] = value
        elif keys[1] == "conditions" and len(keys) == 3:
            options["conditions"] = {**(options.get("conditions") or {}), keys[2]: value}
    return options


def fits_time(recipe: Recipe, opened: bool, overrides: Sequence[str] = ()) -> bool:
    """Return whether a chosen recipe's network is to be fitted to its time.

    `training.fit_to_time` does so if there is a budget, no part of the network was overridden, and,
    for a shipped recipe (not `opened`), the time is not its own.
    """
    given = [".".join(keys) for keys, _ in map(parse_override, overrides)]
    asked = any(name.split(".")[0] == "network" for name in given)
    return recipe.train.budget is not None and not asked and (opened or "train.budget" in given)


def _unet(shape: tuple[int, ...]) -> dict[str, Any]:
    """Return a U-Net for (channels, *size).

    Cells become channels before its first level, which has as many positions as one of at most
    SIDES a side, or thrice as many if cells would be larger than 4. A short side becomes a quarter
    of SIDES, or is not cut at all, and has 2 positions at the lowest level if it has 4 or more.

    Arithmetic is fast at few positions of many channels, and such networks learned more in the same
    time on MNIST (benchmarks/recipe_search.py --data mnist5k).
    """
    size = shape[1:]
    side = SIDES[len(size)]
    middle = math.log2(math.prod(size)) / len(size)  # of a square of as many positions
    cells = [2 ** max(0, _ceil(middle - math.log2(most))) for most in (side, 3 * side)]
    whole = 2 ** max(0, math.floor(math.log2(4 * min(size) / side)))
    patch = min(cells[0], max(4, cells[1]), whole, 1024)  # the recipe's limit
    halved = [math.log2(-(-n // patch)) for n in size if n >= 4]
    levels = min([4, math.log2(max(size) / patch) - 1, *halved])
    widths = [64, 128, 192, 256][: max(1, math.floor(levels))]
    return {"kind": "unet", "widths": widths, "blocks": 1, "patch": patch}


def _ceil(value: float) -> int:
    """Round a logarithm up, without the rounding errors of its last digits."""
    return math.ceil(round(value, 9))


def _name(source: str, path: Path, of_data: str) -> str:
    """Return the name of the folder or file; the data's for shards, whose path may be a pattern."""
    return of_data if source in SHARDED else Path(path).resolve().name or source
