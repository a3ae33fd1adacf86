"""The training of the feature classifier."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ..errors import DataError, NonFinite
from ..randomness import Streams
from ..sampling import resolve
from .augment import random_affine
from .classifier import FeatureClassifier


def train_classifier(
    values: Tensor | np.ndarray,
    labels: Tensor | np.ndarray,
    *,
    classes: int | None = None,
    seen: int = 80_000,
    batch: int = 64,
    lr: float = 2e-3,
    width: int = 16,
    features: int = 64,
    bfloat16: bool | None = None,
    augment: bool = True,
    standardise: bool = True,
    seed: int = 0,
    on_epoch: Callable[[int, int, float], None] | None = None,
) -> FeatureClassifier:
    """Train a FeatureClassifier on raw values and their labels.

    AdamW with a 5 % warm-up and a cosine to zero; images are changed by `random_affine` each time
    that they are shown (unless `augment` is False), other data are not. Weights, order and changes
    come from `seed` alone. The network standardises values by their own moments unless
    `standardise` is False.
    Features are always computed in float32, whatever the precision of the training.

    Arguments: `values` (n, *event), bytes or floats, `labels` (n,) in 0 … classes−1; `seen` number
    of training examples shown in all; `bfloat16` trains under autocast (None: if the processor has
    it); `on_epoch(epoch, epochs, loss)` is called after each epoch. Raises DataError for labels
    that do not fit and for fewer than two classes or 20 values, NonFinite if training diverges.
    """
    values, labels = torch.as_tensor(values), torch.as_tensor(labels).long()
    classes = _check(values, labels, classes)
    raw = values.float()
    augment = augment and raw.ndim == 4
    axes = [0] if raw.ndim == 2 else [0, *range(2, raw.ndim)]
    mean, std = raw.mean(axes), raw.std(axes)
    if not standardise:
        mean, std = torch.zeros_like(mean), torch.ones_like(std)
    std = torch.where(std > 1e-6 * (1 + mean.abs()), std, torch.ones_like(std))
    model = FeatureClassifier(
        values.shape[1:], classes, width, features, mean.tolist(), std.tolist()
    )
    model.initialise(seed)
    if bfloat16 is None:
        bfloat16 = resolve("auto", torch.device("cpu")).name == "bf16"
    if raw.ndim == 4:
        model.body.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    batch = min(batch, len(raw))
    per_epoch = len(raw) // batch
    epochs = max(1, round(seen / (per_epoch * batch)))
    total = epochs * per_epoch
    warm = max(1, total // 20)
    optimizer = torch.optim.AdamW(model.parameters(), lr=lr, weight_decay=0.05)
    step = 0
    for epoch in range(epochs):
        model.train()
        noise = Streams(seed, [epoch], "classifier order and changes")
        order = noise.uniform(len(raw))[0].argsort()
        seen_now = random_affine(raw, noise) if augment else raw
        losses = []
        for rows in order[: per_epoch * batch].split(batch):
            share = min((step + 1) / warm, 0.5 * (1 + math.cos(math.pi * step / total)))
            for group in optimizer.param_groups:
                group["lr"] = lr * share
            with torch.autocast("cpu", torch.bfloat16, enabled=bfloat16):
                logits = model(seen_now[rows])
            loss = F.cross_entropy(logits.float(), labels[rows])
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            losses.append(loss.detach())
            step += 1
        mean_loss = float(torch.stack(losses).mean())
        if not math.isfinite(mean_loss):
            raise NonFinite(f"the classifier's loss is {mean_loss} in epoch {epoch}; lower lr={lr}")
        if on_epoch:
            on_epoch(epoch + 1, epochs, mean_loss)
    model.eval()
    model.body.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    model.record = {
        "trained_on": len(raw),
        "epochs": epochs,
        "batch": batch,
        "lr": lr,
        "precision": "bfloat16" if bfloat16 else "float32",
        "seed": seed,
        "augmentation": "random affine" if augment else "none",
    }
    return model


def _check(values: Tensor, labels: Tensor, classes: int | None) -> int:
    if len(values) != len(labels) or labels.ndim != 1:
        raise DataError(
            f"{len(values)} values but labels of shape {tuple(labels.shape)}; one a value each"
        )
    if len(values) < 20:
        raise DataError(f"{len(values)} values are too few to train a classifier; give 20 or more")
    top = int(labels.max()) + 1
    classes = top if classes is None else int(classes)
    if int(labels.min()) < 0 or top > classes:
        raise DataError(
            f"labels reach from {int(labels.min())} to {top - 1}; with {classes} classes they must "
            f"lie in 0 to {classes - 1}"
        )
    if len(labels.unique()) < 2:
        raise DataError("all labels are the same; a classifier needs two classes: evaluate without")
    if not torch.isfinite(values.float()).all():
        raise DataError("the values hold NaN or infinity; clean the data first")
    return classes
