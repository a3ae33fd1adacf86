"""What a recipe says of its training: length, batch, optimizer, averages, guard."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, field_validator, model_validator

from .section import Count, Decay, Few, Positive, Section, Seed, Share, kind_or, seconds


class MuonConfig(Section):
    """Muon on matrices and convolutions, AdamW on the rest."""

    kind: Literal["muon"] = "muon"
    rate: Positive = 0.02
    momentum: Decay = 0.95
    weight_decay: Annotated[float, Field(ge=0)] = 0.0
    adam_rate: Positive = 2e-3
    adam_betas: tuple[Decay, Decay] = (0.9, 0.99)


class AdamWConfig(Section):
    kind: Literal["adamw"]
    rate: Positive = 1e-3
    betas: tuple[Decay, Decay] = (0.9, 0.99)
    weight_decay: Annotated[float, Field(ge=0)] = 0.0


class PowerEma(Section):
    """An average over a constant share of the run so far, brought up to date `every` so many
    updates: see `training.Ema`."""

    kind: Literal["power"] = "power"
    gamma: Positive = 9.0
    every: Few = 1


class ConstantEma(Section):
    """decay of the average; warmup n: decay is at most (1 + k)/(n + k) at update k."""

    kind: Literal["constant"]
    decay: Decay = 0.999
    warmup: Annotated[float, Field(ge=1)] = 10.0
    every: Few = 1


class AveragesConfig(Section):
    """Averages kept for after the run, from which `unnoise average` makes one of any length.

    gammas: their lengths; snapshots: of each, so many are stored at equal shares of the run;
    every: brought up to date so many updates apart.
    """

    gammas: Annotated[list[Positive], Field(min_length=1, max_length=4)] = Field([6.94, 16.97])
    snapshots: Few = 8
    every: Few = 1

    @field_validator("gammas")
    @classmethod
    def _apart(cls, gammas: list[float]) -> list[float]:
        if len(set(gammas)) < len(gammas):
            raise ValueError(f"{gammas} has one length twice; give different ones")
        return gammas


class RampConfig(Section):
    """A batch that doubles from `first` to train.batch over a share `over` of the run, in stages of
    equal length. rate: how the learning rate goes with it: "constant", "sqrt" or "linear"."""

    first: Count
    over: Annotated[float, Field(gt=0, le=1)] = 0.5
    rate: Literal["constant", "sqrt", "linear"] = "constant"


class GuardConfig(Section):
    """What to do when numbers go wrong: see `training.Guard`.

    skips: so many updates in a row that are skipped, or whose loss is `explosion` times too large,
    take the run back to its last good checkpoint, with all rates × `lower`; at most `rollbacks`
    times, then it ends.
    """

    skips: Count = 10
    rollbacks: Annotated[int, Field(ge=0, le=100, strict=True)] = 2
    lower: Annotated[float, Field(gt=0, lt=1)] = 0.3
    explosion: Annotated[float, Field(ge=10, allow_inf_nan=False)] = 100.0


class TrainConfig(Section):
    """How long and how: give `steps` (updates) or `budget` (wall-clock time), not both.

    batch: of the whole update, whatever the number of processes and `accumulate`d parts that share
    it. checkpoint: seconds between two; the newest `keep` stay, and so does one every `keep_every`
    updates. workers: processes that make batches ahead; they change nothing in the result. ramp: a
    smaller batch at the beginning. averages: what is kept to choose the EMA's length afterwards.
    recompute: the blocks' inner values again in the backward pass, for memory. compile: the blocks,
    on, off, or auto: where the run is long enough to win the time back.
    """

    steps: Count | None = None
    budget: Annotated[float | None, BeforeValidator(lambda b: b if b is None else seconds(b))] = (
        None
    )
    batch: Count = 64
    ramp: RampConfig | None = None
    accumulate: Count = 1
    optimizer: Annotated[
        Annotated[MuonConfig | AdamWConfig, Field(discriminator="kind")],
        BeforeValidator(kind_or("muon")),
    ] = MuonConfig()
    warmup: Share = 0.03
    schedule: Literal["cosine", "linear", "constant"] = "cosine"
    clip: Positive | None = 1.0
    ema: Annotated[
        Annotated[PowerEma | ConstantEma, Field(discriminator="kind")],
        BeforeValidator(kind_or("power")),
    ] = PowerEma()
    averages: AveragesConfig | None = None
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    recompute: bool = False
    compile: Literal["auto"] | bool = "auto"
    reports: Count = 8
    checkpoint: Annotated[float, BeforeValidator(seconds)] = 300.0
    keep: Count = 2
    keep_every: Count | None = None
    workers: Annotated[int, Field(ge=0, le=256, strict=True)] = 0
    seed: Seed = 0
    guard: GuardConfig = GuardConfig()

    @model_validator(mode="after")
    def _one_length(self) -> TrainConfig:
        if (self.steps is None) == (self.budget is None):
            raise ValueError(
                "give train.steps (a number of updates) or train.budget (a time such as 5m), "
                "one of the two"
            )
        if self.batch % self.accumulate:
            raise ValueError(
                f"train.batch {self.batch} cannot be split into train.accumulate="
                f"{self.accumulate} equal parts; make it a multiple"
            )
        if self.ramp is not None:
            stages, rest = divmod(self.batch, self.ramp.first)
            if rest or stages & (stages - 1) or stages < 2 or self.ramp.first % self.accumulate:
                raise ValueError(
                    f"train.ramp.first {self.ramp.first} does not double up to train.batch "
                    f"{self.batch}; give {self.batch} divided by 2, 4, 8, …, and a multiple of "
                    f"train.accumulate ({self.accumulate})"
                )
        return self
