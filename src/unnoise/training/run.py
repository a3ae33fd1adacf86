"""A whole run: a recipe and a folder in, a trained model in the folder out."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import Any

import torch

from ..artifacts import Model
from ..artifacts.files import write_bytes
from ..artifacts.model import CONFIG
from ..data import Dataset
from ..errors import ArtifactError, NonFinite, RecipeError
from ..recipes import (
    Recipe,
    build_denoiser,
    build_objective,
    check,
    check_data,
    dump,
    levels_of,
    load_recipe,
    open_parts,
)
from .checkpoints import Checkpoints
from .log import ByLevel, Log
from .loop import Training, Update
from .report import report

RECIPE = "recipe.yaml"


class Interrupted(KeyboardInterrupt):
    """Training was asked to stop; the state is saved and the run can be resumed."""


def train(
    recipe: Recipe,
    out: str | Path,
    resume: bool = False,
    quiet: bool = False,
    tensorboard: bool = True,
) -> Model:
    """Train by a recipe in the folder `out`, and leave the model there.

    The folder gets recipe.yaml (resolved), log.jsonl, tensorboard/, checkpoints/, samples/, and at
    the end the artifact (model.safetensors, model.json, README.md). With `resume` the run goes on
    from its newest sound checkpoint (or starts, where there is none). Interrupting finishes the
    update, saves and raises Interrupted. Raises before anything is written where recipe, data or
    folder are at fault.
    """
    out = Path(out).expanduser()
    check(recipe)
    _free(out, resume)
    checkpoints = Checkpoints(out, recipe.train.keep)
    saved = checkpoints.load() if resume and checkpoints.names() else None
    if saved is not None:
        _same(saved[1], recipe)
    data, parts = open_parts(recipe)
    spec = parts["train"].spec
    check_data(recipe, spec)
    model = Model(
        build_denoiser(recipe.path, recipe.network, recipe.model, spec, recipe.train.seed),
        recipe,
        spec,
    )
    training = Training(
        model.denoiser,
        build_objective(recipe.objective, model.denoiser.data_std, levels_of(spec)),
        parts["train"],
        recipe.train,
        recipe.model.conditional,
    )
    model.precision = training.precision.name
    if saved is not None:
        training.load_state(saved[0])
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ArtifactError(f"{out} cannot be made: {error.strerror or error}") from error
    write_bytes(out / RECIPE, dump(recipe).encode())
    with Log(out, saved is not None, quiet, tensorboard) as log:
        _opening(log, model, training, data, out, checkpoints.notes, saved is not None)
        _run(training, model, parts.get("validation"), checkpoints, log, out)
        _finish(training, model, out)
        log.write("end", training.step, seconds=training.elapsed, seen=training.seen)
        log.say(f"trained: {out} ({training.step} updates in {training.elapsed:.0f} s)")
    return model


def _run(
    training: Training,
    model: Model,
    validation: Dataset | None,
    checkpoints: Checkpoints,
    log: Log,
    out: Path,
) -> None:
    reports = training.config.reports
    levels, last_saved = ByLevel(), time.monotonic()
    written = int(training.progress * reports)
    held = float("nan")
    pending: list[Update] = []

    def save() -> None:
        _sound(training)
        checkpoints.save(training.state(), model.recipe.model_dump(mode="json"))

    with _stoppable() as stopped:
        for update in training.updates():
            pending.append(update)
            due = int(training.progress * reports) > written
            saving = time.monotonic() - last_saved > training.config.checkpoint
            stopping = stopped()
            if len(pending) >= 20 or due or saving or stopping:
                mean = _account(pending, levels, log, training)
                pending.clear()
                text = f"update {training.step}  loss {mean:.4f}"
                log.progress(
                    training.progress, text + ("" if held != held else f"  held out {held:.4f}")
                )
            if due:
                written = int(training.progress * reports)
                held = report(training, model, validation, levels, log, out)
            if stopping:
                save()
                log.write("interrupted", training.step)
                raise Interrupted(
                    f"interrupted after update {training.step}; the state is saved: go on with "
                    f"`unnoise train --resume --out {out}`"
                )
            if saving:
                save()
                last_saved = time.monotonic()
    if pending:
        _account(pending, levels, log, training)
    log.progress(1.0, f"update {training.step}")
    save()


def _sound(training: Training) -> None:
    """Raise NonFinite where the last update left a weight that is no number: never save those."""
    for name, weight in training.model.network.named_parameters():
        if not bool(torch.isfinite(weight).all()):
            raise NonFinite(
                f"weight {name!r} is not finite after update {training.step}; nothing is saved of "
                "it; lower the learning rate (train.optimizer.rate), or train with "
                "train.precision=fp32"
            )


def _account(pending: list[Update], levels: ByLevel, log: Log, training: Training) -> float:
    """Write the updates since the last time; raises NonFinite where a loss is not a number."""
    losses = [float(u.loss) for u in pending]
    norms = [float(u.gradient_norm) for u in pending]
    for update, loss, norm in zip(pending, losses, norms, strict=True):
        if not (abs(loss) < float("inf") and abs(norm) < float("inf")):
            bad = ~torch.isfinite(update.per_sample)
            row = int(bad.nonzero()[0]) if bool(bad.any()) else None
            where = (
                f"sample {row} of its batch, t = {float(update.t[row]):.4f}"
                if row is not None
                else "its gradient"
            )
            raise NonFinite(
                f"the loss is not finite at update {update.step} ({where}); lower the learning "
                "rate (train.optimizer.rate), or train with train.precision=fp32"
            )
        levels.add(update.per_sample, update.t)
    mean = sum(losses) / len(losses)
    log.write(
        "train",
        pending[-1].step,
        loss=mean,
        gradient_norm=sum(norms) / len(norms),
        rate=pending[-1].rate,
        seen=training.seen,
        seconds=training.elapsed,
    )
    return mean


def _finish(training: Training, model: Model, out: Path) -> None:
    with torch.no_grad():
        averages = zip(training.ema.parameters, training.ema.averages, strict=True)
        for parameter, average in averages:
            parameter.copy_(average)
    model.denoiser.eval().requires_grad_(False)
    model.training = {
        "updates": training.step,
        "samples_seen": training.seen,
        "seconds": round(training.elapsed, 1),
        "precision": training.precision.name,
        "ema": str(training.config.ema),
        "train_samples": len(training.data),
        "train_fingerprint": training.data.fingerprint(),
    }
    model.save(out)


def _opening(
    log: Log, model: Model, training: Training, data: Dataset, out: Path, notes: list[str], on: bool
) -> None:
    parameters = sum(p.numel() for p in model.denoiser.network.parameters())
    length = training.config.steps or f"{training.config.budget:.0f} s"
    for note in (*data.notes, *notes):
        log.say(f"note: {note}")
    log.say(
        f"{'resuming' if on else 'training'} {model.recipe.name} in {out}: {len(training.data)} "
        f"samples of {model.spec.shape}, {parameters:,} parameters, batch {training.config.batch}, "
        f"length {length}, precision {training.precision.name} ({training.precision.reason})"
    )
    log.write("start", training.step, parameters=parameters, precision=training.precision.name)


def _free(out: Path, resume: bool) -> None:
    if out.exists() and not out.is_dir():
        raise ArtifactError(f"{out} is a file; give a folder for the run")
    if resume and (out / CONFIG).exists() and not (out / "checkpoints").is_dir():
        raise ArtifactError(
            f"{out} holds a finished model and no checkpoints to go on from; give another --out"
        )
    if resume or not out.is_dir():
        return
    if (out / CONFIG).exists() or (out / "checkpoints").exists() or (out / RECIPE).exists():
        raise ArtifactError(
            f"{out} holds a run already; add --resume to go on with it, or give another --out"
        )


def _same(saved: dict[str, Any], recipe: Recipe) -> None:
    """Refuse to resume by a recipe that differs in what training depends on."""
    now = recipe.model_dump(mode="json")
    with suppress(RecipeError):  # keys that an earlier release did not have get their defaults
        saved = load_recipe(saved).model_dump(mode="json")
    for section in ("data", "path", "network", "model", "objective", "train"):
        for key in sorted({*saved[section], *now[section]}):
            free = section == "train" and key in (
                "reports",
                "checkpoint",
                "keep",
                "steps",
                "budget",
            )
            if not free and saved[section].get(key) != now[section].get(key):
                raise RecipeError(
                    f"{section}.{key} was {saved[section].get(key)!r} and is now "
                    f"{now[section].get(key)!r}: this run cannot go on with another recipe; undo "
                    "that, or start a new run in another folder"
                )


@contextmanager
def _stoppable() -> Iterator[Any]:
    """Inside, SIGINT and SIGTERM set a flag instead of ending the process; a second one ends it."""
    asked: list[int] = []

    def note(number: int, frame: FrameType | None) -> None:
        if asked:
            raise KeyboardInterrupt
        asked.append(number)

    try:
        before = {s: signal.signal(s, note) for s in (signal.SIGINT, signal.SIGTERM)}
    except ValueError:  # not the main thread: the caller's handlers stay
        before = {}
    try:
        yield lambda: bool(asked)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
