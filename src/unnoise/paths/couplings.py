"""Couplings: rules that pair each data sample of a batch with a source sample of the batch."""

from __future__ import annotations

import math
import warnings
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ..errors import InvalidArgument, Unsupported, unknown

if TYPE_CHECKING:
    from ..randomness import Streams


class Coupling(ABC):
    """A rule that rearranges a batch's source samples; both marginals are preserved."""

    rearranges: bool = True

    @abstractmethod
    def pair(self, x0: Tensor, x1: Tensor, noise: Streams, groups: Tensor | None = None) -> Tensor:
        """Return the row of x1 that is paired with each row of x0: (batch,) int64.

        x0, x1: (batch, *event). groups: (batch,) int64; rows are exchanged inside a group only, so
        that the source's distribution given the group's condition is preserved.
        """


@dataclass(frozen=True)
class Independent(Coupling):
    """The pairs as given: independent noise, or pairs of the data set."""

    rearranges = False

    def pair(self, x0: Tensor, x1: Tensor, noise: Streams, groups: Tensor | None = None) -> Tensor:
        return torch.arange(len(x0), device=x0.device)


@dataclass(frozen=True)
class Optimal(Coupling):
    """Minibatch optimal transport for the squared distance (Pooladian et al. 2023; Tong 2023).

    entropy 0: the assignment of least Σ‖x0ᵢ − x1ⱼ‖², exact; it depends on the batch alone. entropy
    ε > 0: row i draws j from the plan of least cost + ε·m·KL(plan ‖ uniform), m the batch's mean
    cost (the papers' ε is not divided by m), by one uniform number of sample i's own stream. Pairs
    depend on the other samples of the batch; larger batches straighten more. Raises InvalidArgument
    for a negative entropy, Unsupported if Sinkhorn's iteration does not meet its marginals.
    """

    entropy: float = 0.0

    def __post_init__(self) -> None:
        if not (math.isfinite(self.entropy) and self.entropy >= 0):
            raise InvalidArgument(f"entropy is {self.entropy!r}; give 0 (exact) or a number > 0")

    def pair(self, x0: Tensor, x1: Tensor, noise: Streams, groups: Tensor | None = None) -> Tensor:
        if x0.shape != x1.shape:
            raise InvalidArgument(
                f"data of shape {tuple(x0.shape)} and a source of shape {tuple(x1.shape)}; "
                "transport at the squared distance needs equal shapes"
            )
        flat = [x.detach().cpu().double().flatten(1) for x in (x0, x1)]
        draws = noise.purpose("coupling").uniform().double() if self.entropy else None
        out = torch.arange(len(x0))
        labels = torch.zeros(len(x0)) if groups is None else groups.cpu()
        for label in labels.unique():
            rows = (labels == label).nonzero()[:, 0]
            cost = torch.cdist(flat[0][rows], flat[1][rows]) ** 2
            chosen = (
                _assignment(cost)
                if draws is None
                else _drawn(_plan(cost, self.entropy), draws[rows])
            )
            out[rows] = rows[chosen]
        return out.to(x0.device)


def _assignment(cost: Tensor) -> Tensor:
    from scipy.optimize import linear_sum_assignment

    return torch.from_numpy(linear_sum_assignment(cost.numpy())[1])


def _plan(cost: Tensor, entropy: float) -> Tensor:
    """Return the entropic plan, its rows summing to one: (n, n)."""
    import ot

    n = len(cost)
    scaled = (cost / cost.mean().clamp(min=torch.finfo(cost.dtype).tiny)).numpy()
    mass = torch.full((n,), 1.0 / n, dtype=cost.dtype).numpy()
    with warnings.catch_warnings():  # failure is detected below, by the marginals
        warnings.simplefilter("ignore")
        plan = torch.from_numpy(
            ot.sinkhorn(
                mass, mass, scaled, entropy, "sinkhorn_stabilized",
                numItermax=5000, stopThr=1e-7, warn=False,
            )
        )  # fmt: skip
    plan = plan / plan.sum(1, keepdim=True)
    off = float((plan.sum(0) - 1).abs().max())
    if not off < 1e-2:
        raise Unsupported(
            f"the transport plan at entropy {entropy!r} misses its marginals by {off:.2g} after "
            "5000 iterations; raise the entropy, or use 0 for the exact assignment"
        )
    return plan


def _drawn(plan: Tensor, u: Tensor) -> Tensor:
    edges = plan.cumsum(1)
    edges = edges / edges[:, -1:]
    return torch.searchsorted(edges, u[:, None], right=True)[:, 0].clamp(max=len(plan) - 1)


COUPLINGS: dict[str, type[Coupling]] = {"independent": Independent, "optimal": Optimal}


def coupling(name: str, **options: float) -> Coupling:
    """Return the coupling of a name, with its options (entropy).

    Raises InvalidArgument for an unknown name or option.
    """
    if name not in COUPLINGS:
        raise unknown("coupling", name, COUPLINGS)
    kind = COUPLINGS[name]
    for option in options:
        if option not in kind.__dataclass_fields__:  # type: ignore[attr-defined]
            raise unknown(f"option of coupling {name!r}", option, kind.__dataclass_fields__)  # type: ignore[attr-defined]
    return kind(**options)
