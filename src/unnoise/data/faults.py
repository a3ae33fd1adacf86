"""Faults of data: raised at the first one in training, all of them collected by a check."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from ..errors import DataError, UnnoiseError

LISTED = 1000  # faults of a kind; more are only counted


@dataclass(frozen=True)
class Fault:
    """One fault: its kind in a word, and a message that names the place."""

    kind: str
    message: str


@dataclass
class Faults:
    """A collector of faults.

    strict: the first one is raised; else they are stored, at most `LISTED` of a kind.
    """

    strict: bool = True
    found: list[Fault] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)

    def add(self, kind: str, error: UnnoiseError | str) -> None:
        """Raise the error, or store it."""
        if self.strict:
            raise error if isinstance(error, UnnoiseError) else DataError(error)
        self.counts[kind] += 1
        if self.counts[kind] <= LISTED:
            self.found.append(Fault(kind, str(error)))


STRICT = Faults()
