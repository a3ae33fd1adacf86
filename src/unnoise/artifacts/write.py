"""A model into its folder.

model.json, format 3: `format`; `unnoise`, the release that wrote the file; `recipe`, resolved, and
`recipe_sha256`; `data`, the description of the data with its licence, source and fingerprint;
`modules`, the names of the modules; `weights_sha256`, of model.safetensors, whose tensors have
names MODULE.NAME; `ema`, which average of the trained weights these are;
`training`, a summary of the training; `provenance`, see `Origin`; `sha256`, of all the other keys.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

from ..recipes import resolved
from ..safe_files import atomic_folder
from ..safe_files.files import write_bytes, write_json, write_tensors
from .artifact import CARD, CONFIG, WEIGHTS, Artifact
from .card import model_card
from .formats import MODEL, digest, sealed
from .origin import Origin
from .tuned_files import FOLDER, write_tuned

A = TypeVar("A", bound=Artifact)


def write_artifact(artifact: A, folder: Path) -> A:
    """Write an artifact and return it with its origin and the SHA-256 of its weights; its files
    take the places of old ones as one. Raises ArtifactError."""
    written = []

    def write(part: Path) -> None:
        tensors = {
            f"{name}.{key}": tensor
            for name, module in artifact.modules.items()
            for key, tensor in module.state_dict().items()
        }
        sha256 = write_tensors(part / WEIGHTS, tensors)
        made = replace(artifact, origin=artifact.origin or Origin.here(), weights_sha256=sha256)
        write_json(part / CONFIG, describe(made))
        write_bytes(part / CARD, model_card(made).encode())
        (part / FOLDER).mkdir()  # empty where there are none, so that those of before go
        for each in artifact.tuned.values():
            write_tuned(part, each, sha256)
        written.append(made)

    atomic_folder.replace(folder, write)
    return written[0]


def describe(model: Artifact) -> dict[str, Any]:
    """Return the tree of model.json."""
    from .. import __version__

    recipe = resolved(model.recipe)
    return sealed(
        {
            "format": MODEL,
            "unnoise": __version__,
            "recipe": recipe,
            "recipe_sha256": digest(recipe),
            "data": model.spec.to_dict(),
            "modules": sorted(model.modules),
            "weights_sha256": model.weights_sha256,
            "ema": model.ema,
            "training": dict(model.training),
            "provenance": (model.origin or Origin()).to_dict(),
        }
    )
