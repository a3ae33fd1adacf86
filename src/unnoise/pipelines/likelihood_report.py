"""A measured likelihood: its numbers, units and settings."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

from ..likelihood import Bound, Likelihood


@dataclass(frozen=True)
class LikelihoodReport:
    """The likelihood that was measured, with its data, method and settings.

    `bound` holds the terms if a bound was measured, else None; `settings` everything that the
    result depends on.
    """

    likelihood: Likelihood
    bound: Bound | None
    model: str
    data: str
    given: str
    computed: str
    units: str
    settings: dict[str, Any] = field(default_factory=dict)

    def interval(self) -> tuple[float, float, float]:
        """Return the mean log-likelihood in nats a sample, and the ends of its 95 % interval.

        ±1.96 standard errors over samples and draws; NaN for one sample.
        """
        mean, error = self.likelihood.mean()
        return mean, mean - 1.96 * error, mean + 1.96 * error

    def in_bits(self, nats: float) -> float:
        """Convert nats of −log p a sample into bits/dim."""
        return nats / (self.likelihood.dimensions * math.log(2))

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values; numbers that are not finite are null."""
        mean, low, high = self.interval()
        made: dict[str, Any] = {
            "model": self.model,
            "data": self.data,
            "given": self.given,
            "computed": self.computed,
            "kind": self.likelihood.kind,
            "units": self.units,
            "dequantisation": self.likelihood.dequantisation,
            "n": len(self.likelihood.nats),
            "dimensions": self.likelihood.dimensions,
            "passes": self.likelihood.nfe,
            "nats": _ends(mean, low, high),
            "bits_per_dim": _ends(*(self.in_bits(-v) for v in (mean, high, low))),
            "settings": self.settings,
        }
        if self.bound is not None:
            made["terms"] = [
                {"term": name, "nats": nats, "bits_per_dim": self.in_bits(nats)}
                for name, nats in self.terms()
            ]
        return made

    def terms(self) -> list[tuple[str, float]]:
        """Return the bound's terms in mean nats of −log p a sample.

        They are prior, noise levels and reconstruction, in this order.
        """
        assert self.bound is not None
        levels = [(f"t {a:.1f} to {b:.1f}", nats) for a, b, nats in self.bound.by_level()]
        return [
            ("prior", float(self.bound.prior.mean())),
            *reversed(levels),
            ("reconstruction", float(self.bound.reconstruction.mean())),
        ]


def _ends(value: float, low: float, high: float) -> dict[str, float | None]:
    finite = {"mean": value, "low": low, "high": high}
    return {k: v if math.isfinite(v) else None for k, v in finite.items()}
