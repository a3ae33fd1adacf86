"""Runs that are broken in one known way, and healthy ones: small enough to be trained in a test."""

import numpy as np

from tests.training.tiny import tiny
from unnoise.errors import NonFinite
from unnoise.training import train

MLP = ["network={kind: mlp, width: 64, depth: 2}", "train.batch=32", "train.reports=1"]
SHORT = ["sample.guidance=1", "sample.steps=8", "train.ema={kind: constant, decay: 0.95}"]


def groups(seed=0, n=1200):
    """Four groups of points of eight numbers, each spread along two directions of its own mean."""
    world, g = np.random.default_rng(5), np.random.default_rng(seed)
    centres, spread = world.normal(size=(4, 8)) * 1.5, world.normal(size=(8, 2))
    y = g.integers(0, 4, n)
    x = centres[y] + 0.5 * g.normal(size=(n, 2)) @ spread.T + 0.1 * g.normal(size=(n, 8))
    return x.astype("float32"), y


def waves(seed=0, n=600):
    """Signals (1, 16): a wave of random phase and one of two frequencies."""
    g = np.random.default_rng(seed)
    y = g.integers(0, 2, n)
    at = np.arange(16) / 16
    x = np.sin(2 * np.pi * ((1 + y)[:, None] * at + g.random(n)[:, None]))
    return (x + 0.05 * g.normal(size=x.shape)).astype("float32")[:, None], y


def save(folder, x, y=None):
    """Arrays as data of a recipe."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "data.npz"
    np.savez(path, **({"x": x} if y is None else {"x": x, "y": y}))
    return f"source: arrays, path: {path}, split: {{validation: 200}}"


def _unit(x):
    return (x - x.min()) / (x.max() - x.min())


def _tree(kind, folder, seed):
    """(overrides, updates) of a run by its name."""
    x, y = groups(seed)
    g = np.random.default_rng(seed)
    data = save(folder, x, y)
    if kind == "wrong range":
        data = save(folder, _unit(x), y) + ", normalisation: range, value_range: [0, 255]"
    if kind == "labels say nothing":
        data = save(folder, x, g.permutation(y))
    if kind == "noise":
        data = save(folder, g.normal(size=x.shape).astype("float32"), y)
    if kind == "signals":
        data = save(folder, *waves(seed)) + ", layout: NCL"
    more = {
        "label ignored": ["objective.drop=1"],
        "dead average": ["train.ema={kind: constant, decay: 0.9999, warmup: 1}"],
        "rate too high": ["train.optimizer={kind: adamw, rate: 3}"],
        "rate far too high": ["train.optimizer={kind: adamw, rate: 1e9}"],
        "rate too low": ["train.optimizer={kind: adamw, rate: 1e-9}"],
        "signals": ["network={kind: unet, widths: [16, 32], blocks: 1}"],
        "pictures": ["network={kind: unet, widths: [16, 32], blocks: 1}"],
    }.get(kind, [])
    if kind == "pictures":
        return [*MLP, *SHORT, *more, f"train.seed={seed}"], 250
    steps = {"too short": 20}.get(kind, 300)
    return [*MLP, *SHORT, f"data={{{data}}}", *more, f"train.seed={seed}"], steps


class Runs:
    """Runs by name and seed, each trained when it is first asked for."""

    def __init__(self, folder):
        self.folder, self.made = folder, {}

    def get(self, kind, seed=0):
        if (kind, seed) not in self.made:
            self.made[kind, seed] = self._train(kind, seed)
        return self.made[kind, seed]

    def _train(self, kind, seed):
        out = self.folder / f"{kind.replace(' ', '_')}-{seed}"
        overrides, steps = _tree(kind, out / "data", seed)
        recipe = tiny(f"train.steps={steps}", *overrides)
        out = out / "run"
        try:
            train(recipe, out, quiet=True, tensorboard=False)
        except NonFinite:
            assert kind == "rate far too high"
        return out
