"""A tuned solver with what it was tuned for."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from ..errors import InvalidArgument
from ..recipes import Guidance, guidance_text
from ..solvers import Tuned


@dataclass(frozen=True)
class TunedSolver:
    """A tuned solver, the guidance it was tuned with, and the errors measured then."""

    solver: Tuned
    guidance: Guidance = ()
    measured: dict[str, Any] = field(default_factory=dict, compare=False)

    def for_guidance(self, guidance: Guidance) -> Tuned:
        """Return the solver. Raises InvalidArgument where the guidance is another one."""
        if guidance != self.guidance:
            raise InvalidArgument(
                f"guidance is {guidance_text(guidance)}, and the solver of {self.solver.length} "
                f"steps was tuned with {guidance_text(self.guidance)}; sample with that, tune "
                "again, or take solver 'auto'"
            )
        return self.solver
