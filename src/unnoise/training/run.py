"""A whole run: a recipe and a folder in, a trained model in the folder out."""

from __future__ import annotations

import time
from contextlib import ExitStack, closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from ..artifacts import Model
from ..artifacts.write import write_artifact
from ..data import Dataset
from ..errors import NonFinite, RecipeError
from ..recipes import Recipe, check, check_data, dump, open_parts
from ..safe_files.files import write_bytes
from .averages import Averages
from .budget import require_enough_updates
from .checkpoints import Checkpoints
from .distributed import Processes, find_processes
from .feed import worker_deaths
from .folder import RECIPE, held, need_free, need_same
from .log import ByLevel, Log
from .loop import Training, Update
from .player import player_of
from .recovery import Recovery, unsound
from .report import report
from .stopping import stoppable

if TYPE_CHECKING:
    from accelerate import Accelerator


class Interrupted(KeyboardInterrupt):
    """A signal stopped the training; the state is saved and the run can be resumed."""


def train(
    recipe: Recipe,
    out: str | Path,
    resume: bool = False,
    quiet: bool = False,
    tensorboard: bool = True,
) -> Model:
    """Train by a recipe in the folder `out`, and leave the model there.

    The folder gets recipe.yaml (resolved), log.jsonl, tensorboard/, checkpoints/, samples/, and at
    the end the artifact (model.safetensors, model.json, README.md). With `resume` the run continues
    from its newest sound checkpoint (or starts, if there is none), with any number of processes and
    workers. Processes started by `accelerate launch` or `torchrun` train together, and rank 0 alone
    writes. A signal to stop finishes the update, saves and raises Interrupted. Errors in recipe,
    data or folder are raised before anything is written; ArtifactError is raised if another run
    holds the folder or it cannot be written.
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
    processes = Processes(accelerator)

    def hold() -> None:
        stack.enter_context(held(out))
        need_free(out, resume)

    processes.on_rank_zero(lambda: need_free(out, resume))
    goes_on = processes.on_rank_zero(lambda: resume and out.is_dir())
    if goes_on:
        processes.on_rank_zero(hold)
    checkpoints = Checkpoints(out, recipe.train.keep, recipe.train.keep_every)
    saved = _saved(checkpoints, processes) if resume else None
    if saved is not None:
        need_same(saved[1], recipe)
    data, parts = open_parts(recipe)
    spec = parts["train"].spec
    check_data(recipe, spec)
    training = Training(
        player_of(recipe, spec),
        parts["train"],
        recipe.train,
        recipe.model.conditional,
        accelerator,
        recipe=recipe,
    )
    if saved is not None:
        training.load_state(saved[0])
        if training.step > (recipe.train.steps or training.step):
            raise RecipeError(
                f"the run has made {training.step} updates already, and train.steps is "
                f"{recipe.train.steps}: give at least {training.step}, or start a new run"
            )
    if not goes_on:
        processes.on_rank_zero(hold)
    processes.on_rank_zero(lambda: write_bytes(out / RECIPE, dump(recipe).encode()))
    resumed_at = training.step if saved is not None else None
    with Log(out if processes.first else None, resumed_at, quiet, tensorboard) as log:
        _opening(log, recipe, training, data, out, checkpoints.notes, saved is not None)
        store = Averages(out) if recipe.train.averages and processes.first else None
        recovery = Recovery(training, checkpoints, log, data, store)
        _run(training, recipe, parts.get("validation"), checkpoints, log, out, recovery)
        model, saved_as = training.model(), list[Model]()
        processes.on_rank_zero(lambda: saved_as.append(write_artifact(model, out)))
        log.write("end", training.step, seconds=training.elapsed, seen=training.seen)
        log.say(f"trained: {out} ({training.step} updates in {training.elapsed:.0f} s)")
    return saved_as[0] if saved_as else model


def _saved(
    checkpoints: Checkpoints, processes: Processes
) -> tuple[dict[str, Any], dict[str, Any]] | None:
    """Return (state, recipe) of the newest sound checkpoint; rank 0 finds it, all read it."""
    found = []

    def newest() -> str | None:
        if checkpoints.names():
            found.append(checkpoints.load())
        return checkpoints.loaded

    name = processes.on_rank_zero(newest)
    if name is None:
        return None
    return found[0] if found else checkpoints.read(name)


def _run(
    training: Training,
    recipe: Recipe,
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
    processes = training.processes
    pending: list[Update] = []
    spent = training.elapsed

    def save() -> None:
        state, tree = training.state(), recipe.model_dump(mode="json")
        processes.on_rank_zero(lambda: checkpoints.save(state, tree) and None)
        recovery.saved()

    with worker_deaths(), stoppable() as stopped, closing(training.updates()) as updates:
        for update in updates:
            pending.append(update)
            if update.note:
                log.say(f"note: {update.note}")
                log.write("smaller_parts", update.step, most=training.parts.most)
            require_enough_updates(training, training.elapsed - spent)
            spent = training.elapsed
            recovery.keep(update)
            report_due = int(training.progress * reports) > written
            saving = time.monotonic() - last_saved > training.config.checkpoint
            stopping, saving = processes.any(stopped(), saving and processes.first)
            if training.config.keep_every is not None:
                saving = saving or training.step % training.config.keep_every == 0
            if report_due or saving or stopping:
                training.judge_pending()
            broken = training.guard.broken
            ready = [update for update in pending if update.judged]
            if ready and (len(ready) >= 20 or report_due or saving or stopping or broken):
                recovery.tell(ready)
                mean = _account(ready, levels, log, training)
                pending = [update for update in pending if not update.judged]
                text = f"update {training.step}  loss {mean:.4f}"
                log.progress(
                    training.progress,
                    text + ("" if held_out != held_out else f"  held out {held_out:.4f}"),
                )
            if report_due:
                written = int(training.progress * reports)
                if processes.first:
                    held_out = report(training, validation, levels, log, out)
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


def _opening(
    log: Log,
    recipe: Recipe,
    training: Training,
    data: Dataset,
    out: Path,
    notes: list[str],
    on: bool,
) -> None:
    parameters = sum(p.numel() for p in training.leader.network.parameters())
    length = training.config.steps or f"{training.config.budget:.0f} s"
    for note in (*data.notes, *notes):
        log.say(f"note: {note}")
    log.say(
        f"{'resuming' if on else 'training'} {recipe.name} in {out}: {len(training.data)} "
        f"samples of {training.data.spec.shape}, {parameters:,} parameters, "
        f"batch {training.config.batch}, length {length}, "
        f"precision {training.precision.name} ({training.precision.reason})"
    )
    log.write(
        "resumed" if on else "start",
        training.step,
        parameters=parameters,
        precision=training.precision.name,
    )
