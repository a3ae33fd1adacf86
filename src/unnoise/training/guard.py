"""Numbers that go wrong in training: updates skipped and counted, when to go back, what it was."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from ..errors import ArtifactError, NonFinite, unknown
from ..recipes.train_section import GuardConfig

KEPT = 50  # faults remembered, the newest
GROWN = math.log(30.0)  # of the gradient norm, over its usual size, before things broke


@dataclass(frozen=True)
class Fault:
    """What was wrong with one update.

    kind: "loss" (not finite), "gradient" (not finite, of a finite loss), "explosion" (a finite
    loss that is far too large) or "overflow" (a gradient too large for float16 under its loss
    scale, which is then halved: no sign of trouble). row: the first sample at fault, in the
    training data; t: its noise level; every: True where all samples of the batch are at fault, or
    all gradients are finite and too large to be added up; tensor: the first parameter whose
    gradient is at fault. None where nothing is known of it.
    """

    step: int
    kind: Literal["loss", "gradient", "explosion", "overflow"]
    row: int | None = None
    t: float | None = None
    every: bool = False
    tensor: str | None = None

    @property
    def skipped(self) -> bool:
        """Whether the update was not made."""
        return self.kind != "explosion"

    def __str__(self) -> str:
        if self.kind == "overflow":
            return f"float16 overflowed at update {self.step}, and the loss scale is halved"
        if self.kind == "explosion":
            return f"the loss has exploded at update {self.step}"
        if self.kind == "gradient" and self.every:
            return (
                f"the gradient is too large for its norm at update {self.step} (largest in "
                f"{self.tensor!r})"
            )
        if self.kind == "gradient":
            return f"the gradient of {self.tensor!r} is not finite at update {self.step}"
        if self.row is None:
            return f"the loss is not finite at update {self.step}"
        return f"the loss is not finite at update {self.step} (sample {self.row}, t = {self.t:.4f})"


@dataclass
class Sizes:
    """What is usual of one player: the scale of its loss, and the logarithm of its gradient's norm
    in the mean over many updates and over few."""

    scale: float | None = None
    usual: float | None = None
    recent: float | None = None


class Guard:
    """Judges every update by its loss and the norm of its gradient, which all processes share.

    An update whose loss or gradient is not finite is not made: weights, optimizer and average stay
    as they are, while the counters of updates and samples go on, so that a resumed run agrees. An
    update whose loss is finite and more than `explosion` times the scale of the run is made, and
    counts as trouble too. The scale is the larger of the loss of the first update, which initial
    weights have whatever the rate, and the mean loss of the baseline. A run that learns
    stays near the scale or below, so that half of its updates never lie a hundred times above.

    Trouble goes up by one with each such update and down by one with each other; at `skips` the
    run is `broken`: more than half of its latest updates went wrong, `skips` in a row at the least.
    Then it has to go back to an earlier state, with all rates × `lower`, or to end.

    Where judging is deferred (see `Judge`) every judgement comes one update late: it is the same,
    and an update made meanwhile on a broken run is undone when the run goes back.
    """

    def __init__(self, config: GuardConfig) -> None:
        self.config = config
        self.skipped, self.rollbacks, self.trouble = 0, 0, 0
        self.back: int | None = None
        self.sizes: dict[str, Sizes] = {}
        self.faults: list[Fault] = []

    @property
    def factor(self) -> float:
        """Of every learning rate: lower to the power of the times the run has gone back."""
        return self.config.lower**self.rollbacks

    @property
    def broken(self) -> bool:
        """Whether the run cannot go on from where it is."""
        return self.trouble >= self.config.skips

    @property
    def steady(self) -> bool:
        """Whether the state as it is now is one to go back to."""
        return self.trouble == 0

    def judge(
        self, player: str, loss: Tensor, norm: Tensor, baseline: float
    ) -> Literal["loss", "gradient", "explosion"] | None:
        """Return the kind of fault of a player's update, if it has one, from its mean loss and the
        norm of its gradient. baseline: the baseline's mean loss where that is known, else 1."""
        value, size = torch.stack([loss.detach().float(), norm.detach().float()]).tolist()
        if not math.isfinite(value):
            return "loss"
        if not math.isfinite(size):
            return "gradient"
        sizes = self.sizes.setdefault(player, Sizes())
        if sizes.scale is None:
            sizes.scale = max(abs(value), baseline)
        if size > 0:
            log = math.log(size)
            sizes.usual = log if sizes.usual is None else 0.99 * sizes.usual + 0.01 * log
            sizes.recent = log if sizes.recent is None else 0.7 * sizes.recent + 0.3 * log
        return "explosion" if abs(value) > self.config.explosion * sizes.scale else None

    def take(self, fault: Fault | None) -> None:
        """Count an update, with its fault if there is one."""
        if fault is None:
            self.trouble = max(0, self.trouble - 1)
            return
        if fault.kind == "overflow":  # mended by the loss scale
            self.skipped += 1
            return
        self.trouble += 1
        self.skipped += fault.skipped
        self.faults = [*self.faults, fault][-KEPT:]

    def went_back(self, step: int) -> None:
        """Count a rollback to the state after update `step`, from which the run continues."""
        self.rollbacks += 1
        self.trouble, self.back = 0, step
        self.sizes = {name: Sizes(sizes.scale) for name, sizes in self.sizes.items()}

    def check(self, precision: str = "fp32", ending: int | None = None) -> None:
        """Raise NonFinite with the diagnosis if the run is broken.

        ending: the updates of a run that ends here; such a run counts as broken already if half of
        its latest updates have a fault.
        """
        least = self.config.skips if ending is None else min(ending, self.config.skips) / 2
        if self.trouble and self.trouble >= least:
            raise NonFinite(self.diagnosis(precision))

    def diagnosis(self, precision: str = "fp32") -> str:
        """Return the last fault, its likely cause and the remedy."""
        last = self.faults[-self.config.skips :]
        rows = {fault.row for fault in last if fault.skipped}
        said = f"{last[-1] if last else 'nothing is wrong'}; "
        if self.skipped:
            said += f"{self.skipped} updates were skipped"
            said += f" and the run went back {self.rollbacks} times" if self.rollbacks else ""
            said += ". "
        elif self.rollbacks:
            said += f"the run went back {self.rollbacks} times. "
        grown = any(
            sizes.usual is not None
            and sizes.recent is not None
            and sizes.recent - sizes.usual > GROWN
            for sizes in self.sizes.values()
        )
        if len(rows) == 1 and None not in rows:
            return said + (
                f"Sample {next(iter(rows))} of the training part is in every one of the last "
                f"{len(last)}: look at it with `unnoise data check`, mend or remove it"
            )
        if grown or any(fault.every or fault.kind == "explosion" for fault in last):
            return said + (
                "The rate is too high: the loss, the gradient or the weights grew before it broke; "
                "start anew with a lower train.optimizer.rate, and with train.clip=1"
                + (", or try train.precision=fp32" if precision == "bf16" else "")
            )
        if precision == "bf16":
            return said + "bfloat16 may be too coarse for this model: use train.precision=fp32"
        return said + (
            "Lower the learning rate (train.optimizer.rate), set train.clip=1, and look at the "
            "data with `unnoise data check`"
        )

    def state(self) -> dict[str, Any]:
        """Everything that later judgements depend on, as plain JSON values."""
        return {
            "skipped": self.skipped,
            "rollbacks": self.rollbacks,
            "trouble": self.trouble,
            "back": self.back,
            "sizes": {name: asdict(sizes) for name, sizes in self.sizes.items()},
            "faults": [asdict(fault) for fault in self.faults],
        }

    def load_state(self, state: dict[str, Any]) -> None:
        """Go on where `state` was taken; an empty one, of an earlier release, starts anew.

        Raises ArtifactError for keys that it does not have.
        """
        fresh = Guard(self.config).state()
        for name in state:
            if name not in fresh:
                raise unknown("key of the guard's state", name, fresh, ArtifactError)
        for name, value in (fresh | state).items():
            if name == "faults":
                value = [Fault(**fault) for fault in value]
            elif name == "sizes":
                value = {player: Sizes(**sizes) for player, sizes in value.items()}
            setattr(self, name, value)
