"""Guidance by several conditions, each with a scale of its own."""

from __future__ import annotations

import math
from collections.abc import Mapping

from torch import Tensor

from ..errors import InvalidArgument
from ..fields import Condition, Field, Prediction
from ..fields.field import Conditions


class Composed(Field):
    """The field that `composed` returns."""

    def __init__(self, field: Field, scales: Mapping[str, float]) -> None:
        if not scales or not all(math.isfinite(scale) for scale in scales.values()):
            raise InvalidArgument(
                f"guidance scales are {dict(scales)!r}; give a finite number for one name or more"
            )
        self.field, self.path, self.scales = field, field.path, dict(scales)

    def __call__(self, x_t: Tensor, t: Tensor, condition: Conditions = None) -> Prediction:
        if condition is None:
            raise InvalidArgument(
                "guidance by several conditions needs them: bind them with .conditioned(condition)"
            )
        condition = Condition.of(condition, len(x_t))
        absent = condition.null()
        parts = [absent]
        for name in self.scales:
            parts.append(condition.only(name))
        count = len(parts)
        times = t if t.ndim == 0 else t.repeat(count)
        repeated = x_t.repeat(count, *(1,) * (x_t.ndim - 1))
        prediction = self.field(repeated, times, Condition.cat(parts))
        null, *alone = prediction.value.chunk(count)
        value = null.clone()
        for scale, one in zip(self.scales.values(), alone, strict=True):
            value += scale * (one - null)
        fraction = prediction.variance_fraction
        return Prediction(
            x_t, t, self.path, prediction.lens, value, count * prediction.nfe,
            None if fraction is None else fraction.chunk(count)[0],
        )  # fmt: skip


def composed(field: Field, scales: Mapping[str, float]) -> Composed:
    """Return uncond + Σ scale_i·(cond_i − uncond), cond_i given the condition of one name alone.

    For conditions that are independent given x_t the score is that of p(x)·Π p(c_i | x)^scale_i:
    with every scale 1 the exact joint conditional, which a model given all of them at once learns
    too. All are evaluated in one batch; nfe is 1 + the number of names. A name without a scale is
    null throughout. A learned variance is that of the null. With one name alone this is
    `classifier_free`. The model must have been trained on the null of all names at once, and of all
    but one: draw `condition_dropout` high enough (0.3 for two names).

    Raises InvalidArgument for no scale, a scale that is not finite, a name the condition lacks, or
    no condition. Source: Liu et al. 2022, "Compositional Visual Generation with Composable
    Diffusion Models", eq. 11.
    """
    return Composed(field, scales)
