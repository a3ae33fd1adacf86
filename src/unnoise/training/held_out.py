"""The loss on data not trained on."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ..data import Dataset
from ..objectives import Batch, condition_from_labels
from ..randomness import Streams
from ..sampling import autocast

if TYPE_CHECKING:
    from .loop import Training


@torch.no_grad()
def held_out(training: Training, data: Dataset, limit: int) -> tuple[Tensor, Tensor]:
    """(per-sample loss, t) of the average weights on at most `limit` samples, at fixed noise."""
    training.model.eval()
    losses, times = [], []
    rows = torch.arange(min(limit, len(data)))
    objective = training.objective.held_out()
    with training.ema.applied(), autocast(training.precision.name, training.device):
        for part in rows.split(min(256, training.parts.most or 256)):
            x0, labels = data.batch(part)
            condition = condition_from_labels(labels) if training.conditional else None
            if condition is not None:
                condition = condition.to(training.device)
            noise = Streams(training.config.seed, part.tolist(), "held out")
            loss = objective(training.model, Batch(x0.to(training.device), condition), noise)
            losses.append(loss.per_sample.cpu())
            times.append(loss.t.cpu())
    training.model.train()
    return torch.cat(losses), torch.cat(times)
