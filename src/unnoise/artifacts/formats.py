"""Formats of files: what an older release wrote is brought up to date, step by step.

model.json
  1  format, unnoise, recipe, data, weights_sha256, training
  2  and recipe_sha256, ema, provenance, sha256
  3  and modules; the tensors of model.safetensors have names MODULE.NAME, before NAME in the
     network; sample.guidance of the recipe is a list of sections
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Mapping
from typing import Any

from ..errors import ArtifactError, UnnoiseError

Step = Callable[[dict[str, Any]], dict[str, Any]]
_VERSION = re.compile(r"\d{1,6}(\.\d{1,6}){0,3}[0-9A-Za-z.+]{0,20}")


def migrate(
    tree: Any,
    steps: Mapping[int, Step],
    newest: int,
    what: str,
    error: type[UnnoiseError] = ArtifactError,
) -> dict[str, Any]:
    """A tree of any known format as one of format `newest`.

    steps[k] makes a tree of format k + 1 of one of format k: a new tree, its argument is left
    alone. The key `format` says which it is, the key `unnoise` which release wrote it. Raises
    `error`, naming `what`, for anything else; for a newer format with the release that reads it.
    """
    from .. import __version__

    if not isinstance(tree, Mapping):
        raise error(f"{what} is not an object of keys; it was not written by unnoise")
    found = tree.get("format")
    oldest = min(steps, default=newest)
    if not isinstance(found, int) or isinstance(found, bool) or found < oldest:
        raise error(
            f"{what} has format {_short(found)}; this release ({__version__}) reads formats "
            f"{oldest} to {newest}: it was not written by unnoise, or is damaged"
        )
    if found > newest:
        by = tree.get("unnoise")
        known = isinstance(by, str) and by != __version__ and _VERSION.fullmatch(by)
        raise error(
            f"{what} has format {found}, written by "
            + (f"unnoise {by}; that release reads it" if known else "a newer unnoise")
            + f", and this one ({__version__}) reads formats up to {newest}: upgrade, "
            + (f"pip install 'unnoise>={by}'" if known else "pip install --upgrade unnoise")
        )
    now = dict(tree)
    for step in range(found, newest):
        try:
            now = steps[step](now)
        except (KeyError, TypeError, ValueError, AttributeError) as fault:
            raise error(
                f"{what} of format {step} is damaged: it cannot be brought to format {step + 1} "
                f"({type(fault).__name__}: {fault})"
            ) from fault
    return now


def digest(tree: Any) -> str:
    """SHA-256 of a tree of plain values, whatever the order of its keys and the white space."""
    text = json.dumps(tree, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def sealed(tree: Mapping[str, Any]) -> dict[str, Any]:
    """A tree with `sha256`, the digest of all its other keys."""
    rest = {key: value for key, value in tree.items() if key != "sha256"}
    return rest | {"sha256": digest(rest)}


def _model_2(tree: dict[str, Any]) -> dict[str, Any]:
    """Format 1 did not say when and with what a model was made, nor of what the hash was."""
    training = tree["training"]
    return sealed(
        tree
        | {
            "format": 2,
            "recipe_sha256": digest(tree["recipe"]),
            "ema": training.get("ema"),
            "provenance": {
                "unnoise": tree["unnoise"],
                "python": None,
                "torch": None,
                "platform": None,
                "written": None,
            },
        }
    )


def _model_3(tree: dict[str, Any]) -> dict[str, Any]:
    """Format 2 had one network, and did not list it."""
    return sealed(tree | {"format": 3, "modules": ["denoiser"]})


MODEL, MODEL_STEPS = 3, {1: _model_2, 2: _model_3}


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "…"
