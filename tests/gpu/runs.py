"""Trainings and models on a device that the test chooses."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import torch

from tests.training.tiny import model_of, parts_of, tiny
from unnoise.artifacts import Model
from unnoise.fields import Field
from unnoise.recipes import build_denoiser, build_objective, levels_of
from unnoise.training import Player, Training

CPU = torch.device("cpu")
DIT = "network={kind: dit, width: 16, depth: 1, patch: 4, head: 8}"
MLP = "network={kind: mlp, width: 16, depth: 1}"
ATTENTION = "network={kind: unet, widths: [16, 32], blocks: 1, attention: [1], head: 16}"


def training_on(device: torch.device, *overrides: str) -> Training:
    """A fresh Training of the tiny recipe on `device`."""
    recipe = tiny(*overrides)
    data = parts_of(recipe)["train"]
    model = build_denoiser(recipe.path, recipe.network, recipe.model, data.spec, 0)
    return Training(
        Player.of(
            model,
            build_objective(recipe.objective, model.data_std, levels_of(data.spec)),
            recipe.train,
        ),
        data,
        recipe.train,
        recipe.model.conditional,
        SimpleNamespace(  # type: ignore[arg-type]
            device=device, process_index=0, num_processes=1, backward=lambda loss: loss.backward()
        ),
    )


def losses_of(training: Training) -> list[float]:
    """The loss of every update that is left."""
    updates = list(training.updates())
    return [float(update.loss) for update in updates]


def model_on(device: torch.device, precision: str = "fp32", *overrides: str) -> Model:
    """A model of random weights, the same on every device."""
    model = model_of(tiny(*overrides))
    model.denoiser.to(device)
    return replace(model, precision=precision)


def field_on(field: Any, device: torch.device) -> Any:
    """An exact field with its tensors, and those of the fields in it, on `device`."""
    for name, value in vars(field).items():
        if isinstance(value, torch.Tensor):
            setattr(field, name, value.to(device))
        for part in value if isinstance(value, list | tuple) else [value]:
            if isinstance(part, Field):
                field_on(part, device)
    return field
