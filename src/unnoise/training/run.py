"""A whole run: a recipe and a folder in, a trained model in the folder out."""

from __future__ import annotations

import time
from contextlib import ExitStack, closing
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from ..artifacts import Model
from ..artifacts.write import write_artifact
from ..data import Dataset
from ..errors import NonFinite, RecipeError
from ..recipes import (
    Recipe,
    build_denoiser,
    build_objective,
    check,
    check_data,
    dump,
    levels_of,
    open_parts,
)
from ..safe_files.files import write_bytes
from .averages import Averages
from .checkpoints import Checkpoints
from .feed import worker_deaths
from .few import need_few
from .folder import RECIPE, held, need_free, need_same
from .log import ByLevel, Log
from .loop import Training, Update
from .recovery import Recovery, unsound
from .report import report
from .stopping import stoppable
from .together import Together, find_processes

if TYPE_CHECKING:
    from accelerate import Accelerator


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
    from its newest sound checkpoint (or starts, where there is none), on as many processes and
    workers as it is given now. Started by `accelerate launch` or `torchrun` all processes train
    together, and rank 0 alone writes. Interrupting finishes the update, saves and raises
    Interrupted. Raises before anything is written where recipe, data or folder are at fault;
    ArtifactError where another run holds the folder or it cannot be written.
    """
    out = Path(out).expanduser()
    check(recipe)
    accelerator = find_processes()
    with ExitStack() as held_until_the_end:
        return _train(recipe, out, resume, quiet, tensorboard, accelerator, held_until_the_end)


def _train(
    recipe: Recipe,
    out: Path,
    resume: bool,
    quiet: bool,
    tensorboard: bool,
    accelerator: Accelerator,
    stack: ExitStack,
) -> Model:
    together = Together(accelerator)

    def hold() -> None:
        stack.enter_context(held(out))
        need_free(out, resume)

    together.at_first(lambda: need_free(out, resume))
    goes_on = together.at_first(lambda: resume and out.is_dir())
    if goes_on:
        together.at_first(hold)
    checkpoints = Checkpoints(out, recipe.train.keep, recipe.train.keep_every)
    saved = _saved(checkpoints, together) if resume else None
    if saved is not None:
        need_same(saved[1], recipe)
    data, parts = open_parts(recipe)
    spec = parts["train"].spec
    check_data(recipe, spec)
    denoiser = build_denoiser(recipe.path, recipe.network, recipe.model, spec, recipe.train.seed)
    training = Training(
        denoiser,
        build_objective(recipe.objective, denoiser.data_std, levels_of(spec)),
        parts["train"],
        recipe.train,
        recipe.model.conditional,
        accelerator,
    )
    model = Model({"denoiser": denoiser}, recipe, spec, precision=training.precision.name)
    if saved is not None:
        training.load_state(saved[0])
        if training.step > (recipe.train.steps or training.step):
            raise RecipeError(
                f"the run has made {training.step} updates already, and train.steps is "
                f"{recipe.train.steps}: give at least {training.step}, or start a new run"
            )
    if not goes_on:
        together.at_first(hold)
    together.at_first(lambda: write_bytes(out / RECIPE, dump(recipe).encode()))
    resumed_at = training.step if saved is not None else None
    with Log(out if together.first else None, resumed_at, quiet, tensorboard) as log:
        _opening(log, model, training, data, out, checkpoints.notes, saved is not None)
        store = Averages(out) if recipe.train.averages and together.first else None
        recovery = Recovery(training, checkpoints, log, data, store)
        _run(training, model, parts.get("validation"), checkpoints, log, out, recovery)
        finished = _finish(training, model)
        saved_as: list[Model] = []
        together.at_first(lambda: saved_as.append(write_artifact(finished, out)))
        log.write("end", training.step, seconds=training.elapsed, seen=training.seen)
        log.say(f"trained: {out} ({training.step} updates in {training.elapsed:.0f} s)")
    return saved_as[0] if saved_as else finished


def _saved(
    checkpoints: Checkpoints, together: Together
) -> tuple[dict[str, Any], dict[str, Any]] | None:
    """(state, recipe) of the newest sound checkpoint, which rank 0 looks for and all read."""
    found = []

    def newest() -> str | None:
        if checkpoints.names():
            found.append(checkpoints.load())
        return checkpoints.loaded

    name = together.at_first(newest)
    if name is None:
        return None
    return found[0] if found else checkpoints.read(name)


def _run(
    training: Training,
    model: Model,
    validation: Dataset | None,
    checkpoints: Checkpoints,
    log: Log,
    out: Path,
    recovery: Recovery,
) -> None:
    reports = training.config.reports
    levels, last_saved = ByLevel(), time.monotonic()
    written = int(training.progress * reports)
    held_out = float("nan")
    together = training.together
    pending: list[Update] = []
    spent = training.elapsed

    def save() -> None:
        state, recipe = training.state(), model.recipe.model_dump(mode="json")
        together.at_first(lambda: checkpoints.save(state, recipe) and None)
        recovery.saved()

    with worker_deaths(), stoppable() as stopped, closing(training.updates()) as updates:
        for update in updates:
            pending.append(update)
            if update.note:
                log.say(f"note: {update.note}")
                log.write("smaller_parts", update.step, most=training.parts.most)
            need_few(training, training.elapsed - spent)
            spent = training.elapsed
            recovery.keep(update)
            report_due = int(training.progress * reports) > written
            saving = time.monotonic() - last_saved > training.config.checkpoint
            stopping, saving = together.any(stopped(), saving and together.first)
            if training.config.keep_every is not None:
                saving = saving or training.step % training.config.keep_every == 0
            if report_due or saving or stopping:
                training.settle()
            broken = training.guard.broken
            told = [update for update in pending if update.settled]
            if told and (len(told) >= 20 or report_due or saving or stopping or broken):
                recovery.tell(told)
                mean = _account(told, levels, log, training)
                pending = [update for update in pending if not update.settled]
                text = f"update {training.step}  loss {mean:.4f}"
                log.progress(
                    training.progress,
                    text + ("" if held_out != held_out else f"  held out {held_out:.4f}"),
                )
            if report_due:
                written = int(training.progress * reports)
                if together.first:
                    held_out = report(training, model, validation, levels, log, out)
            if broken:
                recovery.go_back()
                pending.clear()
                spent = training.elapsed
            if stopping:
                kept = not unsound(training)
                if kept:
                    save()
                log.write("interrupted", training.step)
                state = "saved" if kept else "not finite, and the last sound one stays"
                raise Interrupted(
                    f"interrupted after update {training.step}; the state is {state}: go on with "
                    f"`unnoise train --resume --out {out}`"
                )
            if broken or (saving and recovery.fit()):
                save()
                last_saved = time.monotonic()
    if pending:
        recovery.tell(pending)
        _account(pending, levels, log, training)
    log.progress(1.0, f"update {training.step}")
    recovery.end(training.step)
    if name := unsound(training):
        raise NonFinite(
            f"weight {name!r} is not finite after update {training.step}; nothing is saved of it; "
            "lower the learning rate (train.optimizer.rate), or train with train.precision=fp32"
        )
    save()


def _account(pending: list[Update], levels: ByLevel, log: Log, training: Training) -> float:
    """Write the updates since the last time; those that were skipped count in no mean."""
    made = [update for update in pending if not (update.fault and update.fault.skipped)]
    mean = norm = float("nan")
    if made:  # all of them are fetched from the device at once
        levels.add(torch.cat([u.per_sample for u in made]), torch.cat([u.t for u in made]))
        numbers = torch.stack([torch.stack([u.loss, u.gradient_norm]).double() for u in made])
        mean, norm = numbers.mean(0).tolist()
    skipped = {"skipped": training.guard.skipped} if training.guard.skipped else {}
    log.write(
        "train",
        pending[-1].step,
        loss=mean,
        gradient_norm=norm,
        rate=pending[-1].rate,
        seen=pending[-1].seen,
        seconds=training.elapsed,
        **skipped,
    )
    return mean


def _finish(training: Training, model: Model) -> Model:
    """Return the model of the averaged weights, with a summary of the training."""
    training.ema.catch_up()
    with torch.no_grad():
        averages = zip(training.ema.parameters, training.ema.averages, strict=True)
        for parameter, average in averages:
            parameter.copy_(average)
    model.denoiser.eval().requires_grad_(False)
    guard = training.guard
    told: dict[str, Any] = {
        "updates": training.step,
        "samples_seen": training.seen,
        "seconds": round(training.elapsed, 1),
        "precision": training.precision.name,
        "ema": str(training.config.ema),
        "train_samples": len(training.data),
        "train_fingerprint": training.data.fingerprint(),
    }
    if guard.skipped or guard.rollbacks:
        told |= {"skipped_updates": guard.skipped, "rollbacks": guard.rollbacks}
    return replace(model, training=told)


def _opening(
    log: Log, model: Model, training: Training, data: Dataset, out: Path, notes: list[str], on: bool
) -> None:
    parameters = model.denoiser.parameter_count
    length = training.config.steps or f"{training.config.budget:.0f} s"
    for note in (*data.notes, *notes):
        log.say(f"note: {note}")
    log.say(
        f"{'resuming' if on else 'training'} {model.recipe.name} in {out}: {len(training.data)} "
        f"samples of {model.spec.shape}, {parameters:,} parameters, batch {training.config.batch}, "
        f"length {length}, precision {training.precision.name} ({training.precision.reason})"
    )
    log.write(
        "resumed" if on else "start",
        training.step,
        parameters=parameters,
        precision=training.precision.name,
    )
