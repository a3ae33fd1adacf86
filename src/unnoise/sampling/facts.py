"""The facts about a trained model that sampling needs."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from ..data import DataSpec
from ..data.conditions import ConditionSpec
from ..data.dataset import MAX_BYTES
from ..errors import InvalidArgument, need_count
from ..fields import Denoiser
from ..recipes import Abilities, SampleConfig
from .inference_copy import InferenceCopy
from .tuned_solver import TunedSolver


@dataclass(frozen=True)
class ModelFacts:
    """A trained model as plain facts, so that sampling imports nothing of artifacts.

    denoiser: with its float32 weights; inference: its copy, which draws samples; spec: the data;
    sample: the recipe's section; able: what it offers to sampling; tuned: tuned solvers by their
    number of steps.
    """

    denoiser: Denoiser
    inference: InferenceCopy
    spec: DataSpec
    sample: SampleConfig
    able: Abilities
    tuned: Mapping[int, TunedSolver]

    @property
    def conditions(self) -> Mapping[str, ConditionSpec]:
        """What samples may be conditioned on, by name."""
        return self.spec.conditions if self.able.conditional else {}

    @property
    def needed(self) -> list[str]:
        """The conditions that every call must give: vectors whose null was never trained."""
        never = self.able.never_null
        return [n for n, c in self.conditions.items() if c.kind == "vector" and n in never]

    def check_affordable(self, n: int) -> None:
        """Raise InvalidArgument unless n samples can be held in memory."""
        size = 4 * math.prod(self.spec.shape)
        if need_count("n", n) * size > MAX_BYTES:
            raise InvalidArgument(
                f"n is {n}, {n * size / 2**30:.0f} GiB of samples at once; draw at most "
                f"{MAX_BYTES // size} and go on with first={MAX_BYTES // size}, or stream them "
                "(model.stream; `unnoise sample --out FOLDER` or x.npy)"
            )
