"""A model from its folder: nothing in it is run, and nothing is believed unchecked."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ..data import DataSpec
from ..data.dataset import MAX_BYTES
from ..errors import ArtifactError, UnnoiseError, unknown
from ..fields import Denoiser
from ..recipes import Recipe, build_denoiser, build_network, build_solver, load_recipe
from ..safe_files import atomic_folder
from ..safe_files.files import check_entries, check_finite, read_json, read_tensors
from ..safe_files.header import Entry
from .artifact import CONFIG, DENOISER, WEIGHTS, Artifact
from .formats import MODEL, MODEL_STEPS, digest, migrate, sealed
from .origin import Origin
from .tuned_files import read_tuned

KEYS = (
    "format", "unnoise", "recipe", "recipe_sha256", "data", "modules", "weights_sha256", "ema",
    "training", "provenance", "sha256",
)  # fmt: skip
_OLDER = {
    1: ("format", "unnoise", "recipe", "data", "weights_sha256", "training"),
    2: tuple(key for key in KEYS if key != "modules"),
}
_BARE = 2  # the newest format whose tensors have no module's name before their own
_SHA256 = re.compile("[0-9a-f]{64}")


def read_artifact(folder: Path, device: torch.device, network: nn.Module | None = None) -> Artifact:
    """Read an artifact onto a device. Raises ArtifactError naming what is wrong.

    network: takes the weights, where no recipe builds it.
    """
    try:
        place = atomic_folder.resolve(folder, CONFIG)
        if not place.exists():
            raise ArtifactError(_nothing_there(folder))
    except OSError as error:  # a name that is too long, a folder without permission
        raise ArtifactError(f"{folder} cannot be read: {error.strerror or error}") from error
    tree, found = read_tree(place)
    weights = atomic_folder.resolve(folder, WEIGHTS)
    try:
        recipe, spec = load_recipe(tree["recipe"]), DataSpec.from_dict(tree["data"])
        build_solver(recipe.sample)
    except (UnnoiseError, RecursionError) as error:
        raise ArtifactError(f"{place}: {error}") from error
    origin = Origin.from_dict(tree["provenance"], str(place))
    prefix = "" if found <= _BARE else f"{DENOISER}.network."
    sha256 = tree["weights_sha256"]
    denoiser = read_denoiser(recipe, spec, weights, str(place), sha256, prefix, network)
    denoiser.eval().requires_grad_(False).to(device)
    tuned = read_tuned(folder, sha256)
    return Artifact(
        {DENOISER: denoiser}, recipe, spec, dict(tree["training"]), tuned, origin, sha256
    )


def read_tree(place: Path) -> tuple[dict[str, Any], int]:
    """Return model.json as one of the newest format, and the format that it has, its keys and its
    SHA-256 checked. Raises ArtifactError."""
    given = read_json(place)
    found = given.get("format") if isinstance(given, dict) else None
    found = found if type(found) is int else 0
    if 1 <= found <= MODEL:
        _check_keys(given, _OLDER.get(found, KEYS), place)
        if found > 1 and given["sha256"] != sealed(given)["sha256"]:
            raise ArtifactError(
                f"{place} was changed after it was written (its SHA-256 differs): copy it again; "
                "to change it on purpose, load the model, make another with "
                "dataclasses.replace(model, …), and save that"
            )
    tree = migrate(given, MODEL_STEPS, MODEL, str(place))
    if tree["modules"] != [DENOISER]:
        raise ArtifactError(
            f"{place}: modules are {tree['modules']!r:.80}; this release reads models of one "
            f"module, {DENOISER}"
        )
    if tree["ema"] != tree["training"].get("ema"):
        raise ArtifactError(f"{place}: ema is {tree['ema']!r:.80}, and training says another")
    if tree["recipe_sha256"] != digest(tree["recipe"]):
        raise ArtifactError(f"{place}: recipe is not the one whose SHA-256 is written beside it")
    return tree, found


def _check_keys(tree: dict[str, Any], keys: tuple[str, ...], place: Path) -> None:
    for key in tree:
        if key not in keys:
            raise unknown(f"key of {place}", key, keys, ArtifactError)
    if missing := [key for key in keys if key not in tree]:
        raise ArtifactError(f"{place} lacks {', '.join(missing)}")
    for key in ("recipe", "data", "training"):
        if not isinstance(tree[key], dict):
            raise ArtifactError(f"{place}: {key} is no object of keys")
    for key in ("weights_sha256", "unnoise", "ema"):
        value = tree.get(key)
        if not isinstance(value, str) and not (key == "ema" and value is None):
            raise ArtifactError(f"{place}: {key} is {value!r:.80}; it must be a text")
    if not _SHA256.fullmatch(tree["weights_sha256"]):
        raise ArtifactError(f"{place}: weights_sha256 is no SHA-256 of 64 hexadecimal digits")


def read_denoiser(
    recipe: Recipe,
    spec: DataSpec,
    weights: Path,
    where: str,
    sha256: str | None = None,
    prefix: str = "",
    own: nn.Module | None = None,
) -> Denoiser:
    """The denoiser of a recipe with the weights of a file, whose header must list exactly the
    network's tensors, after `prefix`, before memory is taken for any. Raises ArtifactError."""

    def agree(entries: dict[str, Entry]) -> None:
        if least_tensors(recipe) > len(entries):
            raise ArtifactError(
                f"{weights} lacks tensors: it holds {len(entries)}, and the network of {where} has "
                f"at least {least_tensors(recipe)}"
            )
        with torch.device("meta"):
            plan = own
            if plan is None:
                plan = build_network(recipe.network, recipe.model, spec, 0)
        check_entries(plan, entries, str(weights), prefix)

    try:
        _check_size(spec, where)
        if own is not None and recipe.network.kind != "own":
            raise ArtifactError(
                f"{where} has a {recipe.network.kind}, which is built from its recipe; leave out "
                f"network={type(own).__name__}()"
            )
        found = read_tensors(weights, sha256, agree)
        tensors = {name.removeprefix(prefix): value for name, value in found.items()}
        check_finite(tensors, str(weights))
        denoiser = build_denoiser(recipe.path, recipe.network, recipe.model, spec, own=own)
    except ArtifactError:
        raise
    except (UnnoiseError, RuntimeError, ValueError, OverflowError) as error:
        raise ArtifactError(f"{where}: {error}") from error
    denoiser.network.load_state_dict(tensors)
    return denoiser


def least_tensors(recipe: Recipe) -> int:
    """Six for each block of the network: a bound that costs nothing to compute."""
    network = recipe.network
    if network.kind in ("mlp", "dit"):
        return 6 * network.depth
    if network.kind != "unet":
        return 0  # nothing is known of its tensors before it is built
    blocks = network.blocks
    return 6 * (sum(blocks) if isinstance(blocks, list) else blocks * len(network.widths))


def _check_size(spec: DataSpec, where: str) -> None:
    if 4 * math.prod(spec.shape) > MAX_BYTES:
        raise ArtifactError(
            f"{where}: one sample of shape {spec.shape} takes {4 * math.prod(spec.shape):,} bytes; "
            f"at most {MAX_BYTES:,} can be made"
        )


def _nothing_there(folder: Path) -> str:
    if not folder.exists():
        return f"there is no model at {folder}; give the folder of a run, such as runs/demo"
    if not folder.is_dir():
        return f"{folder} is a file; give the folder of a run, such as runs/demo"
    if (folder / "checkpoints").is_dir():
        return (
            f"{folder} has checkpoints but no finished model; finish it with "
            f"`unnoise train --resume --out {folder}`"
        )
    return f"{folder} holds no {CONFIG}; give the folder of a run, such as runs/demo"
