"""Averages of the weights stored during a run, for `unnoise average`.

averages/step-00000100.safetensors   float32, one tensor for every stored length and parameter
averages/index.json                  which there are, with their hashes (last)
Each file is written under a temporary name and renamed. Files that the index does not name are
ignored.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..artifacts.model import Model
from ..errors import ArtifactError
from ..safe_files.files import check_finite, read_json, read_tensors, write_json, write_tensors
from .ema import Ema
from .post_hoc import Mixture, mix_of

FOLDER, INDEX, FORMAT = "averages", "index.json", 1


class Averages:
    """The stored averages of one run folder: up to train.averages.snapshots entries, one a moment.

    Raises ArtifactError if the index is damaged.
    """

    def __init__(self, run: Path) -> None:
        self.folder = run / FOLDER
        self.stored: list[dict[str, Any]] = []
        if (self.folder / INDEX).exists():
            tree = read_json(self.folder / INDEX)
            if not _sound(tree):
                raise ArtifactError(
                    f"{self.folder / INDEX} is no index of averages of format {FORMAT}; remove "
                    "the folder to do without them"
                )
            self.stored = tree["stored"]

    def save(self, averages: list[Ema], network: nn.Module, step: int) -> None:
        """Store the averages as they are after update `step`."""
        names = [name for name, p in network.named_parameters() if p.requires_grad]
        tensors = {
            f"{j}.{name}": average
            for j, kept in enumerate(averages)
            for name, average in zip(names, kept.averages, strict=True)
        }
        self.folder.mkdir(parents=True, exist_ok=True)
        file = f"step-{step:08d}.safetensors"
        sha256 = write_tensors(self.folder / file, tensors)
        kept = averages[0]
        entry = {
            "step": step,
            "updates": kept.updates - kept.updates % kept.every,  # the last that was taken in
            "gammas": [kept.gamma for kept in averages],
            "file": file,
            "sha256": sha256,
        }
        self._write([e for e in self.stored if e["step"] < step] + [entry])

    def forget(self, after: int) -> None:
        """Remove the averages stored after update `after`, from which the run resumes."""
        if any(e["step"] > after for e in self.stored):
            self._write([e for e in self.stored if e["step"] <= after])

    def _write(self, stored: list[dict[str, Any]]) -> None:
        write_json(self.folder / INDEX, {"format": FORMAT, "stored": stored})
        self.stored = stored
        named = {e["file"] for e in stored}
        for path in self.folder.glob("step-*.safetensors"):
            if path.name not in named:
                path.unlink(missing_ok=True)

    def of(self, gamma: float) -> tuple[dict[str, Tensor], Mixture, int]:
        """Return (parameters by name, mixture, updates) of the average of length `gamma`.

        The average is that of the last moment stored, after `updates` updates. Raises ArtifactError
        if nothing is stored or a file is damaged, and the errors of `mix_of`.
        """
        usable = [e for e in self.stored if e["updates"] > 0]
        if not usable:
            raise ArtifactError(
                f"{self.folder} holds no averages; train with train.averages={{}} to store some"
            )
        profiles = [(g, e["updates"]) for e in usable for g in e["gammas"]]
        updates = usable[-1]["updates"]
        mixture = mix_of(profiles, gamma, updates)
        sums: dict[str, Tensor] = {}
        shares = iter(mixture.shares)
        for e in usable:
            path = self.folder / e["file"]
            tensors = read_tensors(path, e["sha256"])
            check_finite(tensors, str(path))
            mine = [next(shares) for _ in e["gammas"]]
            for key, value in tensors.items():
                j, name = key.split(".", 1)
                total = sums.setdefault(name, torch.zeros(value.shape, dtype=torch.float64))
                total.add_(value.double(), alpha=mine[int(j)])
        return {name: total.float() for name, total in sums.items()}, mixture, updates


def average_of(run: str | Path, gamma: float, out: str | Path) -> Mixture:
    """Write the model of a finished run with the average of length `gamma` to the folder `out`.

    Raises ArtifactError if the run has no model or no averages of it, or if `out` is not an empty
    folder; InvalidArgument for a length out of reach, see `mix_of`.
    """
    run, out = Path(run).expanduser(), Path(out).expanduser()
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ArtifactError(f"{out} is there already; give another --out")
    model = Model.load(run, "fp32", "cpu")
    found, mixture, updates = Averages(run).of(gamma)
    network = model.denoiser.network
    learned = {name: p for name, p in network.named_parameters() if name in found}
    made = model.training.get("updates", updates)
    if updates > made:
        raise ArtifactError(
            f"{run} has gone on to update {updates} since its model was written after {made}; "
            "finish it first (`unnoise train --resume`)"
        )
    if len(learned) != len(found):
        raise ArtifactError(f"{run / FOLDER} holds averages of another run than the model's")
    for name, p in learned.items():
        if p.shape != found[name].shape:
            raise ArtifactError(f"{run / FOLDER}: {name!r} has another shape than the model's")
        with torch.no_grad():
            p.copy_(found[name])
    said = f"power gamma={gamma:g}, made after training; {mixture.misplaced:.2%} misplaced"
    replace(model, training={**model.training, "ema": said}).save(out)
    return mixture


def due(before: float, after: float, snapshots: int) -> bool:
    """Return whether a moment to store is in the part of the run from share `before` to `after`."""
    return int(after * snapshots) > int(before * snapshots)


def _sound(tree: Any) -> bool:
    if not isinstance(tree, dict) or tree.get("format") != FORMAT:
        return False
    stored = tree.get("stored")
    return isinstance(stored, list) and all(
        isinstance(e, dict)
        and e.keys() == {"step", "updates", "gammas", "file", "sha256"}
        and type(e["step"]) is int
        and type(e["updates"]) is int
        and isinstance(e["gammas"], list)
        and all(isinstance(g, int | float) and g > 0 for g in e["gammas"])
        and e["file"] == f"step-{e['step']:08d}.safetensors"
        and isinstance(e["sha256"], str)
        for e in stored
    )
