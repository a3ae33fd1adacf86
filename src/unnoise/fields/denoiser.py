"""A network made a field: input scaling, what its output means, and the path it was trained on."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..errors import InvalidArgument, unknown
from ..paths import GaussianPath, as_time, expand
from .condition import Condition
from .field import Conditions, Field, Prediction
from .lenses import check_lens, determinant, lens_row, require_lens

NOISE_INPUTS = ("t", "log_snr")


class Denoiser(nn.Module, Field):
    """A network with what surrounds it; a Field.

    The network is called `network(x, noise_level, condition)` with x = x_t/√(α²s² + σ²) of unit
    variance, s = `data_std`, and noise_level (batch,) float32: t, or log-SNR/4 clamped to ±5. What
    it returns is F; the prediction in lens `predicts` is
      plain:          F
      preconditioned: c·x_t + d·F, c = (a·α·s² + b·σ)/(α²s² + σ²), d = −s·det/√(α²s² + σ²),
    for the lens a·x0 + b·ε with determinant det: the choice that makes F's target of unit variance
    and its errors least amplified, which for x0 and α = 1 is EDM's (Karras et al. 2022, table 1).

    With `learned_variance` the network answers with twice the channels (axis 1): F, then r, and the
    Prediction's fraction is (r + 1)/2, not bounded (Nichol & Dhariwal 2021, sec. 3.1).

    Raises Unsupported where the lens cannot be predicted on the path, InvalidArgument where the
    network's answer does not have the channels it should.
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

    @property
    def parameter_count(self) -> int:
        """How many numbers the network has."""
        return sum(p.numel() for p in self.network.parameters())

    def forward(self, x_t: Tensor, t: Tensor, condition: Conditions = None) -> Prediction:
        """The prediction at x_t: (batch, *event), t: () or (batch,)."""
        times = as_time(t).to(x_t.device)
        alpha, sigma = self.path.alpha(times), self.path.sigma(times)
        size = torch.hypot(alpha * self.data_std, sigma)
        level = times
        if self.noise_input == "log_snr":
            level = (self.path.log_snr(times) / 4).clamp(-5, 5)
        if condition is not None:
            condition = Condition.of(condition, len(x_t)).to(x_t.device)
        dtype = next((p.dtype for p in self.network.parameters()), x_t.dtype)
        value = self.network(
            (x_t * expand(1 / size, x_t)).to(dtype), level.float().expand(len(x_t)), condition
        )
        value, fraction = value.to(x_t.dtype), None
        if self.learned_variance:
            value, fraction = self._halves(value, x_t)
        if self.preconditioned:
            a, b = lens_row(self.path, self.predicts, times)
            skip = (a * alpha * self.data_std**2 + b * sigma) / size**2
            scale = -self.data_std * determinant(self.path, self.predicts, times) / size
            value = expand(skip, x_t) * x_t + expand(scale, x_t) * value
        return Prediction.of(self.predicts, value, x_t, t, self.path, fraction=fraction)

    @staticmethod
    def _halves(value: Tensor, x_t: Tensor) -> tuple[Tensor, Tensor]:
        """What the network says of the mean, and the fraction of the variance."""
        wanted = (len(x_t), 2 * x_t.shape[1], *x_t.shape[2:])
        if value.shape != wanted:
            raise InvalidArgument(
                f"the network answers {tuple(value.shape)} and a learned variance needs {wanted}; "
                f"build it with channels_out={2 * x_t.shape[1]}, or learned_variance=False"
            )
        mean, raw = value.chunk(2, dim=1)
        return mean, (raw + 1) / 2
