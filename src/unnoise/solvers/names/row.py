"""A row of the table of names: what another program calls a sampler, and which of ours it is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ..registry import get as build
from ..solver import Solver

PEERS = ("diffusers", "k-diffusion", "ComfyUI", "A1111")


@dataclass(frozen=True)
class Row:
    """`peer` calls it `name`, with `options`; ours is `solver` with `settings`, on `grid`.

    solver is None where ours cannot do it, and `note` says why; where both are given, note says
    in what the two differ. grid: our grid's name and its options, None where the peer's caller
    chooses (k-diffusion) or names it apart. Rows without a note give the same numbers to rounding
    on the same grid and noise.
    """

    peer: str
    name: str
    solver: str | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=dict)
    grid: str | None = None
    grid_options: Mapping[str, Any] = field(default_factory=dict)
    note: str = ""

    @property
    def text(self) -> str:
        """Our solver as `solvers.get` reads it, such as "dpmpp_2m_sde:rule=exact"; "" for none."""
        settings = ",".join(f"{name}={value}" for name, value in self.settings.items())
        return ":".join(part for part in (self.solver, settings) if part)

    def build(self) -> Solver:
        """Our solver. Raises Unsupported with the reason where there is none."""
        if self.solver is None:
            from ...errors import Unsupported

            raise Unsupported(f"{self.name!r} of {self.peer} is no solver here: {self.note}")
        return build(self.solver, **dict(self.settings))


def row(peer: str):
    """A maker of rows of one peer: make(name, solver, settings, options, note=…)."""

    def make(
        name: str,
        solver: str | None = None,
        settings: Mapping[str, Any] | None = None,
        options: Mapping[str, Any] | None = None,
        **more: Any,
    ) -> Row:
        return Row(peer, name, solver, settings or {}, options or {}, **more)

    return make
