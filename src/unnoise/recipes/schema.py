"""The typed recipe: one tree, closed sets of names, no unknown keys."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from .objectives import DenoisingObjective, ObjectiveConfig, couple
from .sample_section import SampleConfig
from .section import Few, Positive, Section, Seed, Share, Steps, Width
from .sources import Data
from .train_section import (
    TrainConfig,
)


# ── path ─────────────────────────────────────────────────────────────────────────────────────
class PathBase(Section):
    """Keys of every path.

    coupled "gaussian": the noise may be coupled with the data, so that the field is a velocity and
    no score, and only deterministic solvers apply; set by the objectives that need it.
    """

    snr_factor: Positive = 1.0
    first: Share = 0.0
    last: Share = 1.0
    coupled: Literal["gaussian"] | None = None


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
    steps: Steps = 1000
    zero_terminal_snr: bool = False


PathConfig = Annotated[
    FlowPath | TrigonometricPath | CosinePath | VPPath | VEPath | EDMPath | ChainPathConfig,
    Field(discriminator="kind"),
]


# ── model ────────────────────────────────────────────────────────────────────────────────────
class UNetConfig(Section):
    kind: Literal["unet"]
    widths: Annotated[list[Width], Field(min_length=1, max_length=16)] = Field([32, 64, 128])
    blocks: Few | list[Few] = 2
    attention: list[Annotated[int, Field(ge=0, strict=True)]] = Field([])
    head: Width = 64
    patch: Few = 1
    skips: Literal["add", "concat"] = "add"
    norm: Literal["channel", "group"] = "channel"
    embedding: Width | None = None

    @model_validator(mode="after")
    def _levels(self) -> UNetConfig:
        levels = len(self.widths)
        if isinstance(self.blocks, list) and len(self.blocks) != levels:
            raise ValueError(f"blocks {self.blocks} for {levels} widths; give one each, or one")
        down = sum(self.blocks) if isinstance(self.blocks, list) else levels * self.blocks
        if down > 512:
            raise ValueError(f"blocks {self.blocks} for {levels} widths are {down}; at most 512")
        if any(level >= levels for level in self.attention):
            raise ValueError(f"attention {self.attention}; the levels are 0 to {levels - 1}")
        return self


class MlpConfig(Section):
    kind: Literal["mlp"]
    width: Width = 256
    depth: Few = 4
    embedding: Width | None = None


class DiTConfig(Section):
    kind: Literal["dit"]
    width: Annotated[int, Field(ge=1, le=16384, strict=True)] = 256
    depth: Annotated[int, Field(ge=1, le=512, strict=True)] = 6
    patch: Few = 2
    head: Width | None = None
    expand: Annotated[float, Field(gt=0, le=64)] = 4.0
    positions: Literal["rotary", "sincos", "learned", "none"] = "rotary"
    normalise: bool = True
    embedding: Width | None = None

    @model_validator(mode="after")
    def _heads(self) -> DiTConfig:
        if self.head is not None and self.width % self.head:
            raise ValueError(
                f"head {self.head} does not divide width {self.width}; make the width a multiple"
            )
        return self


class OwnNetwork(Section):
    """A network that a program gave, of which the recipe holds the name of the class alone."""

    kind: Literal["own"]
    name: str


NetworkConfig = Annotated[
    UNetConfig | MlpConfig | DiTConfig | OwnNetwork, Field(discriminator="kind")
]


class ModelConfig(Section):
    predicts: Literal["x0", "eps", "score", "v", "velocity"] = "velocity"
    preconditioned: bool = False
    noise_input: Literal["t", "log_snr"] = "t"
    conditional: bool = True
    null: Literal["learned", "zero"] = "learned"
    learned_variance: bool = False


# ── evaluation ───────────────────────────────────────────────────────────────────────────────
class EvaluateConfig(Section):
    """samples: number to draw, spread evenly over the classes.

    judge: whether the learned two-sample test is made; judge_shape: also by shape, for pictures.
    """

    samples: Annotated[int, Field(ge=20, strict=True)] = 1000
    seed: Seed = 0
    judge: bool = True
    judge_shape: bool = False


class Recipe(Section):
    """All settings of a run; saved, resolved, with every run and model."""

    name: str
    about: str = ""
    data: Data
    path: PathConfig
    network: NetworkConfig
    model: ModelConfig = ModelConfig()
    objective: ObjectiveConfig = DenoisingObjective()
    train: TrainConfig
    sample: SampleConfig = SampleConfig()
    evaluate: EvaluateConfig = EvaluateConfig()

    @model_validator(mode="before")
    @classmethod
    def _coupled(cls, tree: Any) -> Any:
        return couple(tree)

    @field_validator("name")
    @classmethod
    def _one_word(cls, name: str) -> str:
        if not name.strip() or name in (".", "..") or any(c in name for c in "/\\\0\n\r"):
            raise ValueError("a name is also that of the run's folder: not empty, without slashes")
        return name
