"""What the folder of a trained model holds."""

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
    """Trained modules with what travels with them: recipe, description of the data, history.

    modules: by name, today one {"denoiser": Denoiser}. training: a summary of the training, plain
    values. tuned: tuned solvers by their number of steps. origin: where it was made, None before
    it is saved. weights_sha256: of the file of its weights, "" before.
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
        """The module that predicts."""
        found = self.modules[DENOISER]
        assert isinstance(found, Denoiser)
        return found

    @property
    def ema(self) -> str | None:
        """Which average of the trained weights these are; None where nothing was noted."""
        noted = self.training.get("ema")
        return None if noted is None else str(noted)

    @property
    def conditions(self) -> Mapping[str, ConditionSpec]:
        """What samples may be conditioned on, by name; nothing where it is unconditional."""
        return self.spec.conditions if self.recipe.model.conditional else {}

    @property
    def classes(self) -> int:
        """The number of classes it is conditional on; 0 where it is unconditional."""
        return self.spec.classes if self.recipe.model.conditional else 0
