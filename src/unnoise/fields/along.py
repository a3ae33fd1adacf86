"""One model on any Gaussian path: rescale x, match the log-SNR."""

from __future__ import annotations

import torch
from torch import Tensor

from ..errors import Unsupported
from ..paths import Coupled, GaussianPath, as_time, expand
from .field import Conditions, Field, Prediction

_SLACK = 1e-9


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
