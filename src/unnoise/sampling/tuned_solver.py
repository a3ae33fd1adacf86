"""A tuned solver with what it was tuned for."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from ..errors import InvalidArgument
from ..recipes import SampleConfig
from ..solvers import Tuned


@dataclass(frozen=True)
class TunedSolver:
    """A tuned solver, the guidance it was tuned with, and the errors measured then."""

    solver: Tuned
    guidance: float = 1.0
    interval: tuple[float, float] | None = None
    rescale: float = 0.0
    measured: dict[str, Any] = field(default_factory=dict, compare=False)

    def for_guidance(self, config: SampleConfig) -> Tuned:
        """Return the solver. Raise InvalidArgument where the guidance is another one."""
        for name in ("guidance", "interval", "rescale"):
            asked, own = getattr(config, name), getattr(self, name)
            if asked != own:
                raise InvalidArgument(
                    f"{name} is {asked}, and the solver of {self.solver.steps} steps was tuned "
                    f"with {own}; sample with that, tune again, or take solver 'auto'"
                )
        return self.solver
