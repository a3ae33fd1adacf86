"""An average of any length after training, from a few that were stored (Karras et al. 2024, 3.2).

Averages of one or more lengths γ are stored at several moments T of a run. Each is an integral of
the weights over the updates t, with the profile p(t) = (γ + 1)·t^γ / T^(γ+1) on [0, T]. A sum of
them whose profile comes close to that of another length is that other average, up to the weights'
integral against what is left of the profile.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..errors import InvalidArgument

REACH = 0.05  # share of an average that may lie at the wrong updates
_NODES = 48  # of Gauss-Legendre between two stored moments


@dataclass(frozen=True)
class Mixture:
    """shares: of each stored average, 1 in sum. misplaced: the share of the average, from 0 to 1,
    that lies at the wrong updates: ½∫|p − p*|. apart: √(∫(p − p*)² / ∫p*²)."""

    shares: tuple[float, ...]
    misplaced: float
    apart: float


def mix_of(
    stored: Sequence[tuple[float, int]], gamma: float, updates: int, reach: float = REACH
) -> Mixture:
    """Return the sum of stored averages nearest to that of length `gamma` after `updates`.

    stored: (γ, T) of each. Nearest is by least squares of the profiles (Karras et al. 2024,
    alg. 3), here on the nodes of a quadrature and not by the normal equations, whose condition
    number is the square of this one; the shares sum to 1, so constant weights stay the same. Raises
    InvalidArgument unless gamma is above 0, if nothing is stored, and if more than `reach` of the
    average would be misplaced.
    """
    if isinstance(gamma, bool) or not (0 < gamma < float("inf")):
        raise InvalidArgument(f"gamma is {gamma!r}; give a positive number")
    if not stored:
        raise InvalidArgument("no averages are stored; train with train.averages={}")
    ends = sorted({*(float(t) for _, t in stored), float(updates)})
    nodes, weights = np.polynomial.legendre.leggauss(_NODES)
    low, high = np.array([0.0, *ends[:-1]])[:, None], np.array(ends)[:, None]
    t = ((high + low + (high - low) * nodes) / 2).ravel()
    root = np.sqrt(((high - low) / 2 * weights).ravel())
    profiles = np.stack([_profile(t, g, end) for g, end in stored], 1) * root[:, None]
    wanted = _profile(t, gamma, updates) * root
    last = max(range(len(stored)), key=lambda i: (stored[i][1], -abs(stored[i][0] - gamma)))
    others = [i for i in range(len(stored)) if i != last]
    shares = np.zeros(len(stored))
    if others:
        columns = profiles[:, others] - profiles[:, [last]]
        shares[others] = np.linalg.lstsq(columns, wanted - profiles[:, last], rcond=1e-12)[0]
    shares[last] = 1 - shares.sum()
    left = profiles @ shares - wanted
    found = Mixture(
        tuple(shares.tolist()),
        float((np.abs(left) * root).sum() / 2),
        float(np.sqrt((left @ left) / (wanted @ wanted))),
    )
    if found.misplaced > reach:
        gammas = sorted({g for g, _ in stored})
        raise InvalidArgument(
            f"an average of gamma {gamma:g} is out of reach of those stored (gamma "
            f"{', '.join(f'{g:g}' for g in gammas)} at {len({t for _, t in stored})} moments): "
            f"{found.misplaced:.1%} of it would lie at the wrong updates, {reach:.0%} may; take a "
            "gamma nearer to these, or train with other train.averages.gammas or more "
            "train.averages.snapshots"
        )
    return found


def _profile(t: np.ndarray, gamma: float, end: float) -> np.ndarray:
    share = np.clip(t / end, 0, 1)
    return np.where(t <= end, (gamma + 1) / end * share**gamma, 0.0)
