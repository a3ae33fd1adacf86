"""Classifier-free guidance: a prediction moved away from the unconditional one."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ..errors import InvalidArgument
from ..fields import Condition, Field, Prediction, mix
from ..fields.field import Conditions


class ClassifierFree(Field):
    """The field that `classifier_free` returns."""

    def __init__(
        self,
        field: Field,
        scale: float,
        interval: tuple[float, float] | None = None,
        rescale: float = 0.0,
    ) -> None:
        if not math.isfinite(scale):
            raise InvalidArgument(f"guidance scale is {scale!r}; give a finite number")
        if interval is not None and not 0 <= interval[0] < interval[1] <= 1:
            raise InvalidArgument(
                f"guidance interval is {interval!r}; give two times, 0 ≤ low < high ≤ 1"
            )
        if not 0 <= rescale <= 1:
            raise InvalidArgument(f"guidance rescale is {rescale!r}; give a number from 0 to 1")
        self.field, self.path = field, field.path
        self.scale, self.interval, self.rescale = float(scale), interval, float(rescale)

    def __call__(self, x_t: Tensor, t: Tensor, condition: Conditions = None) -> Prediction:
        if condition is None:
            raise InvalidArgument(
                "classifier-free guidance needs a condition: bind one with .conditioned(condition)"
            )
        if self.rescale and x_t[0].numel() < 2:
            raise InvalidArgument(
                f"rescale compares deviations over an event, and {tuple(x_t.shape[1:])} holds one "
                "number; use rescale=0"
            )
        condition = Condition.of(condition, len(x_t))
        inside = self._inside(t)
        if self.scale == 1 or inside is False:
            return self.field(x_t, t, condition)
        if self.scale == 0 and not self.rescale and inside is True:
            return self.field(x_t, t, condition.null())
        times = t if t.ndim == 0 else torch.cat([t, t])
        twice = Condition.cat([condition, condition.null()])
        both = self.field(torch.cat([x_t, x_t]), times, twice)
        fractions = (
            (None, None) if both.variance_fraction is None else both.variance_fraction.chunk(2)
        )
        given, null = (
            Prediction(x_t, t, self.path, both.lens, value, both.nfe, fraction)
            for value, fraction in zip(both.value.chunk(2), fractions, strict=True)
        )
        guided = mix(null, given, self.scale)
        if self.rescale:
            guided = self._rescaled(guided, given)
        if isinstance(inside, Tensor):
            choose = inside.reshape(-1, *(1,) * (x_t.ndim - 1))
            guided = guided.with_value(
                guided.lens, torch.where(choose, guided.value, given.as_lens(guided.lens))
            )
        return guided

    def _inside(self, t: Tensor) -> bool | Tensor:
        """Return whether t is in the interval (ends included): a bool, or a mask for batched t."""
        if self.interval is None:
            return True
        inside = (t >= self.interval[0]) & (t <= self.interval[1])
        return bool(inside) if inside.ndim == 0 else inside

    def _rescaled(self, guided: Prediction, given: Prediction) -> Prediction:
        x0, wanted = guided.x0, given.x0
        shape = (-1, *(1,) * (x0.ndim - 1))
        ratio = (wanted.flatten(1).std(1) / x0.flatten(1).std(1)).reshape(shape)
        return guided.with_value("x0", x0 * (self.rescale * ratio + 1 - self.rescale))


def classifier_free(
    field: Field,
    scale: float,
    interval: tuple[float, float] | None = None,
    rescale: float = 0.0,
) -> ClassifierFree:
    """Return the guided field uncond + scale·(cond − uncond).

    Both halves are computed in one batched evaluation (nfe 2). scale 1 is the conditional model, 0
    the unconditional one; papers that write (1 + w)·cond − w·uncond mean scale = 1 + w. interval:
    times (low, high) of the path inside which to guide; elsewhere the conditional model, at nfe 1
    (Kynkäänniemi et al. 2024). rescale φ: the guided x0 is scaled towards the deviation of the
    conditional x0, per sample (Lin et al. 2024, there on the network's output; on x0 here, so that
    the result is the same in every lens).

    Raises InvalidArgument for a scale that is not finite, a bad interval or rescale, no condition,
    or a rescale of events of one number.
    Source: Ho & Salimans 2022.
    """
    return ClassifierFree(field, scale, interval, rescale)
