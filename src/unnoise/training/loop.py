"""The training loop as a generator: the caller drives it, one update at a time."""

from __future__ import annotations

import time
from collections.abc import Generator
from copy import deepcopy
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ..artifacts.files import check_tensors
from ..artifacts.precision import Precision, autocast, resolve
from ..data import Dataset
from ..errors import ArtifactError, DataError, UnnoiseError, Unsupported
from ..fields import Denoiser
from ..objectives import Batch, Objective, condition_from_labels
from ..randomness import Streams
from ..recipes.schema import TrainConfig
from .ema import Ema
from .feed import Feed, worker_deaths
from .guard import Fault, Guard, bad_gradient, bad_rows
from .optimizers import build_optimizers, rate_at
from .together import Together, find_processes
from .trivial import mean_trivial_loss, trivial_loss

if TYPE_CHECKING:
    from accelerate import Accelerator


@dataclass(frozen=True)
class Update:
    """One update: its number, the samples seen so far, the mean loss over its batch, the norm of
    the gradient before clipping, the learning rate's share, the share of the run that is done.

    loss, per_sample, t and gradient_norm are tensors still on the device. fault: what went wrong,
    if anything did; where fault.skipped the update was not made.
    """

    step: int
    seen: int
    loss: Tensor
    per_sample: Tensor
    t: Tensor
    gradient_norm: Tensor
    rate: float
    progress: float
    fault: Fault | None = None


class Training:
    """A model in training. Everything random is a function of (seed, samples seen).

    model: trained in place, in float32 with `config.precision` arithmetic; objective: its loss;
    data: the training part, or whatever has its `batch(rows)`, `order`, `spec` and `fingerprint`;
    conditional: whether labels are shown to the model; accelerator: made anew where none is given.

    Each update is one batch of `config.batch` samples. It is split into `accumulate` parts on each
    of the processes that Accelerate finds, each part with its own backward pass; gradients are
    added up once, before clipping, so the update is that of one process on the whole batch (a
    coupling pairs inside a part). Raises DataError for a batch that does not split, or processes
    with unlike data; Unsupported for an objective that learns from its losses on several processes.
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
        if config.batch % (config.accumulate * processes):
            raise DataError(
                f"a batch of {config.batch} cannot be split into {config.accumulate} accumulated "
                f"parts on {processes} process(es); make it a multiple of "
                f"{config.accumulate * processes}"
            )
        self.part = config.batch // (config.accumulate * processes)
        if processes > 1 and (state := getattr(objective, "state", None)) and state():
            raise Unsupported(
                f"{type(objective).__name__} learns from its losses, and each of {processes} "
                "processes would see its own; train it on one process, or with other "
                "objective.times"
            )
        self.conditional = conditional and bool(data.spec.classes)
        self.device = accelerator.device
        self.precision: Precision = resolve(config.precision, self.device)
        self.model = model.to(self.device).train()
        self.optimizers = build_optimizers(self.model.network, config.optimizer)
        trained = (p for p in self.model.network.parameters() if p.requires_grad)
        self.ema = Ema(trained, **config.ema.model_dump(exclude={"kind"}))
        self.step, self.seen, self.elapsed = 0, 0, 0.0
        self.guard = Guard(config.guard)
        self._feed: Feed | None = None
        if processes > 1:
            self.together.same("fingerprint of its data", self.fingerprint)

    @cached_property
    def fingerprint(self) -> str:
        """Of the training data."""
        return self.data.fingerprint()

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
        feed = self._feed or Feed(self.data, seed, self.part, 0)
        x0, labels = feed.take(counter, size)
        condition = condition_from_labels(labels) if self.conditional else None
        if condition is not None:
            condition = condition.to(self.device)
        noise = Streams(seed, range(counter, counter + size), "training")
        return Batch(x0.to(self.device, non_blocking=True), condition), noise

    def updates(self) -> Generator[Update, None, None]:
        """Yield after every update until the run's length is reached; time outside is not counted.

        The caller may stop at any time, save `state()`, and go on later. Where `guard.broken` after
        an update the caller can `roll_back`; otherwise asking for the next one raises NonFinite.
        """
        stride, pin = self.part * self.together.count, self.device.type == "cuda"
        feed = Feed(self.data, self.config.seed, self.part, stride, self.config.workers, pin)
        self._feed = feed
        try:
            while self.progress < 1:
                with worker_deaths():
                    update = self._update(feed)
                yield update
        finally:
            feed.close()

    def _update(self, feed: Feed) -> Update:
        self.guard.check(self.precision.name)
        parameters = [p for p in self.model.network.parameters() if p.requires_grad]
        began = time.perf_counter()
        progress = self.progress
        rate = rate_at(self._middle(), self.config) * self.guard.factor
        self.optimizers.scale(rate)
        together, size, losses = self.together, self.part, []
        feed.seek(self.seen + together.rank * size)
        for k in range(self.config.accumulate):
            start = (k * together.count + together.rank) * size
            batch, noise = self.batch(self.seen + start, size)
            batch = replace(batch, start=start, whole=self.config.batch)
            with autocast(self.precision.name, self.device):
                loss = self.objective(self.model, batch, noise)
            self.accelerator.backward(loss.value / (self.config.accumulate * together.count))
            losses.append(loss)
        together.gradients(parameters)
        per_sample, t = together.whole(
            [
                torch.stack([loss.per_sample for loss in losses]),
                torch.stack([loss.t for loss in losses]),
            ]
        )
        grads = [p.grad for p in parameters if p.grad is not None]
        norm = torch.nn.utils.get_total_norm(grads, foreach=True)
        self.step += 1
        fault = self._judge(per_sample, t, norm)
        self.guard.take(fault)
        if fault is None or not fault.skipped:
            if self.config.clip is not None:
                torch.nn.utils.clip_grads_with_norm_(
                    parameters, self.config.clip, norm, foreach=True
                )
            self.optimizers.step()
            self.ema.update()
        self.optimizers.zero_grad()
        self.seen += self.config.batch
        self.elapsed += time.perf_counter() - began
        if self.config.budget is not None:
            self.elapsed = together.of_first(self.elapsed)
        mean = per_sample.mean()
        return Update(self.step, self.seen, mean, per_sample, t, norm, rate, progress, fault)

    def _judge(self, per_sample: Tensor, t: Tensor, norm: Tensor) -> Fault | None:
        """What is wrong with the update whose gradients are ready, if anything is."""
        kind = self.guard.judge(per_sample.mean(), norm, self._trivial)
        if kind == "gradient":
            tensor, every = bad_gradient(self.model.network.named_parameters())
            return Fault(self.step, kind, tensor=tensor, every=every)
        if kind == "loss":
            bad = bad_rows(per_sample)
            if not bad:  # finite, and too large to be added up
                return Fault(self.step, kind)
            row = int(self.data.order(self.config.seed, self.seen + bad[0], 1)[0])
            return Fault(self.step, kind, row, float(t[bad[0]]), len(bad) == len(per_sample))
        return None if kind is None else Fault(self.step, kind)

    @cached_property
    def _trivial(self) -> float:
        """The mean loss of the trivial predictor, where it is known; else 1, as of unit data."""
        return mean_trivial_loss(self.objective, self.model, self.config.seed) or 1.0

    def roll_back(self, state: dict[str, Any]) -> None:
        """Go back to an earlier `state()`, with lower rates from there on.

        What the guard has seen stays, and so does the time spent where that is the run's length.
        """
        guard, elapsed = self.guard.state(), self.elapsed
        self.load_state(state | {"optimizers": deepcopy(state["optimizers"])})  # it would be shared
        self.guard.load_state(guard)
        self.guard.went_back(self.step)
        if self.config.budget is not None:
            self.elapsed = elapsed

    @torch.no_grad()
    def held_out(self, data: Dataset, limit: int = 1024) -> tuple[Tensor, Tensor]:
        """(per-sample loss, t) of the average weights on data not trained on, at fixed noise."""
        self.model.eval()
        losses, times = [], []
        rows = torch.arange(min(limit, len(data)))
        held_out = getattr(self.objective, "held_out", None)
        objective: Objective = held_out() if held_out else self.objective
        with self.ema.applied(), autocast(self.precision.name, self.device):
            for part in rows.split(256):
                x0, labels = data.batch(part)
                condition = condition_from_labels(labels) if self.conditional else None
                if condition is not None:
                    condition = condition.to(self.device)
                noise = Streams(self.config.seed, part.tolist(), "held out")
                loss = objective(self.model, Batch(x0.to(self.device), condition), noise)
                losses.append(loss.per_sample.cpu())
                times.append(loss.t.cpu())
        self.model.train()
        return torch.cat(losses), torch.cat(times)

    def trivial_loss(self, t: Tensor) -> Tensor | None:
        """The loss of the best linear predictor of white data: see `trivial_loss`."""
        return trivial_loss(self.objective, self.model, t)

    def state(self) -> dict[str, Any]:
        """Everything a resumed run needs, beside its recipe and data."""
        return {
            "step": self.step,
            "seen": self.seen,
            "elapsed": self.elapsed,
            "ema_updates": self.ema.updates,
            "data": self.fingerprint,
            "weights": self.model.network.state_dict(),
            "ema": {str(i): a for i, a in enumerate(self.ema.averages)},
            "optimizers": self.optimizers.state_dict(),
            "objective": state() if (state := getattr(self.objective, "state", None)) else {},
            "guard": self.guard.state(),
        }

    def load_state(self, state: dict[str, Any]) -> None:
        """Go on where `state()` was taken; raises DataError where the data have changed since."""
        if state["data"] != self.fingerprint:
            raise DataError(
                f"the training data have changed: fingerprint {self.fingerprint[:16]}…, the run "
                f"was on {str(state['data'])[:16]}…; bring the data back, or start a new run"
            )
        check_tensors(self.model.network, state["weights"], "the checkpoint's weights")
        try:
            self._restore(state)
        except UnnoiseError:
            raise
        except (KeyError, TypeError, ValueError, RuntimeError, AttributeError) as error:
            raise ArtifactError(
                f"the checkpoint is not one of this run, or is damaged ({error!r:.200}); start a "
                "new run"
            ) from error

    def _restore(self, state: dict[str, Any]) -> None:
        self.step, self.seen = int(state["step"]), int(state["seen"])
        self.elapsed, self.ema.updates = float(state["elapsed"]), int(state["ema_updates"])
        self.model.network.load_state_dict(state["weights"])
        for i, average in enumerate(self.ema.averages):
            average.copy_(state["ema"][str(i)])
        self.optimizers.load_state_dict(state["optimizers"])
        self.guard.load_state(state.get("guard", {}))
        if load := getattr(self.objective, "load_state", None):
            load(state.get("objective", {}))
