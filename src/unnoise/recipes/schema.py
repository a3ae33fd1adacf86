"""The typed recipe: one tree, closed sets of names, no unknown keys."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from ..errors import InvalidArgument

Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Share = Annotated[float, Field(ge=0, le=1)]
Count = Annotated[int, Field(ge=1, strict=True)]
Seed = Annotated[int, Field(ge=0, lt=2**63, strict=True)]


class Section(BaseModel):
    """A part of a recipe: unknown keys are refused, values are not changed afterwards."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


# ── data ─────────────────────────────────────────────────────────────────────────────────────
class Split(Section):
    """Sizes of the parts; those not given stay empty, `train` takes the rest where it is null."""

    train: Count | None = None
    validation: Annotated[int, Field(ge=0, strict=True)] = 0
    test: Annotated[int, Field(ge=0, strict=True)] = 0
    seed: Seed = 0


class DataBase(Section):
    normalisation: Literal["standardise", "range"] = "standardise"
    split: Split = Split()


class ArraysData(DataBase):
    source: Literal["arrays"]
    path: Path
    labels: Path | None = None
    layout: str | None = None
    value_range: tuple[float, float] | None = None
    class_names: list[str] | None = None
    channels: str | None = None
    name: str | None = None
    licence: str = "not stated"


class FolderData(DataBase):
    source: Literal["folder"]
    path: Path
    size: Count | tuple[Count, Count] | None = None
    mode: str = "auto"
    labelled: bool = True
    class_names: list[str] | None = None
    name: str | None = None
    licence: str = "not stated"


class DigitsData(DataBase):
    source: Literal["digits"]


class Mnist5kData(DataBase):
    source: Literal["mnist5k"]
    path: Path | None = None
    fetch: bool = False


class FashionData(DataBase):
    source: Literal["fashion"]
    part: Literal["train", "test", "all"] = "train"
    path: Path | None = None
    fetch: bool = False


Data = Annotated[
    ArraysData | FolderData | DigitsData | Mnist5kData | FashionData,
    Field(discriminator="source"),
]


# ── path ─────────────────────────────────────────────────────────────────────────────────────
class PathBase(Section):
    snr_factor: Positive = 1.0
    first: Share = 0.0
    last: Share = 1.0


class FlowPath(PathBase):
    kind: Literal["flow"]


class TrigonometricPath(PathBase):
    kind: Literal["trigonometric"]


class CosinePath(PathBase):
    kind: Literal["cosine"]
    offset: float = 0.008


class VPPath(PathBase):
    kind: Literal["vp", "sub_vp"]
    beta_first: float = 0.1
    beta_last: float = 20.0


class VEPath(PathBase):
    kind: Literal["ve"]
    sigma_min: float = 0.01
    sigma_max: float = 50.0


class EDMPath(PathBase):
    kind: Literal["edm"]
    sigma_max: float = 80.0


class ChainPathConfig(PathBase):
    kind: Literal["chain"]
    betas: Literal["linear", "cosine", "scaled_linear", "sigmoid"] = "linear"
    steps: Count = 1000
    zero_terminal_snr: bool = False


PathConfig = Annotated[
    FlowPath | TrigonometricPath | CosinePath | VPPath | VEPath | EDMPath | ChainPathConfig,
    Field(discriminator="kind"),
]


# ── model ────────────────────────────────────────────────────────────────────────────────────
class UNetConfig(Section):
    kind: Literal["unet"]
    widths: list[Count] = [32, 64, 128]
    blocks: Count | list[Count] = 2
    attention: list[Annotated[int, Field(ge=0)]] = []
    head: Count = 64
    patch: Count = 1
    skips: Literal["add", "concat"] = "add"
    norm: Literal["channel", "group"] = "channel"
    embedding: Count | None = None


class MlpConfig(Section):
    kind: Literal["mlp"]
    width: Count = 256
    depth: Count = 4
    embedding: Count | None = None


NetworkConfig = Annotated[UNetConfig | MlpConfig, Field(discriminator="kind")]


class ModelConfig(Section):
    predicts: Literal["x0", "eps", "score", "v", "velocity"] = "velocity"
    preconditioned: bool = False
    noise_input: Literal["t", "log_snr"] = "t"
    conditional: bool = True
    null: Literal["learned", "zero"] = "learned"


# ── objective ────────────────────────────────────────────────────────────────────────────────
class UniformTimes(Section):
    kind: Literal["uniform"] = "uniform"
    stratified: bool = True


class ChainTimes(Section):
    kind: Literal["chain"]
    stratified: bool = True


class NormalTimes(Section):
    kind: Literal["log_normal", "logit_normal"]
    stratified: bool = True
    mean: float | None = None
    std: Positive | None = None


TimesConfig = Annotated[UniformTimes | ChainTimes | NormalTimes, Field(discriminator="kind")]
WeightName = Literal[
    "simple", "snr", "x0", "v", "velocity", "truncated_snr", "min_snr", "edm", "sigmoid",
    "likelihood",
]  # fmt: skip


class ObjectiveConfig(Section):
    weight: WeightName = "velocity"
    weight_parameter: float | None = None
    times: TimesConfig = UniformTimes()
    drop: Share = 0.1


# ── training ─────────────────────────────────────────────────────────────────────────────────
class MuonConfig(Section):
    """Muon on matrices and convolutions, AdamW on the rest."""

    kind: Literal["muon"] = "muon"
    rate: Positive = 0.02
    momentum: Share = 0.95
    weight_decay: Annotated[float, Field(ge=0)] = 0.0
    adam_rate: Positive = 2e-3
    adam_betas: tuple[Share, Share] = (0.9, 0.99)


class AdamWConfig(Section):
    kind: Literal["adamw"]
    rate: Positive = 1e-3
    betas: tuple[Share, Share] = (0.9, 0.99)
    weight_decay: Annotated[float, Field(ge=0)] = 0.0


class PowerEma(Section):
    """An average over a constant share of the run so far: see `training.Ema`."""

    kind: Literal["power"] = "power"
    gamma: Positive = 9.0


class ConstantEma(Section):
    """decay of the average; warmup n: decay is at most (1 + k)/(n + k) at update k."""

    kind: Literal["constant"]
    decay: Share = 0.999
    warmup: Annotated[float, Field(ge=1)] = 10.0


_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


def seconds(text: Any) -> float:
    """'90s', '5m', '1.5h', '2d' or a number of seconds."""
    if isinstance(text, int | float) and not isinstance(text, bool):
        value = float(text)
    else:
        match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([smhd]?)\s*", str(text))
        if not match:
            raise InvalidArgument(f"a time of {text!r}; write 90s, 5m, 1.5h or 2d")
        value = float(match[1]) * _UNITS[match[2] or "s"]
    if not (math.isfinite(value) and value > 0):
        raise InvalidArgument(f"a time of {text!r}; it must be more than nothing")
    return value


class TrainConfig(Section):
    """How long and how: give `steps` (updates) or `budget` (wall-clock time), not both."""

    steps: Count | None = None
    budget: Annotated[float | None, BeforeValidator(lambda b: b if b is None else seconds(b))] = (
        None
    )
    batch: Count = 64
    accumulate: Count = 1
    optimizer: Annotated[MuonConfig | AdamWConfig, Field(discriminator="kind")] = MuonConfig()
    warmup: Share = 0.03
    schedule: Literal["cosine", "linear", "constant"] = "cosine"
    clip: Positive | None = 1.0
    ema: Annotated[PowerEma | ConstantEma, Field(discriminator="kind")] = PowerEma()
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    reports: Count = 8
    checkpoint: Annotated[float, BeforeValidator(seconds)] = 300.0
    keep: Count = 2
    seed: Seed = 0

    @model_validator(mode="after")
    def _one_length(self) -> TrainConfig:
        if (self.steps is None) == (self.budget is None):
            raise ValueError(
                "give train.steps (a number of updates) or train.budget (a time such as 5m), "
                "one of the two"
            )
        return self


# ── sampling, evaluation ─────────────────────────────────────────────────────────────────────
class GridConfig(Section):
    kind: Literal["uniform", "quadratic", "log_snr", "karras", "trailing", "leading", "linspace"]
    start: Share | None = None
    end: Share | None = None
    sigma_min: Positive | None = None
    sigma_max: Positive | None = None
    rho: Positive | None = None


class SampleConfig(Section):
    solver: str = "dpmpp_2m"
    steps: Count = 10
    grid: GridConfig = GridConfig(kind="karras")
    guidance: float = 1.0
    interval: tuple[Share, Share] | None = None
    rescale: Share = 0.0


class EvaluateConfig(Section):
    """samples: how many to draw, spread evenly over the classes."""

    samples: Annotated[int, Field(ge=20, strict=True)] = 1000
    seed: Seed = 0


class Recipe(Section):
    """Everything a run is made of; saved, resolved, with every run and model."""

    name: str
    about: str = ""
    data: Data
    path: PathConfig
    network: NetworkConfig
    model: ModelConfig = ModelConfig()
    objective: ObjectiveConfig = ObjectiveConfig()
    train: TrainConfig
    sample: SampleConfig = SampleConfig()
    evaluate: EvaluateConfig = EvaluateConfig()
