"""A trained model: on disk a folder of safetensors, strict JSON and a card; here one object."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..data import DataSpec
from ..data.dataset import MAX_BYTES
from ..errors import InvalidArgument, need_count, unknown
from ..fields import Condition, Denoiser, Field
from ..randomness import Streams
from ..recipes import Recipe
from ..solvers import Solver
from ..solvers import sample as walk
from ..solvers.solver import OnStep
from .origin import Origin
from .plan import make_plan
from .precision import autocast
from .tuned import TunedFile

WEIGHTS, CONFIG, CARD = "model.safetensors", "model.json", "README.md"
_TOLD = ("updates", "samples_seen", "seconds")  # of the training, in one line


@dataclass(frozen=True)
class Samples:
    """What a model made: `values` in the data's own units, `labels` where classes were asked for,
    the network passes each sample cost, `x` as the network sees it. Where on_step stopped the walk
    `finished` is False: the values are then the state that was reached, of the batches begun."""

    values: Tensor
    labels: Tensor | None
    passes: int
    x: Tensor
    finished: bool = True


@dataclass(repr=False)
class Model:
    """A denoiser with what travels with it: its recipe, its data's description, its history.

    training: a summary of the training, plain values. precision: what it runs in here. tuned:
    solvers by their steps. origin: where it was made, None before it is saved. weights_sha256: of
    the file of its weights, "" before.
    """

    denoiser: Denoiser
    recipe: Recipe
    spec: DataSpec
    training: dict[str, Any] = field(default_factory=dict)
    precision: str = "fp32"
    tuned: dict[int, TunedFile] = field(default_factory=dict)
    origin: Origin | None = None
    weights_sha256: str = ""

    @property
    def ema(self) -> str | None:
        """Which average of the trained weights these are; None where nothing was noted."""
        noted = self.training.get("ema")
        return None if noted is None else str(noted)

    @property
    def classes(self) -> int:
        """How many classes it can be asked for; 0 where it is unconditional."""
        return self.spec.classes if self.recipe.model.conditional else 0

    def sample(
        self,
        n: int | None = None,
        *,
        solver: str | Solver | None = None,
        steps: int | None = None,
        grid: Mapping[str, Any] | Sequence[float] | Tensor | str | None = None,
        guidance: float | None = None,
        interval: tuple[float, float] | None = None,
        rescale: float | None = None,
        condition: Mapping[str, Any] | None = None,
        seed: int = 0,
        batch: int = 250,
        first: int = 0,
        on_step: OnStep | None = None,
    ) -> Samples:
        """Draw n samples; what is not given is as the model's recipe says.

        n: how many (by default one a label of `condition`, else 16). condition: {"class": c}, c an
        index or a name, or n of them; without one a class-conditional model draws the classes in
        turn (class first + i, modulo their number, for sample i). guidance: scale, 1 none. Sample
        i depends on (seed, first + i) alone, whatever the batch, up to the rounding of the
        network's precision. solver "auto" and "tuned" (`unnoise tune`) bring their own grid where
        none is given. grid: a name, {"kind": …, options}, or the times themselves. Raises
        InvalidArgument for what cannot be, before any work.
        """
        plan = make_plan(self, solver, steps, grid, guidance, interval, rescale)
        need_count("batch", batch)
        need_count("first", first, 0)
        if n is not None:
            self.check_affordable(n)
        labels = self._labels(n, condition, first)
        n = len(labels) if labels is not None else 16 if n is None else n
        noise = Streams(seed, range(first, first + n), "sample")
        device = next(self.denoiser.parameters()).device
        pieces, passes, finished = [], 0, True
        for at in range(0, n, batch):
            rows = slice(at, min(at + batch, n))
            field_: Field = self.denoiser
            if labels is not None:
                chosen = Condition.of({"class": labels[rows].to(device)}, len(labels[rows]))
                field_ = plan.guide(self.denoiser).given(chosen)
            with torch.no_grad(), autocast(self.precision, device):
                made = walk(
                    field_,
                    noise[rows],
                    self.spec.shape,
                    plan.solver,
                    plan.grid,
                    self.denoiser.data_std,
                    device,
                    on_step=on_step,
                )
            pieces.append(made.x.float().cpu())
            passes, finished = made.passes, made.finished
            if not finished:
                break
        x = torch.cat(pieces)
        labels = None if labels is None else labels[: len(x)]
        return Samples(self.spec.restore(x), labels, passes, x, finished)

    def check_affordable(self, n: int) -> None:
        """Raise InvalidArgument unless n samples can be asked for and held in memory."""
        size = 4 * math.prod(self.spec.shape)
        if need_count("n", n) * size > MAX_BYTES:
            raise InvalidArgument(
                f"n is {n}, {n * size / 2**30:.0f} GiB of samples at once; draw at most "
                f"{MAX_BYTES // size} and go on with first={MAX_BYTES // size}"
            )

    def _labels(
        self, n: int | None, condition: Mapping[str, Any] | None, first: int
    ) -> Tensor | None:
        if condition is not None and not isinstance(condition, Mapping):
            raise InvalidArgument(f'condition is {condition!r}; give a dict, as {{"class": 3}}')
        if condition:
            for name in condition:
                if name != "class" or not self.classes:
                    known = ["class"] if self.classes else ["none: the model is unconditional"]
                    raise unknown("condition", name, known)
            asked = condition["class"]
            asked = asked.tolist() if hasattr(asked, "tolist") else asked
            many = asked if isinstance(asked, list | tuple | range) else [asked]
            labels = [self.spec.class_index(label) for label in many]
            if not labels or (n is not None and len(labels) not in (1, n)):
                raise InvalidArgument(
                    f"{len(labels)} classes for {n or 'some'} samples; give one, or one per sample"
                )
            one_for_all = len(labels) == 1 and not isinstance(asked, list | tuple | range)
            count = n or (16 if one_for_all else len(labels))
            return torch.tensor(labels * count if len(labels) == 1 else labels)
        if not self.classes:
            return None
        return (first % self.classes + torch.arange(16 if n is None else n)) % self.classes

    def save(self, folder: str | Path) -> Path:
        """Write the artifact: weights, JSON, card and tuned solvers take the old ones' places as
        one, so that a crash at any moment leaves all of the old or all of the new. Raises
        ArtifactError."""
        from .write import write_model

        return write_model(self, Path(folder).expanduser())

    @staticmethod
    def load(folder: str | Path, precision: str = "auto", device: str = "auto") -> Model:
        """Read an artifact; runs no code from it. Raises ArtifactError naming what is wrong."""
        from .read import read_model

        return read_model(Path(folder).expanduser(), precision, device)

    def __repr__(self) -> str:
        count = self.denoiser.parameter_count
        classes = f"{self.classes} classes" if self.classes else "no condition"
        facts = [
            f"{self.recipe.network.kind} of {count:,} parameters",
            f"predicts {self.denoiser.predicts} on {self.denoiser.path}",
            f"{self.spec.name}: {self.spec.modality} {self.spec.shape}, {classes}",
            f"weights: {self.ema or 'no average'}, sha256 {self.weights_sha256[:12] or 'unsaved'}",
            f"made with {self.origin or 'this program'}",
        ]
        if self.training:
            facts.insert(3, ", ".join(f"{k} {v}" for k, v in self.training.items() if k in _TOLD))
        if self.tuned:
            facts.append(f"tuned for {', '.join(map(str, sorted(self.tuned)))} steps")
        return "\n  ".join([f"Model {self.recipe.name!r}", *filter(None, facts)])


def load(folder: str | Path, precision: str = "auto", device: str = "auto") -> Model:
    """Read a trained model from its folder; see `Model.load`."""
    return Model.load(folder, precision, device)


def sample(model: Model | str | Path, n: int | None = None, **options: Any) -> Tensor:
    """Samples of a model in its data's own units, (n, *event); options as `Model.sample` takes."""
    if not isinstance(model, Model):
        model = load(model)
    return model.sample(n, **options).values
