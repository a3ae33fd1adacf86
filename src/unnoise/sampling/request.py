"""The request of samples: all options of a call, parsed once and passed on whole."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BeforeValidator, Field

from ..errors import InvalidArgument, RecipeError
from ..paths import grids
from ..recipes import FLAT, GridConfig, SampleConfig, SampleOptions, brings_grid, validate
from ..recipes.sample_section import are_scales, is_finite, merged_guidance
from ..recipes.section import Count, Section, Seed, Share
from ..solvers import Solver
from .conditions import CycleClasses

S = TypeVar("S", bound=Section)
_SPELLED = {"guidance": "scale", "grid": "times"}  # fields that hold another form of an option


def _solver(value: Any) -> Any:
    if not isinstance(value, str | Solver):
        raise ValueError("give the name of a solver, or a Solver")
    return value


class SampleRequest(SampleOptions):
    """The options of a call; the recipe's section `sample` is the default of each.

    n: number of samples. condition: {"class": c, "age": a}, by name an index or a name, a number or
    a vector, one a sample, or `CycleClasses`. Sample i of a seed is the same whatever `first` and
    `batch` are, up to the rounding of the arithmetic. scale, interval, rescale: of the
    classifier-free section in force; times: a grid listed time by time. A new option is one line
    here, or in `SampleOptions` where recipes have it too.
    """

    solver: Annotated[Any, BeforeValidator(_solver)] = None
    scale: float | None = None
    interval: tuple[Share, Share] | None = None
    rescale: Share | None = None
    times: tuple[float, ...] | None = None
    n: Count | None = None
    condition: Any = None
    seed: Seed = 0
    first: Annotated[int, Field(ge=0, strict=True)] = 0
    batch: Count = 250
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    device: str = "auto"

    @classmethod
    def of(cls, /, **given: Any) -> SampleRequest:
        """Return the request of options as calls and commands spell them; None means not given.

        guidance: a scale, or a list of sections; grid: a name, a section, or times; classes: those
        to take in turn. Raises InvalidArgument for values that are impossible for every model.
        """
        tree = {name: value for name, value in given.items() if value is not None}
        if "classes" in tree:
            turn = {"class": CycleClasses(tuple(tree.pop("classes")))}
            tree["condition"] = {**(tree.get("condition") or {}), **turn}
        if are_scales(tree.get("guidance")):
            tree["guidance"] = [{"kind": "composed", "scales": tree["guidance"]}]
        if is_finite(tree.get("guidance")):
            tree["scale"] = tree.pop("guidance")
        grid = tree.get("grid")
        if isinstance(grid, str):
            tree["grid"] = {"kind": grid}
        elif grid is not None and not isinstance(grid, Mapping | GridConfig):
            tree["times"] = tuple(grids.check(tree.pop("grid")).tolist())
        if "condition" in tree:
            tree["condition"] = _read_condition(tree["condition"])
        found = _valid(cls, tree)
        if found.times is not None and found.given("steps") not in (None, len(found.times) - 1):
            raise InvalidArgument(
                f"steps is {found.steps}, and the grid has {len(found.times)} times: leave steps "
                "out"
            )
        return found

    def given(self, name: str) -> Any:
        """Return the value of an option that was given, or None."""
        return getattr(self, name) if name in self.model_fields_set else None

    def options(self) -> dict[str, Any]:
        """Return the options that were given, as `of` takes them."""
        tree = {name: getattr(self, name) for name in self.model_fields_set}
        for spelled, name in _SPELLED.items():
            if name in tree:
                tree[spelled] = tree.pop(name)
        return tree

    def but(self, **changes: Any) -> SampleRequest:
        """Return the same request with other values of the options that are not None."""
        changes = {name: value for name, value in changes.items() if value is not None}
        return SampleRequest.of(**{**self.options(), **changes}) if changes else self

    def to_dict(self) -> dict[str, Any]:
        """Return the options that were given, without the device, as plain JSON values that `of`
        reads back. Raises InvalidArgument for a Solver, which has no such form."""
        given = sorted(self.options().items())
        return {name: _plain(name, value) for name, value in given if name != "device"}

    def section(self, own: SampleConfig) -> SampleConfig:
        """Return the section `sample` in force: the options given, and the recipe's for others."""
        tree: dict[str, Any] = own.model_dump()
        given = {name: self.given(name) for name in SampleOptions.model_fields}
        flat = {name: self.given(name) for name in FLAT}
        if self.scale is not None:
            flat["guidance"] = self.scale
        guidance = merged_guidance(tree["guidance"], flat)
        if self.times is not None:
            given["steps"] = len(self.times) - 1
        elif given["grid"] is None and brings_grid(self.solver):
            del tree["grid"]
        if isinstance(self.solver, Solver):
            given["solver"] = str(self.solver)
        tree |= {name: value for name, value in given.items() if value is not None}
        return _valid(SampleConfig, {**tree, "guidance": guidance})


# options of a call alone that the bytes of its samples depend on as they are given
CALL_ONLY = [
    name
    for name in SampleRequest.model_fields
    if name not in SampleOptions.model_fields
    and name not in ("scale", "interval", "rescale", "times", "condition", "device")
]


def _valid(kind: type[S], tree: dict[str, Any]) -> S:
    try:
        found: S = validate(kind, tree, "sampling")
    except RecipeError as error:
        raise InvalidArgument(str(error)) from error
    return found


def _read_condition(condition: Any) -> Any:
    """Return a condition with {"cycle": […]}, as files spell it, as CycleClasses."""
    if not isinstance(condition, Mapping):
        return condition
    return {
        name: CycleClasses(tuple(value["cycle"]))
        if isinstance(value, Mapping) and isinstance(value.get("cycle"), list)
        else value
        for name, value in condition.items()
    }


def _plain(name: str, value: Any) -> Any:
    if isinstance(value, Section):
        return value.model_dump(mode="json", exclude_none=True)
    if isinstance(value, CycleClasses):
        return {"cycle": list(value.classes)}
    if isinstance(value, Mapping):
        return {key: _plain(name, each) for key, each in value.items()}
    if isinstance(value, list | tuple | range):
        return [_plain(name, each) for each in value]
    if isinstance(value, Solver):
        raise InvalidArgument(
            f"{name} is {value}, which a file cannot hold; give it by name, as in 'ddim:eta=0.5'"
        )
    return value.tolist() if hasattr(value, "tolist") else value
