"""The contents of the folder of a trained model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import nn

from ..data import DataSpec
from ..data.conditions import ConditionSpec
from ..fields import Denoiser
from ..recipes import Recipe
from ..sampling import TunedSolver
from .origin import Origin

WEIGHTS, CONFIG, CARD = "model.safetensors", "model.json", "README.md"
DENOISER = "denoiser"


@dataclass(frozen=True, eq=False)
class Artifact:
    """Trained modules with their recipe, the description of the data and the history.

    modules: by name, today one {"denoiser": Denoiser}. training: a summary of the training, plain
    values. tuned: tuned solvers by their number of steps. origin: None before
    the artifact is saved. weights_sha256: of the file of its weights, "" before.
    """

    modules: Mapping[str, nn.Module]
    recipe: Recipe
    spec: DataSpec
    training: Mapping[str, Any] = field(default_factory=dict)
    tuned: Mapping[int, TunedSolver] = field(default_factory=dict)
    origin: Origin | None = None
    weights_sha256: str = ""

    @property
    def denoiser(self) -> Denoiser:
        """The module "denoiser"."""
        found = self.modules[DENOISER]
        assert isinstance(found, Denoiser)
        return found

    @property
    def ema(self) -> str | None:
        """The name of the average of the trained weights that these are; None if not recorded."""
        noted = self.training.get("ema")
        return None if noted is None else str(noted)

    @property
    def conditions(self) -> Mapping[str, ConditionSpec]:
        """The conditions of samples by name; empty for an unconditional model."""
        return self.spec.conditions if self.recipe.model.conditional else {}

    @property
    def classes(self) -> int:
        """The number of values of the condition "class"; 0 without that condition."""
        return self.spec.classes if self.recipe.model.conditional else 0
