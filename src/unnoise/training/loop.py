"""The training loop as a generator: the caller drives it, one update at a time."""

from __future__ import annotations

import time
from collections.abc import Generator
from copy import deepcopy
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ..data import Dataset
from ..data.resident import Resident, resident
from ..errors import Unsupported
from ..fields import Denoiser
from ..objectives import Batch, Loss, Objective, condition_from_labels
from ..randomness import Streams, moved
from ..recipes.train_section import TrainConfig
from ..sampling import Precision, autocast, resolve
from .batches import Parts, batch_at, memory_named, out_of_memory, rate_of
from .ema import Ema
from .feed import Feed, worker_deaths
from .guard import Guard
from .held_out import held_out
from .optimizers import build_optimizers, rate_at
from .outcome import Outcome
from .prepare import prepare
from .state import restore, state_of
from .together import Together, find_processes
from .update import Update

if TYPE_CHECKING:
    from accelerate import Accelerator


class Training:
    """A model in training. Everything random is a function of (seed, samples seen).

    model: trained in place, in float32 with `config.precision` arithmetic; objective: its loss;
    data: the training part, or whatever has its `batch(rows)`, `order`, `spec` and `fingerprint`;
    conditional: whether labels are shown to the model; accelerator: made anew where none is given.

    Each update is one batch of `config.batch` samples, or of the ramp's. It is split into
    `accumulate` parts on each of the processes that Accelerate finds, each part with its own
    backward pass; gradients are added up once, before clipping, so the update is that of one
    process on the whole batch (a coupling pairs inside a part). Where a part does not fit into
    memory the update is made again in smaller ones, and so are all later ones.

    What is computed is read on the host once an update, its loss and norm together, for the guard.
    On a GPU (`late`) they are not waited for: it leaves out a bad update itself, and the host
    judges each update, and takes it into the averages, when the next one's gradients stand in the
    queue. `settle` does that at once; `state`, `held_out`, `Update.fault` and the end of `updates`
    do too. Weights and judgements are the same.

    Raises DataError for a batch that does not split, or processes with unlike data; Unsupported for
    an objective that learns from its losses on several processes.
    """

    def __init__(
        self,
        model: Denoiser,
        objective: Objective,
        data: Dataset,
        config: TrainConfig,
        conditional: bool = True,
        accelerator: Accelerator | None = None,
    ) -> None:
        accelerator = accelerator or find_processes()
        self.accelerator, self.objective, self.data, self.config = (
            accelerator, objective, data, config,
        )  # fmt: skip
        self.together = Together(accelerator)
        processes = self.together.count
        self.parts = Parts(config, processes)
        if processes > 1 and objective.state():
            raise Unsupported(
                f"{type(objective).__name__} learns from its losses, and each of {processes} "
                "processes would see its own; train it on one process, or with other "
                "objective.times"
            )
        self.conditional = conditional and bool(data.spec.classes)
        self.device = accelerator.device
        self.precision: Precision = resolve(config.precision, self.device)
        self.model = model.to(self.device).train()
        prepare(self.model.network, config, objective, self.device)
        self.optimizers = build_optimizers(self.model.network, config.optimizer)
        named = self.model.network.named_parameters()
        self._named = [(name, p) for name, p in named if p.requires_grad]
        self._trained = trained = [p for _, p in self._named]
        self.ema = Ema(trained, **config.ema.model_dump(exclude={"kind"}))
        kept = config.averages
        self.averages = (
            [Ema(trained, gamma=g, every=kept.every) for g in kept.gammas] if kept else []
        )
        self.step, self.seen, self.elapsed = 0, 0, 0.0
        self.guard = Guard(config.guard)
        self.late = self.device.type == "cuda"
        self._pending: Outcome | None = None
        self._feed: Feed | None = None
        if processes > 1:
            self.together.same("fingerprint of its data", self.fingerprint)

    @cached_property
    def fingerprint(self) -> str:
        """Of the training data."""
        return self.data.fingerprint()

    @cached_property
    def source(self) -> Dataset | Resident:
        """Where batches come from: the training data, on the device where they fit there."""
        return resident(self.data, self.device) or self.data

    @property
    def progress(self) -> float:
        """The share of the run that is done, by updates or by time."""
        if self.config.steps is not None:
            return min(1.0, self.step / self.config.steps)
        assert self.config.budget is not None
        return min(1.0, self.elapsed / self.config.budget)

    def _middle(self) -> float:
        """The share of the run at the middle of the next update: never quite 0, never quite 1."""
        if self.config.steps is not None:
            return (self.step + 0.5) / self.config.steps
        assert self.config.budget is not None
        update = self.elapsed / self.step if self.step else 0.01 * self.config.budget
        return min(1.0, (self.elapsed + update / 2) / self.config.budget)

    def batch(self, counter: int, size: int) -> tuple[Batch, Streams]:
        """The samples at positions counter … counter + size − 1 of the stream, and their noise."""
        seed = self.config.seed
        feed = self._feed or Feed(self.source, seed, size, 0)
        x0, labels = feed.take(counter, size)
        condition = condition_from_labels(labels) if self.conditional else None
        if condition is not None:
            condition = condition.to(self.device)
        noise = Streams(seed, range(counter, counter + size), "training")
        return Batch(moved(x0, self.device), condition), noise

    def updates(self) -> Generator[Update, None, None]:
        """Yield after every update until the run's length is reached; time outside is not counted.
        The last one is settled.

        The caller may stop at any time, save `state()`, and go on later. Where `guard.broken` after
        an update the caller can `roll_back`; otherwise asking for the next one raises NonFinite.
        """
        try:
            while self.progress < 1:
                with worker_deaths(), memory_named():
                    update = self._update()
                    if self.progress >= 1:
                        self.settle()
                yield update
        finally:
            if self._feed is not None:
                self._feed.close()
            self.settle()

    def _fed(self, size: int) -> Feed:
        """What makes parts of `size` samples."""
        if self._feed is None or self._feed.source.size != size:
            if self._feed is not None:
                self._feed.close()
            stride, pin = size * self.together.count, self.device.type == "cuda"
            workers = 0 if isinstance(self.source, Resident) else self.config.workers
            self._feed = Feed(self.source, self.config.seed, size, stride, workers, pin)
        return self._feed

    def _losses(self, whole: int) -> list[Loss]:
        """The losses of the next `whole` samples' parts, whose gradients are left in place; none
        where a part does not fit into memory on any process, and then there are no gradients."""
        together = self.together
        count, size = self.parts.split(whole)
        self._fed(size).seek(self.seen + together.rank * size)
        before, losses, failed = self.objective.state(), [], False
        try:
            for k in range(count):
                start = (k * together.count + together.rank) * size
                batch, noise = self.batch(self.seen + start, size)
                batch = replace(batch, start=start, whole=whole)
                with autocast(self.precision.name, self.device):
                    loss = self.objective(self.model, batch, noise)
                self.accelerator.backward(loss.value / (count * together.count))
                losses.append(loss)
        except (RuntimeError, MemoryError) as error:
            if not out_of_memory(error):
                raise
            failed = True
        if failed:
            self.optimizers.zero_grad()
        if together.gradients(self._trained, failed):
            losses.clear()
            self.optimizers.zero_grad()
            if before:
                self.objective.load_state(before)
            if self.device.type == "cuda":
                torch.cuda.empty_cache()
        return losses

    def _update(self) -> Update:
        self.guard.check(self.precision.name)
        together, note = self.together, None
        began = time.perf_counter()
        progress = self.progress
        whole = batch_at(progress, self.config)
        rate = rate_at(self._middle(), self.config) * rate_of(whole, self.config)
        rate *= self.guard.factor
        self.optimizers.scale(rate)
        while not (losses := self._losses(whole)):
            note = self.parts.shrink(whole)
        per_sample, t = together.whole(
            [
                torch.stack([loss.per_sample for loss in losses]),
                torch.stack([loss.t for loss in losses]),
            ]
        )
        grads = [p.grad for p in self._trained if p.grad is not None]
        norm = torch.nn.utils.get_total_norm(grads, foreach=True)
        self.step += 1
        outcome = Outcome(self.step, self.seen, per_sample, t, norm, self._named, self.late)
        if self.late:
            self.settle()  # the update before: its weights are there until the next line
            self._make(norm, outcome.bad)
            self._pending = outcome
        elif self._judged(outcome):
            self._make(norm)
            self._average()
        self.optimizers.zero_grad()
        self.seen += whole
        self.elapsed += time.perf_counter() - began
        if self.config.budget is not None:
            self.elapsed = together.of_first(self.elapsed)
        return Update(self.step, self.seen, outcome, rate, progress, self.settle, note)

    def _make(self, norm: Tensor, bad: Tensor | None = None) -> None:
        """Change the weights by the gradients, of this norm; not where `bad` is 1 on the device."""
        if self.config.clip is not None:
            torch.nn.utils.clip_grads_with_norm_(
                self._trained, self.config.clip, norm, foreach=True
            )
        self.optimizers.step(bad)

    def _average(self) -> None:
        for average in (self.ema, *self.averages):
            average.update()

    def settle(self) -> None:
        """Judge the last update, where that is still to be done, and take it into the averages; one
        that was made while the run was broken, which goes back or ends, is left out."""
        outcome, self._pending = self._pending, None
        if outcome is not None and not self.guard.broken and self._judged(outcome):
            self._average()

    def _judged(self, outcome: Outcome) -> bool:
        """Have the guard judge an update; whether it is made."""
        outcome.arrive()
        kind = self.guard.judge(outcome.loss, outcome.norm, self._baseline)
        fault = outcome.settle(kind, self.data, self.config.seed)
        self.guard.take(fault)
        return fault is None or not fault.skipped

    @cached_property
    def _baseline(self) -> float:
        """The mean loss of the baseline where that is known, else 1, as of unit data."""
        return self.objective.mean_baseline_loss(self.model, self.config.seed) or 1.0

    def roll_back(self, state: dict[str, Any]) -> None:
        """Go back to an earlier `state()`, with lower rates from there on.

        What the guard has seen stays, and so does the time spent where that is the run's length. An
        update that is not settled is undone with the others, and nobody hears of it.
        """
        guard, elapsed = self.guard.state(), self.elapsed
        self.load_state(state | {"optimizers": deepcopy(state["optimizers"])})  # it would be shared
        self.guard.load_state(guard)
        self.guard.went_back(self.step)
        if self.config.budget is not None:
            self.elapsed = elapsed

    def held_out(self, data: Dataset, limit: int = 1024) -> tuple[Tensor, Tensor]:
        """(per-sample loss, t) of the average weights on data not trained on, at fixed noise."""
        self.settle()
        return held_out(self, data, limit)

    def baseline_loss(self, t: Tensor) -> Tensor | None:
        """Return the loss at times t (n,) of the best linear predictor of white data, if known."""
        return self.objective.baseline_loss(self.model, t)

    def state(self) -> dict[str, Any]:
        """Everything a resumed run needs, beside its recipe and data; every update in it judged."""
        self.settle()
        return state_of(self)

    def load_state(self, state: dict[str, Any]) -> None:
        """Go on where `state()` was taken; raises DataError where the data have changed since,
        ArtifactError where it is not a state of this run."""
        self._pending = None
        restore(self, state)
