"""One run of one contestant: its key, its result, and the store of finished runs."""

from __future__ import annotations

import hashlib
import json
import os
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from unnoise import load_recipe

from . import ours
from .contestants import KINDS, Contestant
from .learning import train
from .task import DRAWS, EVALUATIONS, Task

FORMAT = 1
SHOWN = 2  # samples of each class stored for the picture


@dataclass(frozen=True)
class Run:
    """One contestant, a number of CPU seconds, and a seed. settings: all that decides the run."""

    name: str
    task: str
    seconds: float
    seed: int
    settings: dict[str, Any]

    @property
    def draws(self) -> int:
        """The number of sets of samples: one of few samples for a try, else DRAWS."""
        return 1 if self.settings.get("samples") else DRAWS

    @property
    def key(self) -> str:
        """A hash of all that decides the run."""
        decides = {**asdict(self), "format": FORMAT, "evaluations": EVALUATIONS}
        text = json.dumps(decides | ({"draws": self.draws} if self.draws > 1 else {}))
        return hashlib.sha256(text.encode()).hexdigest()[:16]


class Kept:
    """Finished runs: those of this machine in a folder, and those of a committed result."""

    def __init__(self, folder: Path, committed: Path | None = None) -> None:
        self.folder, self.committed = folder, {}
        folder.mkdir(parents=True, exist_ok=True)
        if committed is not None and committed.exists():
            data = json.loads(committed.read_text("utf-8")).get("data", {})
            for part in data.values():
                self.committed.update({r["key"]: r for r in (*part["runs"], *part["tries"])})

    def __call__(self, run: Run) -> dict[str, Any] | None:
        path = self.folder / f"{run.key}.json"
        if path.exists():
            return {"key": run.key, **json.loads(path.read_text("utf-8"))}
        return self.committed.get(run.key)

    def forget(self, run: Run) -> None:
        """Remove a run's result."""
        self.committed.pop(run.key, None)
        (self.folder / f"{run.key}.json").unlink(missing_ok=True)

    def shown(self, run: Run) -> np.ndarray | None:
        """Return a run's samples for the picture, or None."""
        path = self.folder / f"{run.key}.npy"
        return np.load(path) if path.exists() else None


def run_of_peer(name: str, who: Contestant, task: str, seconds: float, seed: int) -> Run:
    """Return the run of a peer."""
    return Run(name, task, seconds, seed, who.plain())


def run_of_ours(name: str, task: Task, seconds: float, seed: int, most: int | None) -> Run:
    """Return a run of ours."""
    recipe = ours.recipe_for(task, seconds, seed, most)
    return Run(name, task.name, seconds, seed, {"peer": "unnoise", "recipe": ours.settings(recipe)})


def execute(run: Run, task: Task, cache: Path, library: str) -> None:
    """Train, sample, measure, and store the result under the run's key."""
    torch.manual_seed(run.seed)
    wall, who = time.perf_counter(), None
    if run.settings["peer"] == "unnoise":
        about, made = ours.run(task, load_recipe(run.settings["recipe"]), run.draws)
    else:
        who = Contestant.from_plain(run.settings)
        about, made = _peer(run, who, task)
    sampled = time.perf_counter()
    wanted = task.labels[: who.samples if who else None]
    labels = wanted if about["conditional"] else None
    figures = {name: task.mean_figures(draws, labels) for name, draws in made.items()}
    first = min(figures, key=lambda n: figures[n]["fd"]) if who and who.best else next(iter(made))
    result = {
        "key": run.key,
        **asdict(run),
        **about,
        **figures[first],
        "sampler": first,
        "samplers": figures,
        "wall_seconds": [round(sampled - wall, 1), round(time.perf_counter() - wall, 1)],
        "library": library,
    }
    _keep(cache / f"{run.key}.npy", _shown(made[first][0], wanted))
    part = cache / f".{run.key}.{os.getpid()}"
    part.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    part.replace(cache / f"{run.key}.json")


def _peer(run: Run, who: Contestant, task: Task) -> tuple[dict[str, Any], dict[str, list[Tensor]]]:
    classes = task.train.spec.classes
    peer = KINDS[who.peer](task.shape, classes, **who.settings.options)
    x, labels = task.scaled()
    about: dict[str, Any] = dict(train(peer, x, labels, who.settings, run.seconds))
    about["parameters"] = sum(p.numel() for p in peer.module.parameters())
    about["conditional"] = peer.conditional
    wanted = task.labels[: who.samples]
    begun, made = time.process_time(), {}
    for sampler in who.samplers:
        made[sampler] = []
        for draw in range(run.draws):
            noise = task.noise(draw + 1)[: who.samples]
            parts = zip(noise.split(300), wanted.split(300), strict=True)
            found = [peer.sample(part, asked, sampler) for part, asked in parts]
            made[sampler].append(task.raw(torch.cat(found)))
    about["sampling_cpu_seconds"] = round(time.process_time() - begun, 1)
    return about, made


def _shown(values: Tensor, labels: Tensor) -> np.ndarray:
    """Return the first SHOWN samples of each requested class, by class."""
    rows = [torch.nonzero(labels == c).flatten()[:SHOWN] for c in labels.unique()]
    return values[torch.cat(rows)].numpy()


def _keep(path: Path, array: np.ndarray) -> None:
    part = path.with_name(f".{path.name}.{os.getpid()}.npy")
    np.save(part, array)
    part.replace(path)
