"""What a run shows on its way: loss by noise level, held-out loss, samples at fixed seeds."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from ..artifacts import Model
from ..data import Dataset, sample_grid
from ..errors import NonFinite
from ..sampling import SampleReport
from .figures import loss_plot
from .log import ByLevel, Log
from .loop import Training


def report(
    training: Training,
    validation: Dataset | None,
    levels: ByLevel,
    log: Log,
    out: Path,
) -> float:
    """Loss by level, held-out loss, samples at fixed seeds, all of the average weights."""
    log.write("levels", training.step, loss_by_level=levels.read())
    held = float("nan")
    if validation is not None:
        per_sample, t = training.held_out(validation)
        seen = ByLevel()
        seen.add(per_sample, t)
        held = float(per_sample.mean())
        log.write("held_out", training.step, loss=held, loss_by_level=seen.read())
        baseline = training.baseline_loss(t)
        loss_plot(t, per_sample, out / "loss_by_noise_level.png", baseline=baseline)
    model = training.model()
    try:
        n = max(model.classes, 10)
        given = training.data.examples(needed, n) if (needed := model.facts.needed) else None
        made = model.sample(n, condition=given, seed=training.config.seed)
        _show(model, made, out / "samples", training.step, log)
    except NonFinite as error:  # a picture on the way is not worth the run
        log.say(f"note: no samples after update {training.step}: {error}")
    return held


def _show(model: Model, made: SampleReport, folder: Path, step: int, log: Log) -> None:
    folder.mkdir(exist_ok=True)
    if model.spec.is_picture:
        pixels = model.spec.pixels(made.x)
        image = sample_grid(pixels, path=folder / f"step-{step:08d}.png")
        array = torch.from_numpy(np.array(image.convert("RGB"))).permute(2, 0, 1)
        log.picture("samples", array, step)
    else:
        np.save(folder / f"step-{step:08d}.npy", made.values.numpy())
