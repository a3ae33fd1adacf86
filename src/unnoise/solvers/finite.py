"""Numbers that break down in a solve, and the errors that name the step, time and sample."""

from __future__ import annotations

from typing import NoReturn

import torch
from torch import Tensor

from ..errors import NonFinite
from ..fields.field import Prediction


def finite(x: Tensor) -> bool:
    """Return whether every number is finite; so it is where the sum is, which needs no memory."""
    return bool(x.sum().isfinite()) or bool(torch.isfinite(x).all())


def raise_if_not_finite(steps: int, step: int, prediction: Prediction) -> None:
    """Raise NonFinite, naming the place, where a Prediction or its state is not finite."""
    for what, value in (("state", prediction.x_t), ("prediction", prediction.value)):
        bad = ~torch.isfinite(value.flatten(1)).all(1)
        if bool(bad.any()):
            t = float(torch.as_tensor(prediction.t).flatten()[0])
            raise NonFinite(
                f"the {what} is not finite at step {step} of {steps}, t = {t:.6g}, sample "
                f"{int(bad.nonzero()[0])} of {len(bad)}; the field or the step there is at fault "
                "(a smaller guidance scale or more steps help where the walk diverges)"
            )


def raise_at_end(x: Tensor, t: float) -> NoReturn:
    """Raise NonFinite of the last state, naming the sample."""
    bad = ~torch.isfinite(x.flatten(1)).all(1)
    raise NonFinite(
        f"the state is not finite after the last step, t = {t:.6g}, sample "
        f"{int(bad.nonzero()[0]) if bool(bad.any()) else 0} of {len(bad)}"
    )
