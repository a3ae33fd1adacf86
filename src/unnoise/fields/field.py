"""The field: a function of (x_t, t) that returns a Prediction, which can be read in any lens."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from ..errors import InvalidArgument, Unsupported
from ..paths import Coupled, GaussianPath, as_time, expand
from .condition import Condition
from .lenses import check_lens, convert

Conditions = Condition | Mapping[str, Any] | None
_SLACK = 1e-9  # tolerance in log-SNR


class Prediction:
    """The prediction of a field at (x_t, t): `value`, in `lens`.

    `.x0 .eps .score .v .velocity` are linear combinations of x_t and value, computed on access; the
    prediction's own lens is returned unchanged. x_t, value: (batch, *event); t: () or (batch,).
    `nfe`: number of network evaluations per sample. A Prediction is never mutated.

    variance_fraction: (batch, *event) or None, the share v of log β in a step's log variance
    v·log β + (1−v)·log β̃, if the field learned it (Nichol & Dhariwal 2021, eq. 15).
    """

    __slots__ = ("lens", "nfe", "path", "t", "value", "variance_fraction", "x_t")

    def __init__(
        self,
        x_t: Tensor,
        t: Tensor,
        path: GaussianPath,
        lens: str,
        value: Tensor,
        nfe: int = 1,
        variance_fraction: Tensor | None = None,
    ) -> None:
        self.x_t, self.t, self.path, self.lens, self.value = x_t, t, path, lens, value
        self.nfe, self.variance_fraction = nfe, variance_fraction

    @staticmethod
    def of(
        lens: str,
        value: Tensor,
        x_t: Tensor,
        t: Tensor,
        path: GaussianPath,
        nfe: int = 1,
        variance_fraction: Tensor | None = None,
    ) -> Prediction:
        """Return a Prediction; raise unless the lens is known and the shapes agree."""
        if value.shape != x_t.shape:
            raise InvalidArgument(
                f"{lens} of shape {tuple(value.shape)} for x_t of shape {tuple(x_t.shape)}"
            )
        return Prediction(x_t, t, path, check_lens(lens), value, nfe, variance_fraction)

    def as_lens(self, lens: str) -> Tensor:
        """Return the prediction in `lens`.

        Raises Unsupported if its own lens does not determine that.
        """
        return convert(self.path, self.lens, lens, self.value, self.x_t, self.t)

    @property
    def x0(self) -> Tensor:
        """The conditional mean of the data."""
        return self.as_lens("x0")

    @property
    def eps(self) -> Tensor:
        """The conditional mean of the noise."""
        return self.as_lens("eps")

    @property
    def score(self) -> Tensor:
        """∇ log p_t(x_t) = −ε/σ."""
        return self.as_lens("score")

    @property
    def v(self) -> Tensor:
        """α·ε − σ·x0."""
        return self.as_lens("v")

    @property
    def velocity(self) -> Tensor:
        """dx/dt of the probability flow: α̇·x0 + σ̇·ε."""
        return self.as_lens("velocity")

    def with_value(self, lens: str, value: Tensor) -> Prediction:
        """Return a Prediction of the same point, nfe and fraction, with another mean."""
        return Prediction.of(
            lens, value, self.x_t, self.t, self.path, self.nfe, self.variance_fraction
        )


def mix(a: Prediction, b: Prediction, weight: float) -> Prediction:
    """Return a + weight·(b − a) in b's lens: affine, so the result is the same in every lens.

    A learned fraction is not mixed: the result has b's, in guidance that of the conditional model.
    Raises InvalidArgument unless both are predictions at the same x_t and t on the same path.
    """
    if a.x_t is not b.x_t and not torch.equal(a.x_t, b.x_t):
        raise InvalidArgument("predictions at different x_t cannot be mixed")
    if a.path is not b.path and a.path != b.path:
        raise InvalidArgument("predictions at different times or paths cannot be mixed")
    if a.t is not b.t and not torch.equal(torch.as_tensor(a.t), torch.as_tensor(b.t)):
        raise InvalidArgument("predictions at different times or paths cannot be mixed")
    value = torch.lerp(a.as_lens(b.lens), b.value, weight)
    return Prediction(b.x_t, b.t, b.path, b.lens, value, a.nfe + b.nfe, b.variance_fraction)


class Field(ABC):
    """A path, and a Prediction at any (x_t, t) on it; every solver takes a Field."""

    path: GaussianPath

    @abstractmethod
    def __call__(self, x_t: Tensor, t: Tensor, condition: Conditions = None) -> Prediction:
        """Return the prediction at x_t: (batch, *event), t: () or (batch,).

        A condition of None is the null.
        """

    def conditioned(self, condition: Conditions) -> Field:
        """Return this field with the condition bound, as solvers take it."""
        return Given(self, condition)

    def on_path(self, path: GaussianPath) -> Field:
        """Return the same model on another Gaussian path; see `Along`."""
        return self if path == self.path else Along(self, path)


class Given(Field):
    """A field with its condition bound."""

    def __init__(self, field: Field, condition: Conditions) -> None:
        self.field, self.path, self.condition = field, field.path, condition

    def __call__(self, x_t: Tensor, t: Tensor, condition: Conditions = None) -> Prediction:
        if condition is not None:
            raise InvalidArgument("this field's condition is bound already; pass none")
        return self.field(x_t, t, self.condition)


class Along(Field):
    """A field on another path: evaluated at x_t·ρ'/ρ, at the time of the same log-SNR.

    ρ = √(α² + σ²). x0 and ε are the same on both paths, so this is exact; it raises Unsupported at
    times whose log-SNR lies outside the range of the field's own path. A field of coupled data
    and noise stays one: its other path is `Coupled` too. A learned fraction of variance belongs to
    the steps of the field's own path, so the result has none.
    """

    def __init__(self, field: Field, path: GaussianPath) -> None:
        if path.independent and not field.path.independent:
            path = Coupled(path, getattr(field.path, "source", "gaussian"))
        self.field, self.path = field, path
        self._low, self._high = field.path.log_snr_range()

    def __call__(self, x_t: Tensor, t: Tensor, condition: Conditions = None) -> Prediction:
        own, t = self.field.path, as_time(t)
        log_snr = self.path.log_snr(t.double())
        outside = (log_snr < self._low - _SLACK) | (log_snr > self._high + _SLACK)
        if bool(outside.any()):
            wrong = float(t[outside].flatten()[0]) if t.ndim else float(t)
            raise Unsupported(
                f"t = {wrong!r} of {self.path} has log-SNR {float(self.path.log_snr(wrong)):.4g}, "
                f"outside {self._low:.4g} … {self._high:.4g} of the model's own path {own}; "
                "use a grid that stays inside"
            )
        own_t = own.time(log_snr.clamp(self._low, self._high)).clamp(0, 1)
        scale = torch.hypot(own.alpha(own_t), own.sigma(own_t)) / torch.hypot(
            self.path.alpha(t.double()), self.path.sigma(t.double())
        )
        prediction = self.field(expand(scale, x_t) * x_t, own_t.to(t.dtype), condition)
        if prediction.lens in ("x0", "eps"):
            return Prediction(x_t, t, self.path, prediction.lens, prediction.value, prediction.nfe)
        # v on the other path's circle: finite wherever the model's own prediction is
        alpha, sigma = self.path.alpha(t.double()), self.path.sigma(t.double())
        value = expand(alpha, x_t) * prediction.eps - expand(sigma, x_t) * prediction.x0
        return Prediction(x_t, t, self.path, "v", value, prediction.nfe)
