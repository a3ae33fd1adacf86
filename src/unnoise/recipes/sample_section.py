"""How a model is sampled: the section `sample` of a recipe, and its list of guidances."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, field_validator, model_validator

from ..errors import UnnoiseError
from ..solvers import names
from .section import Positive, Section, Share, Steps, kind_or


class GridConfig(Section):
    """kind "own" is the grid that a solver brings with it: auto's."""

    kind: Literal[
        "own", "uniform", "quadratic", "log_snr", "karras", "polyexponential", "kl_optimal", "beta",
        "align_your_steps", "trailing", "leading", "linspace", "simple", "normal", "sgm_uniform",
    ]  # fmt: skip
    start: Share | None = None
    end: Share | None = None
    sigma_min: Positive | None = None
    sigma_max: Positive | None = None
    rho: Positive | None = None
    offset: Annotated[int, Field(ge=0, strict=True)] | None = None
    a: Positive | None = None
    b: Positive | None = None
    model: Literal["sd15", "sdxl", "svd"] | None = None

    def __str__(self) -> str:
        """karras(sigma_min=0.01, rho=5): the spacing with its options."""
        tree = self.model_dump(exclude_none=True, exclude={"kind"})
        options = ", ".join(f"{name}={value}" for name, value in tree.items())
        return f"{self.kind}({options})" if options else self.kind


def brings_grid(solver: Any) -> bool:
    """Return whether a solver's name, of another program, implies a grid too."""
    with suppress(UnnoiseError):
        return isinstance(solver, str) and names.ask(solver).grid is not None
    return False


# ── guidance ─────────────────────────────────────────────────────────────────────────────────
class ClassifierFreeSection(Section):
    """uncond + scale·(cond − uncond) between two times; see `guidance.classifier_free`."""

    kind: Literal["classifier_free"]
    scale: float
    interval: tuple[Share, Share] | None = None
    rescale: Share = 0.0

    @field_validator("interval")
    @classmethod
    def _rising(cls, interval: tuple[float, float] | None) -> tuple[float, float] | None:
        if interval is not None and not interval[0] < interval[1]:
            raise ValueError("give two times, the lower one first")
        return interval

    @property
    def idle(self) -> bool:
        """Whether nothing is guided: scale 1 is the conditional model itself."""
        return self.scale == 1

    @property
    def names(self) -> tuple[str, ...]:
        """The conditions that it names: none, it guides by all of them."""
        return ()

    def __str__(self) -> str:
        inside = "" if self.interval is None else " in [{:g}, {:g}]".format(*self.interval)
        return f"{self.scale:g}{inside}" + (f" rescaled {self.rescale:g}" if self.rescale else "")


class ComposedSection(Section):
    """uncond + Σ scale·(cond of one name alone − uncond); see `guidance.composed`."""

    kind: Literal["composed"]
    scales: dict[str, float] = Field(min_length=1)

    @property
    def idle(self) -> bool:
        """Whether nothing is guided: never, as the model is given one condition at a time."""
        return False

    @property
    def names(self) -> tuple[str, ...]:
        """The conditions that it names."""
        return tuple(self.scales)

    def __str__(self) -> str:
        return " and ".join(f"{name} {scale:g}" for name, scale in self.scales.items())


GuidanceSection = Annotated[ClassifierFreeSection | ComposedSection, Field(discriminator="kind")]
Guidance = tuple[GuidanceSection, ...]
FLAT = ("guidance", "interval", "rescale")  # how one classifier-free section was spelled before


def guidance_text(sections: Guidance) -> str:
    """Return a list of guidances in words: 1.5, or 1 where there is none."""
    return ", ".join(map(str, sections)) or "1"


def merged_guidance(own: Sequence[Any], given: Mapping[str, Any]) -> list[Any]:
    """Return guidance sections, as trees, after the flat keys of `given` are applied to `own`.

    guidance: a list of sections, which takes the place of `own`, or the scale of the classifier-
    free section, 1 for none; interval, rescale: of that section. Keys that are None are not given.
    """
    sections = [*map(_tree, own)]
    flat = {key: given[key] for key in ("interval", "rescale") if given.get(key) is not None}
    asked = given.get("guidance")
    if are_scales(asked):
        asked = [{"kind": "composed", "scales": asked}]
    if isinstance(asked, list | tuple):
        sections = [*map(_tree, asked)]
    elif asked is not None:
        flat["scale"] = asked
    if not flat:
        return sections
    if is_number(asked) and asked == 1 and not flat.get("interval") and not flat.get("rescale"):
        return [s for s in sections if not _classifier_free(s)]
    if not any(map(_classifier_free, sections)):
        if flat == {"rescale": 0}:
            return sections
        sections = [*sections, {"kind": "classifier_free", "scale": 1.0}]
    at = next(i for i, s in enumerate(sections) if _classifier_free(s))
    sections[at] = {**sections[at], **flat}
    return sections


def _tree(section: Any) -> Any:
    return section.model_dump() if isinstance(section, Section) else section


def _classifier_free(section: Any) -> bool:
    return isinstance(section, Mapping) and section.get("kind") == "classifier_free"


def is_number(value: Any) -> bool:
    """Return whether a value is a number, and no truth value."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def are_scales(value: Any) -> bool:
    """Return whether a value is numbers by name."""
    return isinstance(value, Mapping) and bool(value) and all(map(is_number, value.values()))


def is_finite(value: Any) -> bool:
    """Return whether a value is a finite number."""
    return is_number(value) and math.isfinite(value)


# ── the section ──────────────────────────────────────────────────────────────────────────────
class SampleOptions(Section):
    """The options that a recipe, a call, a command and a job of sampling share."""

    solver: str = "dpmpp_2m"
    steps: Steps = 10
    grid: Annotated[GridConfig, BeforeValidator(kind_or("karras"))] = GridConfig(kind="karras")
    guidance: Guidance = ()

    @field_validator("guidance")
    @classmethod
    def _acting(cls, sections: Guidance) -> Guidance:
        """Leave out the sections that change nothing, so that equal guidances are equal."""
        plain = [
            isinstance(s, ClassifierFreeSection) and s.idle and s.interval is None and not s.rescale
            for s in sections
        ]
        return tuple(s for s, out in zip(sections, plain, strict=True) if not out)


class SampleConfig(SampleOptions):
    """The section of a recipe. A solver that has the name of another program ("DPM++ 2M Karras")
    becomes ours, and where no grid is given it brings its own. `guidance: 1.5`, with `interval`
    and `rescale` beside it, is read as one classifier-free section."""

    @model_validator(mode="before")
    @classmethod
    def _ours(cls, tree: Any) -> Any:
        solver = tree.get("solver") if isinstance(tree, Mapping) else None
        if not isinstance(solver, str):
            return tree
        with suppress(UnnoiseError):  # `check` raises where it is no solver
            meant = names.ask(solver)
            tree = {**tree, "solver": meant.text}
            if meant.grid is not None and tree.get("grid") is None:
                tree["grid"] = {"kind": meant.grid.name, **meant.grid.options}
        return tree

    @model_validator(mode="before")
    @classmethod
    def _sections(cls, tree: Any) -> Any:
        if not isinstance(tree, Mapping) or not set(FLAT) & tree.keys():
            return tree
        given = {key: tree[key] for key in FLAT if key in tree}
        rest = {key: value for key, value in tree.items() if key not in FLAT}
        asked = given.get("guidance")
        known = isinstance(asked, list | tuple) or are_scales(asked) or is_finite(asked)
        if not (asked is None or known):
            return {**rest, "guidance": asked}  # to be refused as it is
        return {**rest, "guidance": merged_guidance((), given)}

    @field_validator("guidance", mode="before")
    @classmethod
    def _finite(cls, value: Any) -> Any:
        if is_number(value):
            raise ValueError("give a finite number")
        return value
