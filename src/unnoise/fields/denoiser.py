"""A network as a field: input scaling, the meaning of its output, and its training path."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from ..errors import InvalidArgument, unknown
from ..paths import GaussianPath, as_time, expand
from .condition import Condition
from .field import Conditions, Field, Prediction
from .lenses import check_lens, determinant, lens_row, require_lens
from .plain import plain

NOISE_INPUTS = ("t", "log_snr")
KEPT = 4096  # times whose coefficients are cached

# factor of x_t before the network, noise level, factors of x_t and of F after it, or None
Coefficients = tuple[Tensor, Tensor, Tensor | None, Tensor | None]


class Denoiser(nn.Module, Field):
    """A network with its scalings, a Field.

    The network is called `network(x, noise_level, condition)` with x = x_t/√(α²s² + σ²) of unit
    variance, s = `data_std`, and noise_level (batch,) float32: t, or log-SNR/4 clamped to ±5. Its
    output is F; the prediction in lens `predicts` is
      plain:          F
      preconditioned: c·x_t + d·F, c = (a·α·s² + b·σ)/(α²s² + σ²), d = −s·det/√(α²s² + σ²),
    for the lens a·x0 + b·ε with determinant det: the choice that makes F's target of unit variance
    and its errors least amplified, which for x0 and α = 1 is EDM's (Karras et al. 2022, table 1).

    With `learned_variance` the network's output has twice the channels (axis 1): F, then r, and the
    Prediction's fraction is (r + 1)/2, not bounded (Nichol & Dhariwal 2021, sec. 3.1).

    Raises Unsupported if the lens cannot be predicted on the path, InvalidArgument if the network's
    output does not have the right number of channels.
    """

    def __init__(
        self,
        network: nn.Module,
        path: GaussianPath,
        predicts: str = "v",
        preconditioned: bool = False,
        data_std: float = 1.0,
        noise_input: str = "t",
        learned_variance: bool = False,
    ) -> None:
        super().__init__()
        require_lens(path, check_lens(predicts))
        if noise_input not in NOISE_INPUTS:
            raise unknown("noise input", noise_input, NOISE_INPUTS)
        if not 0 < data_std < float("inf"):
            raise InvalidArgument(f"data_std is {data_std!r}; give a positive number")
        self.network, self.path, self.predicts = network, path, predicts
        self.preconditioned, self.data_std = preconditioned, data_std
        self.noise_input, self.learned_variance = noise_input, learned_variance
        self._kept: dict[tuple[Any, ...], Coefficients] = {}
        self._kept_for: tuple[Any, ...] = ()
        self._first: tuple[nn.Module, dict[str, Any], str] | None = None

    def __getstate__(self) -> dict[str, Any]:
        """Pickle and copy without the cache of coefficients."""
        return {**self.__dict__, "_kept": {}, "_kept_for": (), "_first": None}

    @property
    def parameter_count(self) -> int:
        """The number of the network's parameters."""
        return sum(p.numel() for p in self.network.parameters())

    def around(self, network: nn.Module) -> Denoiser:
        """Return the same denoiser around another network."""
        return Denoiser(
            network,
            self.path,
            self.predicts,
            self.preconditioned,
            self.data_std,
            self.noise_input,
            self.learned_variance,
        )

    def forward(self, x_t: Tensor, t: Tensor, condition: Conditions = None) -> Prediction:
        """Return the prediction at x_t: (batch, *event), t: () or (batch,)."""
        shrink, level, skip, scale = self._coefficients(x_t, t)
        if condition is not None:
            condition = Condition.of(condition, len(x_t)).to(x_t.device)
        value = self.network((x_t * shrink).to(self._dtype(x_t.dtype)), level, condition)
        value, fraction = value.to(x_t.dtype), None
        if self.learned_variance:
            value, fraction = self._halves(value, x_t)
        if skip is not None and scale is not None:
            value = skip * x_t + scale * value
        return Prediction.of(self.predicts, value, x_t, t, self.path, variance_fraction=fraction)

    def _coefficients(self, x_t: Tensor, t: Tensor) -> Coefficients:
        """Return the coefficients at times t; those of a single time are cached."""
        if not isinstance(t, Tensor) or t.ndim or torch.compiler.is_compiling() or not plain(t):
            return self._compute(as_time(t).to(x_t.device), x_t)
        settings = (
            self.path,
            self.predicts,
            self.preconditioned,
            self.data_std,
            self.noise_input,
        )
        if self._kept_for != settings or len(self._kept) >= KEPT:
            self._kept, self._kept_for = {}, settings
        key = (t.item(), t.dtype, x_t.dtype, x_t.device, len(x_t))
        found = self._kept.get(key)
        if found is None:
            with torch.inference_mode(False):  # so that later calls can use it
                time = torch.tensor(key[0], dtype=t.dtype, device="cpu")
                found = self._compute(as_time(time).to(x_t.device), x_t)
            self._kept[key] = found
        return found

    def _compute(self, times: Tensor, x_t: Tensor) -> Coefficients:
        alpha, sigma = self.path.alpha(times), self.path.sigma(times)
        size = torch.hypot(alpha * self.data_std, sigma)
        level = times
        if self.noise_input == "log_snr":
            level = (self.path.log_snr(times) / 4).clamp(-5, 5)
        level, skip, scale = level.float().expand(len(x_t)), None, None
        if self.preconditioned:
            a, b = lens_row(self.path, self.predicts, times)
            skip = expand((a * alpha * self.data_std**2 + b * sigma) / size**2, x_t)
            scale = -self.data_std * determinant(self.path, self.predicts, times) / size
            scale = expand(scale, x_t)
        return expand(1 / size, x_t), level, skip, scale

    def _dtype(self, without: torch.dtype) -> torch.dtype:
        """Return the dtype of the network's first parameter, or `without` if there is none.

        The place of that parameter is cached.
        """
        network, found = self._modules["network"], None
        assert network is not None
        if self._first is not None and self._first[0] is network:
            found = self._first[1].get(self._first[2])
        if found is None:
            for module in network.modules():
                for name, found in module._parameters.items():
                    if found is not None:
                        self._first = (network, module._parameters, name)
                        return found.dtype
            return without
        return found.dtype

    @staticmethod
    def _halves(value: Tensor, x_t: Tensor) -> tuple[Tensor, Tensor]:
        """Return the mean's part of the network's output, and the fraction of the variance."""
        wanted = (len(x_t), 2 * x_t.shape[1], *x_t.shape[2:])
        if value.shape != wanted:
            raise InvalidArgument(
                f"the network returns {tuple(value.shape)} and a learned variance needs {wanted}; "
                f"build it with channels_out={2 * x_t.shape[1]}, or learned_variance=False"
            )
        mean, raw = value.chunk(2, dim=1)
        return mean, (raw + 1) / 2
