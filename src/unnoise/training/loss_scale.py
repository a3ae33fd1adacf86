"""The factor on the loss that keeps gradients in float16 from vanishing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor

Kind = Literal["loss", "gradient", "explosion", "overflow"]
FIRST, INTERVAL = 2.0**16, 2000
PATIENCE = 16  # overflows in a row: as many halvings as bring the first scale to 1


class LossScale:
    """A power of two by which losses are multiplied and gradients divided (Micikevicius et al.
    2018): halved at an update whose gradients are not finite, doubled after 2000 that are.

    Scale and count stay on the device, by torch's own rule, so that no update waits for them; the
    host counts overflows in a row when it judges them. An overflow is no fault of the run until
    there are more of them than halvings.
    """

    def __init__(self, device: torch.device) -> None:
        self.scale = torch.full((), FIRST, device=device)
        self.since = torch.zeros((), dtype=torch.int32, device=device)
        self.overflows = 0

    def enlarge(self, loss: Tensor) -> Tensor:
        """Return the loss times the scale."""
        return loss * self.scale

    def restore(self, grads: Sequence[Tensor]) -> None:
        """Divide gradients of an enlarged loss by the scale, in place."""
        torch._foreach_mul_(list(grads), 1 / self.scale)

    def update(self, bad: Tensor) -> None:
        """Halve the scale where `bad`, () float32 on the device, is 1; else count towards more."""
        torch._amp_update_scale_(self.scale, self.since, bad, 2.0, 0.5, INTERVAL)

    def judge(self, kind: Kind | None) -> Kind | None:
        """Return the kind of fault of an update, "overflow" for one that a smaller scale mends."""
        self.overflows = self.overflows + 1 if kind == "gradient" else 0
        return "overflow" if kind == "gradient" and self.overflows <= PATIENCE else kind

    def state_dict(self) -> dict[str, Any]:
        """Return the state, in the form of an optimizer's."""
        state = {"scale": self.scale.clone(), "since": self.since.clone()}
        return {"state": {0: state | {"overflows": self.overflows}}, "param_groups": []}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what `state_dict` returned."""
        found = state["state"][0]
        self.scale.copy_(found["scale"])
        self.since.copy_(found["since"])
        self.overflows = int(found["overflows"])
