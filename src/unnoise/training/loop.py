"""The training loop as a generator: the caller drives it, one update at a time."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ..artifacts.precision import Precision, autocast, resolve
from ..data import Dataset, order
from ..errors import DataError, Unsupported
from ..fields import Denoiser, determinant
from ..objectives import Batch, Denoising, Objective, condition_from_labels
from ..randomness import Streams
from ..recipes.schema import TrainConfig
from .ema import Ema
from .optimizers import build_optimizers, rate_at

if TYPE_CHECKING:
    from accelerate import Accelerator


@dataclass(frozen=True)
class Update:
    """One update: its number, the samples seen so far, the mean loss over its batch, the norm of
    the gradient before clipping, the learning rate's share, the share of the run that is done.

    loss, per_sample, t and gradient_norm are tensors still on the device: reading one waits.
    """

    step: int
    seen: int
    loss: Tensor
    per_sample: Tensor
    t: Tensor
    gradient_norm: Tensor
    rate: float
    progress: float


class Training:
    """A model in training. Everything random is a function of (seed, samples seen).

    model: trained in place, in float32 with `config.precision` arithmetic; objective: its loss;
    data: the training part; conditional: whether labels are shown to the model; accelerator: made
    anew where none is given. A batch is split into `accumulate` parts, each with its own backward
    pass. Raises Unsupported on more than one process, DataError for a batch that does not split.
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
        if accelerator is None:
            from accelerate import Accelerator

            accelerator = Accelerator(cpu=not torch.cuda.is_available())
        self.accelerator, self.objective, self.data, self.config = (
            accelerator, objective, data, config,
        )  # fmt: skip
        if accelerator.num_processes > 1:
            raise Unsupported(
                f"training on {accelerator.num_processes} processes; this release trains on one: "
                "start it without a launcher"
            )
        if config.batch % config.accumulate:
            raise DataError(
                f"a batch of {config.batch} cannot be split into {config.accumulate} accumulated "
                f"parts; make it a multiple of {config.accumulate}"
            )
        self.part = config.batch // config.accumulate
        self.conditional = conditional and bool(data.spec.classes)
        self.device = accelerator.device
        self.precision: Precision = resolve(config.precision, self.device)
        self.model = model.to(self.device).train()
        self.optimizers = build_optimizers(self.model.network, config.optimizer)
        trained = (p for p in self.model.network.parameters() if p.requires_grad)
        self.ema = Ema(trained, **config.ema.model_dump(exclude={"kind"}))
        self.step, self.seen, self.elapsed = 0, 0, 0.0

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
        x0, labels = self.data.batch(order(seed, len(self.data), counter, size))
        condition = condition_from_labels(labels) if self.conditional else None
        if condition is not None:
            condition = condition.to(self.device)
        noise = Streams(seed, range(counter, counter + size), "training")
        return Batch(x0.to(self.device, non_blocking=True), condition), noise

    def updates(self) -> Iterator[Update]:
        """Yield after every update until the run's length is reached; time outside is not counted.

        The caller may stop at any time, save `state()`, and go on later.
        """
        parameters = [p for p in self.model.network.parameters() if p.requires_grad]
        while self.progress < 1:
            began = time.perf_counter()
            progress = self.progress
            rate = rate_at(self._middle(), self.config)
            self.optimizers.scale(rate)
            losses = []
            for k in range(self.config.accumulate):
                batch, noise = self.batch(self.seen + k * self.part, self.part)
                with autocast(self.precision.name, self.device):
                    loss = self.objective(self.model, batch, noise)
                self.accelerator.backward(loss.value / self.config.accumulate)
                losses.append(loss)
            limit = self.config.clip if self.config.clip is not None else float("inf")
            norm = torch.nn.utils.clip_grad_norm_(parameters, limit, foreach=True)
            self.optimizers.step()
            self.optimizers.zero_grad()
            self.ema.update()
            self.step += 1
            self.seen += self.config.batch
            self.elapsed += time.perf_counter() - began
            per_sample = torch.cat([loss.per_sample for loss in losses])
            t = torch.cat([loss.t for loss in losses])
            yield Update(
                self.step, self.seen, per_sample.mean(), per_sample, t, norm, rate, progress
            )

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
        """The loss at times t (n,) of the best linear predictor of white data: the mark to beat.

        For the lens a·x0 + b·ε and data N(0, s²): w·s²·det²/(α²s² + σ²); None where the objective
        is not denoising of independent noise.
        """
        if not isinstance(self.objective, Denoising) or self.objective.coupling.rearranges:
            return None
        path, lens, s = self.model.path, self.model.predicts, self.model.data_std
        error = (s * determinant(path, lens, t)) ** 2
        error = error / torch.hypot(path.alpha(t) * s, path.sigma(t)) ** 2
        return self.objective.weight.on(lens, path, t) * error

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
        }

    def load_state(self, state: dict[str, Any]) -> None:
        """Go on where `state()` was taken; raises DataError where the data have changed since."""
        if state["data"] != self.fingerprint:
            raise DataError(
                f"the training data have changed: fingerprint {self.fingerprint[:16]}…, the run "
                f"was on {str(state['data'])[:16]}…; bring the data back, or start a new run"
            )
        self.step, self.seen = int(state["step"]), int(state["seen"])
        self.elapsed, self.ema.updates = float(state["elapsed"]), int(state["ema_updates"])
        self.model.network.load_state_dict(state["weights"])
        for i, average in enumerate(self.ema.averages):
            average.copy_(state["ema"][str(i)])
        self.optimizers.load_state_dict(state["optimizers"])
        if load := getattr(self.objective, "load_state", None):
            load(state.get("objective", {}))
