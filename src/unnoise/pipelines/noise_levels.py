"""A trained model's loss by noise level, on held-out and on training values."""

from __future__ import annotations

import torch
from torch import Tensor

from ..artifacts import Model
from ..data import Dataset
from ..evaluation.levels import LevelLoss, NoiseLevels, noise_levels
from ..fields import residual
from ..objectives import baseline_error
from ..randomness import Streams
from ..sampling import autocast

MOST = 500  # values of each part
DRAWS = 4  # noise levels a value
BINS = 10


def loss_by_level(
    model: Model, held: Dataset, train: Dataset, seed: int = 0, batch: int = 250
) -> NoiseLevels | None:
    """Return the loss in bins of t of at most 500 held-out values, and of as many training values.

    The loss is mean‖network's output − its target‖² in the model's own lens, without a weight,
    conditioned on each value's class if the model has classes; trivial is s²·det²/(α²s² + σ²), the
    loss of the best linear predictor of N(0, s²) data. None if noise and data are coupled or the
    model was trained at one noise level: then there is no such baseline, or there are no levels.
    """
    path = model.denoiser.path
    times = getattr(model.recipe.objective, "times", None)
    if not path.independent or getattr(times, "kind", None) == "one_level":
        return None
    sides = [_losses(model, part, seed, batch) for part in (held, train)]
    about = f" ({model.denoiser.predicts})"
    return noise_levels(*sides, bins=BINS, seed=seed, about=about)


@torch.no_grad()
def _losses(model: Model, data: Dataset, seed: int, batch: int) -> LevelLoss:
    denoiser, path = model.denoiser, model.denoiser.path
    device = next(denoiser.parameters()).device
    count = min(MOST, len(data))
    rows = torch.linspace(0, len(data) - 1, count, dtype=torch.float64).round().long()
    pieces: list[tuple[Tensor, Tensor, Tensor]] = []
    for at in range(0, count, batch):
        index = range(at, min(at + batch, count))
        part = data.batch(rows[at : at + batch]).to(device, bool(model.conditions))
        x0, condition = part.x0, part.condition
        noise = Streams(seed, index, "loss by level")
        where = noise.uniform(DRAWS).double()
        found = []
        for draw in range(DRAWS):
            # value i falls into DRAWS different bins, and all bins are used equally often
            bin_ = (torch.tensor(index) * DRAWS + draw) % BINS
            t = ((bin_ + 1 - where[:, draw]) / BINS).to(device)
            eps = noise.normal(*x0.shape[1:]).to(x0)
            with autocast(model.precision, device):
                prediction = denoiser(path.diffuse(x0, eps, t), t, condition)
            miss = residual(path, prediction.lens, prediction.value, x0, eps, t)
            loss = miss.square().flatten(1).mean(1)
            baseline = baseline_error(path, prediction.lens, denoiser.data_std, t)
            found.append((t.cpu(), loss.cpu(), baseline.cpu()))
        pieces.append(tuple(torch.stack(part, 1) for part in zip(*found, strict=True)))  # type: ignore[arg-type]
    columns = (torch.cat(part).double().numpy() for part in zip(*pieces, strict=True))
    return LevelLoss(*columns)
