"""The section of a recipe's training: length, batch, optimizer, averages, guard."""

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
    """An average over a constant share of the run so far: `training.Ema`.

    every: updates between two changes of the average.
    """

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
    """Averages stored for after the run, from which `unnoise average` makes one of any length.

    gammas: their lengths; snapshots: number stored of each, at equal shares of the run; every:
    updates between two changes of the average.
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
    """A batch that doubles from `first` to train.batch over a share `over` of the run.

    The stages are of equal length. rate: change of the learning rate with the batch: "constant",
    "sqrt" or "linear".
    """

    first: Count
    over: Annotated[float, Field(gt=0, le=1)] = 0.5
    rate: Literal["constant", "sqrt", "linear"] = "constant"


class GuardConfig(Section):
    """The response to numbers that go wrong: `training.Guard`.

    skips: after this many updates in a row that are skipped, or whose loss is `explosion` times too
    large, the run goes back to its last good checkpoint, with all rates × `lower`; at most
    `rollbacks` times, then it ends.
    """

    skips: Count = 10
    rollbacks: Annotated[int, Field(ge=0, le=100, strict=True)] = 2
    lower: Annotated[float, Field(gt=0, lt=1)] = 0.3
    explosion: Annotated[float, Field(ge=10, allow_inf_nan=False)] = 100.0


class TrainConfig(Section):
    """The length and the manner of training: give `steps` (updates) or `budget` (time), not both.

    batch: of the whole update, whatever the number of processes and `accumulate`d parts that share
    it. checkpoint: seconds between two; the newest `keep` are retained, and one every `keep_every`
    updates. workers: processes that make batches ahead; the result does not depend on them. ramp: a
    smaller batch at the beginning. averages: stored so that the EMA's length can be chosen
    afterwards. recompute: compute the blocks' inner values again in the backward pass, for memory.
    compile: compile the blocks, on, off, or auto: if the run is long enough to regain the time.
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
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
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
