"""What can be walked: a Field says one thing about (x_t, t), held in a Prediction."""

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
_SLACK = 1e-9  # in log-SNR


class Prediction:
    """What a field says about (x_t, t), as it said it: `value` in `lens`.

    `.x0 .eps .score .v .velocity` are linear combinations of x_t and value, computed when asked;
    the prediction's own lens comes back untouched. x_t, value: (batch, *event); t: () or (batch,).
    `nfe` counts the network evaluations it cost a sample. Nothing ever mutates a Prediction.

    variance_fraction: (batch, *event) or None, the share v of log β in a step's log variance
    v·log β + (1−v)·log β̃, where the field learned it (Nichol & Dhariwal 2021, eq. 15).
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
        """Build a Prediction, checking the lens's name and that the shapes agree."""
        if value.shape != x_t.shape:
            raise InvalidArgument(
                f"{lens} of shape {tuple(value.shape)} for x_t of shape {tuple(x_t.shape)}"
            )
        return Prediction(x_t, t, path, check_lens(lens), value, nfe, variance_fraction)

    def as_lens(self, lens: str) -> Tensor:
        """The prediction seen through `lens`; raises where it does not determine it."""
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
        """The same point, cost and fraction, with another thing said about the mean."""
        return Prediction.of(
            lens, value, self.x_t, self.t, self.path, self.nfe, self.variance_fraction
        )


def mix(a: Prediction, b: Prediction, weight: float) -> Prediction:
    """a + weight·(b − a) in b's lens: affine, so it means the same in every lens.

    A learned fraction is not mixed: b's is kept, in guidance that of the conditional model.
    Raises InvalidArgument unless both speak of the same x_t, t and path.
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
    """Everything that can be walked: a path, and a Prediction at any (x_t, t) on it."""

    path: GaussianPath

    @abstractmethod
    def __call__(self, x_t: Tensor, t: Tensor, condition: Conditions = None) -> Prediction:
        """The prediction at x_t: (batch, *event), t: () or (batch,); condition None is the null."""

    def conditioned(self, condition: Conditions) -> Field:
        """This field with the condition bound: solvers never see conditions."""
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
    """A field seen on another path: at x_t ask it at x_t·ρ'/ρ, at the time of the same log-SNR.

    ρ = √(α² + σ²). x0 and ε are the same on both paths, so this is exact; it raises Unsupported at
    times whose log-SNR lies outside the range of the field's own path. A field of coupled data
    and noise stays one: its other path is `Coupled` too. A learned fraction of variance belongs to
    the steps of the field's own path: here there is none.
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
