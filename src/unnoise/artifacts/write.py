"""A model into its folder.

model.json, format 2: `format`; `unnoise`, the release that wrote the file; `recipe`, resolved, and
`recipe_sha256`; `data`, the description of the data with its licence, source and fingerprint;
`weights_sha256`, of model.safetensors; `ema`, which average of the trained weights these are;
`training`, a summary of the training; `provenance`, see `Origin`; `sha256`, of all the other keys.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..recipes import resolved
from ..safe_files import atomic_folder
from ..safe_files.files import write_bytes, write_json, write_tensors
from .card import model_card
from .formats import MODEL, digest, sealed
from .origin import Origin
from .tuned import FOLDER, write_tuned

if TYPE_CHECKING:
    from .model import Model


def write_model(model: Model, folder: Path) -> Path:
    """Write an artifact; its files take the places of old ones as one. Raises ArtifactError."""
    from .model import CARD, CONFIG, WEIGHTS

    if model.origin is None:
        model.origin = Origin.here()

    def write(part: Path) -> None:
        sha256 = write_tensors(part / WEIGHTS, model.denoiser.network.state_dict())
        model.weights_sha256 = sha256
        write_json(part / CONFIG, describe(model))
        write_bytes(part / CARD, model_card(model).encode())
        (part / FOLDER).mkdir()  # empty where there are none, so that those of before go
        for each in model.tuned.values():
            write_tuned(part, each, sha256)

    atomic_folder.replace(folder, write)
    return folder


def describe(model: Model) -> dict[str, Any]:
    """The tree of model.json."""
    from .. import __version__

    recipe = resolved(model.recipe)
    return sealed(
        {
            "format": MODEL,
            "unnoise": __version__,
            "recipe": recipe,
            "recipe_sha256": digest(recipe),
            "data": model.spec.to_dict(),
            "weights_sha256": model.weights_sha256,
            "ema": model.ema,
            "training": model.training,
            "provenance": (model.origin or Origin()).to_dict(),
        }
    )
