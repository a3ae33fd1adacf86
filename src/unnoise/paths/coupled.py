"""A path whose noise end is coupled with its data, or is not noise at all."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NoReturn

from torch import Tensor

from ..errors import InvalidArgument, Unsupported
from .path import GaussianPath

if TYPE_CHECKING:
    from ..randomness import Streams

SOURCES = ("gaussian", "data")


@dataclass(frozen=True)
class Coupled(GaussianPath):
    """x_t = α(t)·x0 + σ(t)·x1 with α and σ of `base`, for any joint distribution of (x0, x1).

    For flow matching with paired or rearranged ends (optimal transport, reflow, paired data), for a
    source that is another data set (`source="data"`), and for flows of which only the velocity is
    known. x1 takes the place of ε on a Gaussian path: a field predicts E[x0|x_t] and E[x1|x_t], and
    its velocity α̇·E[x0|x_t] + σ̇·E[x1|x_t] moves the marginals as the path does, whatever the
    coupling (Lipman et al. 2023; Liu et al. 2023). The lenses x0, eps, v and velocity, every
    deterministic solver and `on_path` hold unchanged. The rest is refused with Unsupported:
    −E[x1|x_t]/σ is not the score, no linear SDE has these marginals, and no stochastic solver
    preserves them. With source "gaussian" x1 alone is N(0, I) and sampling starts as on `base`;
    with "data" it starts from given samples.
    """

    base: GaussianPath
    source: str = "gaussian"

    def __post_init__(self) -> None:
        if self.source not in SOURCES:
            raise InvalidArgument(f"source is {self.source!r}; give one of {', '.join(SOURCES)}")
        if not self.base.independent:
            raise InvalidArgument(f"{self.base} is coupled already; give its base")

    @property
    def independent(self) -> bool:
        return False

    def alpha(self, t: Tensor | float) -> Tensor:
        return self.base.alpha(t)

    def sigma(self, t: Tensor | float) -> Tensor:
        return self.base.sigma(t)

    def alpha_rate(self, t: Tensor | float) -> Tensor:
        return self.base.alpha_rate(t)

    def sigma_rate(self, t: Tensor | float) -> Tensor:
        return self.base.sigma_rate(t)

    def log_snr(self, t: Tensor | float) -> Tensor:
        return self.base.log_snr(t)

    def log_snr_rate(self, t: Tensor | float) -> Tensor:
        return self.base.log_snr_rate(t)

    def time(self, log_snr: Tensor | float) -> Tensor:
        return self.base.time(log_snr)

    def _no_sde(self) -> NoReturn:
        raise Unsupported(
            f"{self}: its ends are coupled, so no linear SDE has these marginals; walk its "
            "velocity with a deterministic solver"
        )

    def drift(self, t: Tensor | float) -> Tensor:
        self._no_sde()

    def diffusion(self, t: Tensor | float) -> Tensor:
        self._no_sde()

    def prior(
        self, noise: Streams, event: tuple[int, ...], t: float = 1.0, data_std: float = 0.0
    ) -> Tensor:
        if self.source != "gaussian":
            raise Unsupported(
                f"{self} starts from data, not from noise; use transport.translate(field, x1)"
            )
        return self.base.prior(noise, event, t, data_std)

    def shifted(self, factor: float) -> GaussianPath:
        return Coupled(self.base.shifted(factor), self.source)

    def restricted(self, first: float = 0.0, last: float = 1.0) -> GaussianPath:
        return Coupled(self.base.restricted(first, last), self.source)
