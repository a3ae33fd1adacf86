"""A row of the table of names: what another program calls a sampler, and which of ours it is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ...errors import Unsupported
from ..registry import get, parse
from ..solver import Solver

PEERS = ("diffusers", "k-diffusion", "ComfyUI", "A1111")


@dataclass(frozen=True)
class Row:
    """The sampler `name` of `peer` with `options`; `text` is ours, as `solvers.get` reads it.

    The rows are `table.json`, whose notes have names; options of classes that the row leaves out
    are their defaults (final_sigmas_type is "zero" unless the note names another).
    text is "" where ours cannot do it, and `note` gives the reason; where both are given, note
    is the difference of the two. grid: our grid with its options ("leading:offset=1"), "" where
    the peer's caller chooses (k-diffusion) or names it apart. Rows without a note give the same
    numbers to rounding on the same grid and noise.
    """

    peer: str
    name: str
    text: str = ""
    grid: str = ""
    note: str = ""
    options: Mapping[str, Any] = field(default_factory=dict)

    @property
    def solver(self) -> str | None:
        """The name of our solver, None where there is none."""
        return parse(self.text)[0] or None

    @property
    def settings(self) -> dict[str, Any]:
        """The options of our solver."""
        return parse(self.text)[1]

    def build(self) -> Solver:
        """Return our solver; raise Unsupported with the reason where there is none."""
        if not self.text:
            raise Unsupported(f"{self.name!r} of {self.peer} is no solver here: {self.note}")
        return get(self.text)
