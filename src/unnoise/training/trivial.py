"""The mark that a loss has to beat: that of a predictor which knows the scale of the data alone."""

from __future__ import annotations

import torch
from torch import Tensor

from ..fields import Denoiser, determinant
from ..objectives import Denoising, Objective
from ..randomness import Streams


def trivial_loss(objective: Objective, model: Denoiser, t: Tensor) -> Tensor | None:
    """The loss at times t (n,) of the best linear predictor of white data: the mark to beat.

    For the lens a·x0 + b·ε and data N(0, s²): w·s²·det²/(α²s² + σ²); None where the objective is
    not denoising of independent noise.
    """
    if not isinstance(objective, Denoising) or objective.coupling.rearranges:
        return None
    path, lens, s = model.path, model.predicts, model.data_std
    error = (s * determinant(path, lens, t)) ** 2
    error = error / torch.hypot(path.alpha(t) * s, path.sigma(t)) ** 2
    return objective.weight.on(lens, path, t) * error


def mean_trivial_loss(objective: Objective, model: Denoiser, seed: int = 0) -> float | None:
    """`trivial_loss` in the mean over 256 times that the objective draws; None where it is not
    known or not finite."""
    if not isinstance(objective, Denoising):
        return None
    t = objective.times.sample(model.path, Streams(seed, range(256), "trivial"))
    loss = trivial_loss(objective, model, t)
    if loss is None or not bool(torch.isfinite(loss).all()):
        return None
    return float(loss.mean())
