"""The contestants, their settings, and the settings that were tried to tune them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from .azula_peer import Azula
from .diffusers_peer import Diffusers
from .learning import Peer, Settings
from .torchcfm_peer import Torchcfm

KINDS: dict[str, Callable[..., Peer]] = {
    "diffusers": Diffusers,
    "torchcfm": Torchcfm,
    "azula": Azula,
}


@dataclass(frozen=True)
class Contestant:
    """A peer with settings.

    samplers: the samplers that are measured, of which the first counts (`best`: the better one by
    Fréchet distance counts, chosen with hindsight).
    """

    peer: str
    about: str
    settings: Settings
    samplers: tuple[str, ...]
    best: bool = False
    samples: int | None = None  # fewer than the held-out values, for the tries

    def with_options(self, **options: Any) -> Contestant:
        """Return the contestant with other options of its adapter."""
        both = {**self.settings.options, **options}
        return replace(self, settings=replace(self.settings, options=both))

    def plain(self) -> dict[str, Any]:
        """Return all settings that decide a run, as plain values."""
        return {
            "peer": self.peer,
            "samplers": list(self.samplers),
            "best": self.best,
            "samples": self.samples,
            **self.settings.plain(),
        }

    @staticmethod
    def from_plain(tree: Mapping[str, Any]) -> Contestant:
        """Return the contestant that `plain` describes."""
        rest = dict(tree)
        mine = {key: rest.pop(key) for key in ("peer", "samplers", "best", "samples")}
        settings = Settings(**{**rest, "betas": tuple(rest["betas"])})
        samplers = tuple(mine.pop("samplers"))
        return Contestant(about="", settings=settings, samplers=samplers, **mine)


DOCUMENTED = {
    "diffusers documented": Contestant(
        "diffusers",
        "train_unconditional.py: AdamW 1e-4, 500 updates of warm-up, cosine, batch 16, clip 1, "
        "EMAModel power 3/4; unconditional, as documented",
        Settings(
            1e-4, 16, "adamw", (0.95, 0.999), 1e-6, warmup=500, cosine=True, clip=1.0,
            ema={"power": 0.75, "decay": 0.9999},
        ),
        ("ddim",),
    ),
    "torchcfm documented": Contestant(
        "torchcfm",
        "conditional_mnist.ipynb: Adam 1e-3, batch 128, independent pairs, no average",
        Settings(1e-3, 128),
        ("euler",),
    ),
    "torchcfm documented, cifar10": Contestant(
        "torchcfm",
        "train_cifar10.py: Adam 2e-4, 5000 updates of warm-up, EMA 0.9999, clip 1, batch 128, "
        "dropout 0.1, optimal-transport pairs; unconditional, as documented",
        Settings(
            2e-4, 128, warmup=5000, clip=1.0, ema={"decay": 0.9999},
            options={"conditional": False, "matcher": "otcfm", "dropout": 0.1, "head": 64},
        ),
        ("euler",),
    ),
    "azula documented": Contestant(
        "azula",
        "tutorials/mnist.ipynb: Adam 3e-4, batch 64, KarrasDenoiser on the VP schedule, no average",
        Settings(3e-4, 64),
        ("ddim",),
    ),
}  # fmt: skip

# ── tuned by hand: short runs of TRY seconds of the settings below; the best of each peer counts ──
TRY, TRIED = 30.0, 400  # seconds, samples
_COMMON: dict[str, Any] = {
    "optimizer": "adamw", "betas": (0.9, 0.99), "warmup": 0.05, "cosine": True, "clip": 1.0,
    "ema": {"gamma": 9.0}, "fused": True, "loader": False,
}  # fmt: skip


def _try(peer: str, sampler: str, rate: float, batch: int, **changed: Any) -> Contestant:
    settings = ", ".join(f"{k}={v}" for k, v in changed.items())
    about = f"AdamW {rate:g}, batch {batch}" + (f", {settings}" if settings else "")
    return Contestant(
        peer, about, Settings(rate, batch, **{**_COMMON, **changed}), (sampler,), samples=TRIED
    )


# bf16 and channels_last are each peer's fastest of the four combinations by the step's CPU time
_FAST: dict[str, dict[str, Any]] = {
    "diffusers": {"bf16": True, "options": {"conditional": True}},
    "torchcfm": {"bf16": True},
    "azula": {"bf16": True, "channels_last": True},
}


def _tries(peer: str, sampler: str, *changes: dict[str, Any]) -> list[Contestant]:
    return [
        _try(peer, sampler, **{"rate": 2e-3, "batch": 32, **_FAST[peer], **changed})
        for changed in changes
    ]


VELOCITY = {"conditional": True, "predicts": "v_prediction"}
TRIES = {
    "diffusers": _tries(
        "diffusers", "dpm++", {}, {"options": VELOCITY}, {"rate": 4e-3, "options": VELOCITY},
        {"options": {**VELOCITY, "betas": "squaredcos_cap_v2"}}, {"batch": 16, "options": VELOCITY},
    ),
    "torchcfm": _tries(
        "torchcfm", "euler", {}, {"rate": 1e-3}, {"rate": 4e-3}, {"options": {"matcher": "otcfm"}},
        {"batch": 16},
    ),
    "azula": _tries(
        "azula", "ddim", {}, {"rate": 1e-3}, {"rate": 4e-3},
        {"batch": 16, "options": {"schedule": "CosineSchedule"}}, {"batch": 16},
    ),
}  # fmt: skip

SAMPLERS = {
    "diffusers": ("dpm++", "ddim"),
    "torchcfm": ("euler", "heun"),
    "azula": ("ddim", "zab3"),
}


def tuned(peer: str, best: int) -> Contestant:
    """Return the try of that number, with all samples and the better one of its samplers."""
    return replace(TRIES[peer][best], samples=None, samplers=SAMPLERS[peer], best=True)
