"""A snapshot of a run for the doctor: recipe, data, models, log, as far as they can be read."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ...artifacts import Model
from ...artifacts.artifact import CONFIG
from ...data import Dataset, DataSpec
from ...errors import ArtifactError, UnnoiseError
from ...fields import Condition, Denoiser
from ...recipes import Recipe, build_denoiser, build_objective, load_recipe, open_parts
from ...safe_files.files import check_tensors
from ...sampling import SampleReport
from ...training import Checkpoints
from ...training.log import read_log
from ...training.player import DENOISER
from .levels import LevelErrors, LinearBaseline, measure_levels

PART = 2048  # rows of the data that are examined
FAILED_AVERAGE = (1.5, 1.15)  # loss of the average over that of the raw weights: fault, warning
ROUNDS = 256  # rows that are evaluated by the network
NUMBERS = 2**25  # numbers of the data held at a time


@dataclass
class RunSnapshot:
    """A run: its recipe, and as far as they can be read its models, data, log and last state.

    average: the model with the averaged weights, raw: with the trained weights; parts: the opened
    data; state: of the newest checkpoint; history: the record of training in the artifact; rows: of
    the log; missing: the parts that could not be read (data, model, raw, log), with the reason;
    notes: problems with files; broken: whether the finished model is one of them; n, seed: of the
    samples drawn.
    """

    run: Path
    recipe: Recipe
    n: int
    seed: int
    average: Model | None = None
    raw: Model | None = None
    parts: Mapping[str, Dataset] | None = None
    state: dict[str, Any] = field(default_factory=dict)
    history: dict[str, Any] = field(default_factory=dict)
    rows: list[dict[str, Any]] = field(default_factory=list)
    missing: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    broken: bool = False

    @property
    def guard(self) -> dict[str, Any]:
        """The guard's state, or the counts in the model's history; empty if there is neither."""
        history = self.history
        recorded = {
            "skipped": history.get("skipped_updates", 0),
            "rollbacks": history.get("rollbacks", 0),
        }
        return self.state.get("guard") or (recorded if history else {})

    @property
    def updates(self) -> int:
        """The number of updates that the run has gone through, including those skipped."""
        last = self.rows[-1]["step"] if self.rows else 0
        return int(self.state.get("step") or self.history.get("updates") or last)

    @property
    def updates_made(self) -> int:
        """The number of updates that were made, neither skipped nor undone."""
        left = max(0, self.updates - int(self.guard.get("skipped", 0)))
        return int(player_in(self.state).get("ema_updates", left))

    @property
    def spec(self) -> DataSpec:
        """The description of the data: the model's, or without a model that of the opened data."""
        model = self.average or self.raw
        if model is not None:
            return model.spec
        assert self.parts is not None
        return self.parts["train"].spec

    @cached_property
    def train(self) -> tuple[Tensor, Tensor | None]:
        """(x, labels) of at most `PART` evenly spaced training samples, normalised by `spec`."""
        x, rows = self._rows("train", PART)
        assert self.parts is not None
        labels = self.parts["train"].labels
        return x, None if labels is None else labels[rows]

    @cached_property
    def linear(self) -> LinearBaseline:
        """The best linear predictor for the training data."""
        return LinearBaseline(self.train[0])

    @cached_property
    def unseen(self) -> tuple[Tensor, Condition | None]:
        """(x, condition) of held-out samples, or of training samples if none were held out."""
        assert self.parts is not None
        name = next((p for p in ("validation", "test") if p in self.parts), "train")
        x, rows = self._rows(name, ROUNDS)
        columns = {key: column[rows] for key, column in self.parts[name].columns.items()}
        return x, self.spec.prepare(columns)

    @property
    def has_held_out(self) -> bool:
        """Whether `unseen` is held-out data."""
        return bool({"validation", "test"} & set(self.parts or ()))

    def _rows(self, part: str, count: int) -> tuple[Tensor, Tensor]:
        assert self.parts is not None
        data = self.parts[part]
        rows = evenly_spaced_rows(data, count)
        x = data.batch(rows).x0
        if data.spec.to_dict() != self.spec.to_dict():
            x = self.spec.normalise(data.spec.restore(x, clip=False))
        return x, rows

    @cached_property
    def average_failed(self) -> bool:
        """Whether the average is much worse than the raw weights, which are examined then."""
        levels, raw = self.levels_of(self.average), self.levels_of(self.raw)
        if levels is None or raw is None:
            return False
        nothing = float(levels.loss.min()) > 0.95 and float(raw.loss.min()) < 0.9
        return nothing or not levels.mean <= FAILED_AVERAGE[0] * raw.mean

    @cached_property
    def baseline_loss(self) -> float | None:
        """The trivial predictor's mean loss in the run's own objective; None if that is unknown."""
        model = self.average or self.raw
        if model is None:
            return None
        objective = build_objective(self.recipe.objective, model.denoiser.data_std)
        return objective.mean_baseline_loss(model.denoiser, self.recipe.train.seed)

    @property
    def model(self) -> Model:
        """The model that is examined: the average, unless it failed or is missing."""
        chosen = self.raw if self.average is None or self.average_failed else self.average
        assert chosen is not None
        return chosen

    def levels_of(self, model: Model | None) -> LevelErrors | None:
        """Return the errors of a model by noise level; None without model or data."""
        if model is None or self.parts is None:
            return None
        name = "_levels_raw" if model is self.raw else "_levels_average"
        if not hasattr(self, name):
            setattr(self, name, measure_levels(model, self.linear, *self.unseen, self.seed))
        return getattr(self, name)

    @property
    def levels(self) -> LevelErrors:
        """The errors of the examined model by noise level."""
        found = self.levels_of(self.model)
        assert found is not None
        return found

    @cached_property
    def samples(self) -> SampleReport:
        """n samples, drawn by the recipe's settings."""
        given = None
        if (needed := self.model.facts.needed) and self.parts is not None:
            given = self.parts["train"].examples(needed, self.n)
        return self.model.sample(self.n, condition=given, seed=self.seed)


def evenly_spaced_rows(data: Dataset, count: int, numbers: int = NUMBERS) -> Tensor:
    """Return the indices of at most `count` evenly spaced rows of data.

    Together they hold at most `numbers` numbers, unless fewer than 64 rows would be left.
    """
    count = min(len(data), count, max(64, numbers // math.prod(data.spec.shape)))
    return torch.linspace(0, len(data) - 1, count, dtype=torch.float64).round().long()


def open_run(run: Path, n: int, seed: int) -> RunSnapshot:
    """Return a snapshot of a run, with all of it that can be read.

    Raises ArtifactError unless the folder holds a run that can be read.
    """
    run = run.expanduser()
    problems: list[str] = []
    broken = False
    finished, state, recipe = None, None, None
    if (run / CONFIG).is_file():
        try:
            finished = Model.load(run, "fp32", "cpu")
            recipe = finished.recipe
        except UnnoiseError as error:
            problems.append(str(error))
            broken = True
    checkpoints = Checkpoints(run, read_only=True)
    if checkpoints.names():
        try:
            state, tree = checkpoints.load()
            recipe = recipe or load_recipe(tree)
            problems += [note for note in checkpoints.notes if "passed over" in note]
        except UnnoiseError as error:
            problems.append(str(error))
    if recipe is None and (run / "recipe.yaml").is_file():
        recipe = load_recipe(run / "recipe.yaml")
    if recipe is None:
        detail = f": {'; '.join(problems)}" if problems else ""
        raise ArtifactError(
            f"{run} holds no run that can be read{detail}; give the folder of a run, such as "
            "runs/demo"
        )
    snapshot = RunSnapshot(run, recipe, n, seed, average=finished, notes=problems)
    snapshot.broken = broken
    snapshot.history = dict(finished.training) if finished else {}
    snapshot.state = state or {}
    try:
        snapshot.parts = open_parts(recipe)[1]
    except (UnnoiseError, OSError) as error:
        snapshot.missing["data"] = f"the data cannot be opened: {error}"
    if (
        finished
        and snapshot.parts
        and (other := _why_unfit(snapshot.parts["train"].spec, finished.spec))
    ):
        snapshot.parts = None
        snapshot.missing["data"] = other
    _add_models(snapshot, finished, state)
    try:
        snapshot.rows = read_log(run)
    except UnnoiseError as error:
        snapshot.missing["log"] = str(error)
    return snapshot


def _add_models(
    snapshot: RunSnapshot, finished: Model | None, state: dict[str, Any] | None
) -> None:
    spec = finished.spec if finished else snapshot.parts["train"].spec if snapshot.parts else None
    if state is None:
        snapshot.missing["raw"] = "there is no sound checkpoint, and only that has the raw weights"
    elif spec is None:
        snapshot.missing["raw"] = "the shape of the model is that of its data, which are gone"
    else:
        try:
            snapshot.raw, average = _of_state(snapshot.recipe, spec, state)
        except ArtifactError as error:
            snapshot.missing["raw"] = (
                "the checkpoint does not fit the data, which may have changed since, or the "
                f"model: {error}"
            )
        else:
            snapshot.average = finished or average
    if snapshot.average is None:
        why = "the run has neither a model nor a checkpoint that can be read"
        snapshot.missing["model"] = (
            "; ".join([*snapshot.notes, why]) if state is None else snapshot.missing["raw"]
        )


def _why_unfit(now: DataSpec, learned: DataSpec) -> str | None:
    """Return why a model cannot take these data in, or None."""
    if now.shape != learned.shape:
        differs = f"their samples are {now.shape}, the model's {learned.shape}"
    elif now.classes > learned.classes > 0:
        differs = f"they have {now.classes} classes, the model {learned.classes}"
    else:
        return None
    return f"the data are not those trained on: {differs}; bring those of the training back"


def _of_state(recipe: Recipe, spec: DataSpec, state: dict[str, Any]) -> tuple[Model, Model]:
    """Return (raw, average) of a checkpoint; raises ArtifactError if its weights do not fit."""
    player = player_in(state)
    raw, average = (_denoiser(recipe, spec, player["weights"]) for _ in range(2))
    trained = [p for p in average.network.parameters() if p.requires_grad]
    if player["ema"].keys() != {str(i) for i in range(len(trained))}:
        raise ArtifactError("the average in it is of another network")
    with torch.no_grad():
        for i, p in enumerate(trained):
            p.copy_(player["ema"][str(i)])
    return Model({"denoiser": raw}, recipe, spec), Model({"denoiser": average}, recipe, spec)


def player_in(state: dict[str, Any]) -> dict[str, Any]:
    """Return the state of the denoiser in a checkpoint's state; empty where there is none."""
    return dict(state.get("players", {}).get(DENOISER, {}))


def _denoiser(recipe: Recipe, spec: DataSpec, weights: dict[str, Tensor]) -> Denoiser:
    denoiser = build_denoiser(recipe.path, recipe.network, recipe.model, spec, recipe.train.seed)
    check_tensors(denoiser.network, weights, "the checkpoint's weights")
    denoiser.network.load_state_dict(weights)
    return denoiser.eval()
