"""A claim of the literature, its measurement, and the verdict."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from unnoise.errors import InvalidArgument, unknown
from unnoise.evaluation.intervals import Interval

HOLDS, FAILS, WHEN = "holds", "does not hold", "holds when"
VERDICTS = (HOLDS, FAILS, WHEN)
CHAPTERS = {
    "schedules": "Noise schedules and the forward process",
    "one_object": "One object, many views",
    "variational": "The variational view",
    "score": "The score view",
    "dynamics": "Densities in time",
    "sampling": "Sampling",
    "randomness": "Chance against determinism",
    "flow": "Flows and straightness",
    "guidance": "Guidance",
    "divergences": "Distances between laws",
    "likelihood": "Likelihood and encoding",
    "trained": "Trained models",
}


Value = float | int | str | Interval


@dataclass(frozen=True)
class Finding:
    """The result of a measurement.

    measured: label → number, Interval or words; numbers without an interval are exact up to
    rounding or quadrature. verdict: "holds", "does not hold" or "holds when", the last with `when`
    completing the sentence. remark: one sentence, needed unless the claim simply holds. Raises
    InvalidArgument for anything else.
    """

    measured: Mapping[str, Value]
    verdict: str
    when: str = ""
    remark: str = ""

    def __post_init__(self) -> None:
        if self.verdict not in VERDICTS:
            raise unknown("verdict", self.verdict, VERDICTS)
        if not self.measured:
            raise InvalidArgument("a finding with nothing measured; say what was")
        if (self.verdict == WHEN) != bool(self.when):
            raise InvalidArgument(f"verdict {self.verdict!r} with when={self.when!r}; {WHEN} what?")
        if self.verdict != HOLDS and not self.remark:
            raise InvalidArgument(f"verdict {self.verdict!r} needs a remark that says why")
        for label, value in self.measured.items():
            numbers = [value.value, value.low, value.high] if isinstance(value, Interval) else []
            if isinstance(value, float):
                numbers = [value]
            if any(math.isnan(number) for number in numbers):
                raise InvalidArgument(f"{label!r} is NaN; a claim needs a number")

    @property
    def sentence(self) -> str:
        """The verdict in words."""
        return f"{self.verdict} {self.when}".strip()


@dataclass(frozen=True)
class Claim:
    """A statement with its source, and the function that measures it.

    trained: the models that must be trained first, for the reader of the list; "" if everything is
    exact.
    """

    name: str
    chapter: str
    source: str
    statement: str
    measure: Callable[[], Finding]
    trained: str = ""

    def __post_init__(self) -> None:
        if self.chapter not in CHAPTERS:
            raise unknown("chapter", self.chapter, CHAPTERS)
        if not self.statement or not self.source:
            raise InvalidArgument(f"claim {self.name!r} needs a statement and a source")


@dataclass(frozen=True)
class Result:
    """A finding with its cost and provenance."""

    claim: Claim
    finding: Finding
    seconds: float
    date: str
    key: str
    library: str
    again: bool = field(default=False, compare=False)  # read from the cache
