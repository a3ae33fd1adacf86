"""One way to damage one file."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Attack:
    """damage(path) replaces a good file by a bad one. group: under which it is counted.

    resealed: the hashes that name the file are made right again, so that only what lies behind
    them can find it. leaf, value: what a changed description says, where it is one; if it is
    accepted, it has to be taken at its word.
    """

    group: str
    name: str
    damage: Callable[[Path], None]
    resealed: bool = False
    leaf: tuple[str | int, ...] | None = None
    value: Any = None

    def __str__(self) -> str:
        return f"{self.group}: {self.name}{' (resealed)' if self.resealed else ''}"


def rewrite(change: Callable[[bytes], bytes]) -> Callable[[Path], None]:
    """Damage by a function of the good bytes."""

    def damage(path: Path) -> None:
        path.write_bytes(change(path.read_bytes()))

    return damage
