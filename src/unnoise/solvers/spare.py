"""Memory that a walk may use again: a state it made, which nothing else can reach any more."""

from __future__ import annotations

import sys
from functools import lru_cache

import torch
from torch import Tensor
from torch.autograd import forward_ad

from ..fields.field import Prediction
from ..paths import VPLinear

Ways = tuple[int, int, int, int, int]

LARGE = 1 << 16  # bytes of a state; below it the question costs more than the memory


def spare(prediction: Prediction, x: Tensor) -> bool:
    """Whether x, the walk's state that `said` speaks of, may be written over.

    To be asked by a function that has one name for each of the two and no other way to x. It may,
    where no other object holds the Prediction or x, no other tensor has its memory (a view, or
    what autograd keeps) and no derivative is to flow through the step.
    """
    if (
        prediction.x_t is not x
        or prediction.value.dtype != x.dtype
        or prediction.value.shape != x.shape
    ):
        return False
    if x.requires_grad or prediction.value.requires_grad or forward_ad._current_level >= 0:
        return False
    alone = _alone()
    return alone is not None and _reach(prediction, x) == alone


def _reach(prediction: Prediction, x: Tensor) -> Ways | None:
    """How many ways lead to the Prediction, to x from Python and from C++, and to its memory."""
    try:
        memory = x.untyped_storage()
        return (
            sys.getrefcount(prediction),
            sys.getrefcount(x),
            x._use_count(),  # type: ignore[attr-defined]
            sys.getrefcount(memory),
            torch._C._storage_Use_Count(memory._cdata),  # type: ignore[attr-defined]
        )
    except (AttributeError, RuntimeError):  # another torch, or a tensor without memory of its own
        return None


@lru_cache(maxsize=1)
def _alone() -> Ways | None:
    """What `_reach` says of a Prediction and a state that have just been made."""
    if not getattr(sys, "_is_gil_enabled", lambda: True)():
        return None  # other threads' references are not in the count

    def ask(prediction: Prediction, x: Tensor) -> Ways | None:  # as `spare` does
        return _reach(prediction, x)

    prediction = Prediction(torch.zeros(1), torch.zeros(()), VPLinear(), "eps", torch.zeros(1))
    x = prediction.x_t
    return ask(prediction, x)
