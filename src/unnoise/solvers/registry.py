"""Solvers by name: a preset registers itself where it is defined."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from contextlib import suppress
from typing import Any, TypeVar

from ..errors import InvalidArgument, need_known
from .solver import Solver

Make = TypeVar("Make", bound=Callable[..., Solver])

PRESETS: dict[str, Callable[..., Solver]] = {}


def preset(make: Make) -> Make:
    """Offer a function that builds a solver under the function's own name."""
    PRESETS[make.__name__] = make
    return make


def _value(text: str) -> object:
    """Return True or False, a whole number, a number, or the text itself."""
    if text.lower() in ("true", "false"):
        return text.lower() == "true"
    for kind in (int, float):
        with suppress(ValueError):
            return kind(text)
    return text


def parse(text: str) -> tuple[str, dict[str, Any]]:
    """Return ("ddim", {"eta": 0.5}) of "ddim:eta=0.5"; raise InvalidArgument for another form."""
    solver, colon, settings = text.partition(":")
    options: dict[str, Any] = {}
    for setting in settings.split(",") if colon else ():
        name, equals, value = (part.strip() for part in setting.partition("="))
        if not (name and equals and value):
            raise InvalidArgument(
                f"solver option {setting!r} of {solver!r}; write {solver}:name=value, such as "
                "ddim:eta=0.5"
            )
        options[name] = _value(value)
    return solver, options


def get(solver: str | Solver, **options: object) -> Solver:
    """Return a solver by name and options: get("ddim", eta=0.5), or as one text "ddim:eta=0.5".

    Raises InvalidArgument, with the known names, for an unknown name or option.
    """
    if isinstance(solver, Solver):
        if options:
            raise InvalidArgument(f"options {sorted(options)} for a solver that is built already")
        return solver
    solver, written = parse(solver)
    options |= written
    need_known("solver", solver, PRESETS)
    allowed = inspect.signature(PRESETS[solver]).parameters
    for name in options:
        need_known(f"option of solver {solver!r}", name, allowed)
    return PRESETS[solver](**options)
