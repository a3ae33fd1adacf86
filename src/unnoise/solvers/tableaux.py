"""Runge–Kutta tableaux by name: for fixed steps, and embedded pairs that estimate the error."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

from ..errors import need_known

Row = tuple[float, ...]


@dataclass(frozen=True)
class Tableau:
    """Nodes c, rows a and weights b of a method of `order`.

    errors: of an embedded pair, rows e (one or two) with the error h·Σ eᵢkᵢ, of local order
    `estimate` + 1; last_is_next: the last stage is the rate at the step's end.
    """

    order: int
    nodes: Row
    rows: tuple[Row, ...]
    weights: Row
    errors: tuple[Row, ...] = ()
    estimate: int = 0
    last_is_next: bool = False


# Bogacki & Shampine 1989, without the stage that only the estimate needs
_THIRD = Tableau(3, (0, 1 / 2, 3 / 4), ((), (1 / 2,), (0, 3 / 4)), (2 / 9, 1 / 3, 4 / 9))

TABLEAUX: dict[str, Tableau] = {
    "euler": Tableau(1, (0,), ((),), (1,)),
    "heun": Tableau(2, (0, 1), ((), (1,)), (0.5, 0.5)),
    "midpoint": Tableau(2, (0, 0.5), ((), (0.5,)), (0, 1)),
    "ralston": Tableau(2, (0, 2 / 3), ((), (2 / 3,)), (0.25, 0.75)),
    "kutta3": Tableau(3, (0, 0.5, 1), ((), (0.5,), (-1, 2)), (1 / 6, 2 / 3, 1 / 6)),
    "rk4": Tableau(
        4,
        (0, 0.5, 0.5, 1),
        ((), (0.5,), (0, 0.5), (0, 0, 1)),
        (1 / 6, 1 / 3, 1 / 3, 1 / 6),
    ),
    "bogacki_shampine": _THIRD,
}

_PAIRS: dict[str, Tableau] = {
    # Hairer, Nørsett & Wanner I, II.4
    "heun_euler": Tableau(2, (0, 1), ((), (1,)), (0.5, 0.5), ((-0.5, 0.5),), 1),
    "bogacki_shampine": Tableau(
        3,
        (*_THIRD.nodes, 1),
        (*_THIRD.rows, _THIRD.weights),
        (*_THIRD.weights, 0),
        ((-5 / 72, 1 / 12, 1 / 9, -1 / 8),),
        2,
        True,
    ),
    # Dormand & Prince 1980
    "dormand_prince": Tableau(
        5,
        (0, 1 / 5, 3 / 10, 4 / 5, 8 / 9, 1, 1),
        (
            (),
            (1 / 5,),
            (3 / 40, 9 / 40),
            (44 / 45, -56 / 15, 32 / 9),
            (19372 / 6561, -25360 / 2187, 64448 / 6561, -212 / 729),
            (9017 / 3168, -355 / 33, 46732 / 5247, 49 / 176, -5103 / 18656),
            (35 / 384, 0, 500 / 1113, 125 / 192, -2187 / 6784, 11 / 84),
        ),
        (35 / 384, 0, 500 / 1113, 125 / 192, -2187 / 6784, 11 / 84, 0),
        ((71 / 57600, 0, -71 / 16695, 71 / 1920, -17253 / 339200, 22 / 525, -1 / 40),),
        4,
        True,
    ),
}
ORDERS = {name: pair.order for name, pair in _PAIRS.items()} | {"dop853": 8}


@lru_cache(maxsize=8)
def embedded_pair(name: str) -> Tableau:
    """Return an embedded pair by name; dop853 is Hairer's, its numbers and two estimates scipy's.

    Raises InvalidArgument for an unknown name.
    """
    need_known("embedded pair", name, ORDERS)
    if name != "dop853":
        return _PAIRS[name]
    from scipy.integrate import DOP853

    def floats(values: object) -> Row:
        return tuple(map(float, values))  # type: ignore[call-overload]

    rows = tuple(floats(row[:i]) for i, row in enumerate(DOP853.A))
    errors = (floats(DOP853.E5[:-1]), floats(DOP853.E3[:-1]))
    return Tableau(8, floats(DOP853.C[:12]), rows, floats(DOP853.B), errors, 7)
