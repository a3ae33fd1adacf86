"""Any diffusers model, with its scheduler's config, as a Field."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from ...errors import InvalidArgument
from ...fields import Condition, Field, Prediction
from ...fields.field import Conditions
from ...paths import as_time
from .convention import Convention

NAMES = {"class": "class_labels", "text": "encoder_hidden_states"}


class DiffusersField(nn.Module, Field):
    """A diffusers network, called as by its own pipelines and read by `convention`, as a Field.

    scheduler: a scheduler, its config, or a Convention. Conditions are passed to the network by
    keyword: "class" as class_labels, "text" as encoder_hidden_states, any other name unchanged.
    null: for each of these names the value of no condition (a number or a tensor without batch
    dimension), used if a condition is dropped, or if none is given. Raises InvalidArgument if a
    null is needed and none was given.
    """

    def __init__(
        self,
        model: nn.Module,
        scheduler: Any,
        null: Mapping[str, Any] | None = None,
        mu: float | None = None,
    ) -> None:
        super().__init__()
        if not isinstance(scheduler, Convention):
            config = scheduler if isinstance(scheduler, Mapping) else scheduler.config
            scheduler = Convention.from_config(config, mu)
        elif mu is not None:
            raise InvalidArgument(f"mu is {mu!r}, and the convention is given already; drop mu")
        self.model, self.convention, self.path = model, scheduler, scheduler.path
        self.null = {name: torch.as_tensor(value) for name, value in (null or {}).items()}

    def forward(self, x_t: Tensor, t: Tensor, condition: Conditions = None) -> Prediction:
        """Return the prediction at x_t: (batch, *event), t: () or (batch,)."""
        times = as_time(t).double().to(x_t.device)
        like = next((p for p in self.model.parameters()), x_t)
        shown = self.convention.scaled(x_t, times).to(like.dtype)
        timestep = self.convention.timestep(times)
        if bool((timestep == timestep.round()).all()):
            timestep = timestep.long()
        output = self.model(
            shown, timestep.expand(len(x_t)), **self._keywords(condition, x_t), return_dict=False
        )[0]
        return self.convention.read(output, x_t, t)

    def _keywords(self, condition: Conditions, x_t: Tensor) -> dict[str, Tensor]:
        if condition is None:
            return {
                NAMES.get(name, name): value.to(x_t.device).expand(len(x_t), *value.shape)
                for name, value in self.null.items()
            }
        given = Condition.of(condition, len(x_t)).to(x_t.device)
        out = {}
        for name, value in given.values.items():
            if isinstance(value, dict):
                raise InvalidArgument(f"condition {name!r} is a tree; give a tensor")
            if not bool(given.keep[name].all()):
                if name not in self.null:
                    raise InvalidArgument(
                        f"condition {name!r} is dropped for some samples, and this field knows no "
                        f"null of it; build it with null={{{name!r}: …}}"
                    )
                null = self.null[name].to(value)
                keep = given.keep[name].reshape(-1, *[1] * (value.ndim - 1))
                value = torch.where(keep, value, null)
            out[NAMES.get(name, name)] = value
        return out
