"""A trained model: on disk a folder of safetensors, strict JSON and a card; here one object."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from ..recipes import abilities
from ..sampling import (
    InferenceCopy,
    ModelFacts,
    SampleReport,
    SampleRequest,
    Stream,
    find_device,
    open_stream,
    resolve,
)
from ..solvers import Solver
from ..solvers.solver import OnStep
from .artifact import Artifact
from .read import read_artifact
from .write import write_artifact

_TOLD = ("updates", "samples_seen", "seconds")  # of the training, in one line


@dataclass(frozen=True, eq=False, repr=False)
class Model(Artifact):
    """A trained model that can be sampled; `Artifact` lists what it is made of.

    precision: of the arithmetic of sampling. A model does not change: its first sampling makes a
    copy of the network (`facts`), and later changes of the weights do not reach the samples; for
    other weights, or another precision, make another model (`dataclasses.replace`).
    """

    precision: str = "fp32"

    @cached_property
    def facts(self) -> ModelFacts:
        """What sampling needs, with the copy of the network that it evaluates."""
        return ModelFacts(
            denoiser=self.denoiser,
            inference=InferenceCopy.of(self.denoiser, self.precision),
            spec=self.spec,
            sample=self.recipe.sample,
            able=abilities(self.recipe, self.spec),
            tuned=self.tuned,
        )

    def sample(
        self,
        n: int | None = None,
        *,
        solver: str | Solver | None = None,
        steps: int | None = None,
        grid: Mapping[str, Any] | Sequence[float] | Tensor | str | None = None,
        guidance: float | Sequence[Mapping[str, Any]] | None = None,
        interval: tuple[float, float] | None = None,
        rescale: float | None = None,
        condition: Mapping[str, Any] | None = None,
        seed: int = 0,
        batch: int = 250,
        first: int = 0,
        on_step: OnStep | None = None,
    ) -> SampleReport:
        """Draw n samples; what is not given is as the model's recipe says.

        n: how many (by default one a label of `condition`, else 16). condition: {"class": c}, c an
        index or a name, n of them, or `CycleClasses`; without one a class-conditional model draws
        the classes in turn (class first + i, modulo their number, for sample i). guidance: a scale,
        1 for none, or a list of sections as a recipe has them; interval, rescale: of the
        classifier-free one. Sample i depends on (seed, first + i) alone, whatever the batch, up to
        the rounding of the network's precision. solver "auto" and "tuned" (`unnoise tune`) bring
        their own grid where none is given. grid: a name, {"kind": …, options}, or the times
        themselves. Raises InvalidArgument for what cannot be, before any work.
        """
        options = {k: v for k, v in locals().items() if k not in ("self", "on_step")}
        return self.stream(**options).whole(on_step)

    def stream(self, n: int | None = None, **options: Any) -> Stream:
        """Return the samples that `sample` draws, with its options, block by block.

        `for block in model.stream(10**6): …`. The options are checked at once, and each block is
        drawn as it is needed: one block of `batch` samples is in memory, however many there are.
        Block b is the samples b·batch … b·batch + batch − 1, so that a stream that begins or ends
        elsewhere has the same blocks but for its two ends.
        """
        return open_stream(self.facts, SampleRequest.of(n=n, **options))

    def save(self, folder: str | Path) -> Path:
        """Write the artifact: weights, JSON, card and tuned solvers take the old ones' places as
        one, so that a crash at any moment leaves all of the old or all of the new. Raises
        ArtifactError."""
        folder = Path(folder).expanduser()
        write_artifact(self, folder)
        return folder

    @staticmethod
    def load(
        folder: str | Path,
        precision: str = "auto",
        device: str = "auto",
        network: nn.Module | None = None,
    ) -> Model:
        """Read an artifact; no code from it is run. network: one of the class that was trained,
        where that is the caller's own; it takes the weights. Raises ArtifactError naming what is
        wrong, InvalidArgument for a precision or a device that cannot be."""
        place = find_device(device)
        chosen = resolve(precision, place).name
        found = read_artifact(Path(folder).expanduser(), place, network)
        kept = {each.name: getattr(found, each.name) for each in fields(found)}
        return Model(**kept, precision=chosen)

    def __repr__(self) -> str:
        count = self.denoiser.parameter_count
        named = [n for n in self.conditions if n != "class"]
        classes = [f"{self.classes} classes"] if self.classes else []
        given = " and ".join([*classes, *named]) or "no condition"
        facts = [
            f"{self.recipe.network.kind} of {count:,} parameters",
            f"predicts {self.denoiser.predicts} on {self.denoiser.path}",
            f"{self.spec.name}: {self.spec.modality} {self.spec.shape}, {given}",
            f"weights: {self.ema or 'no average'}, sha256 {self.weights_sha256[:12] or 'unsaved'}",
            f"made with {self.origin or 'this program'}",
        ]
        if self.training:
            facts.insert(3, ", ".join(f"{k} {v}" for k, v in self.training.items() if k in _TOLD))
        if self.tuned:
            facts.append(f"tuned for {', '.join(map(str, sorted(self.tuned)))} steps")
        return "\n  ".join([f"Model {self.recipe.name!r}", *filter(None, facts)])


def load(
    folder: str | Path,
    precision: str = "auto",
    device: str = "auto",
    network: nn.Module | None = None,
) -> Model:
    """Read a trained model from its folder; see `Model.load`."""
    return Model.load(folder, precision, device, network)


def sample(model: Model | str | Path, n: int | None = None, **options: Any) -> Tensor:
    """Samples of a model in its data's own units, (n, *event); options as `Model.sample` takes."""
    if not isinstance(model, Model):
        model = load(model)
    return model.sample(n, **options).values
