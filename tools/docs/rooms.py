"""The reference: one page a room, every public name of it with its docstring."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from importlib import import_module

ROOMS = (
    "unnoise", "errors", "randomness", "divergences", "paths", "fields", "guidance", "solvers",
    "solvers.linear", "solvers.adaptive", "solvers.composite", "solvers.fitted", "solvers.names",
    "mcmc", "likelihood", "networks", "objectives", "transport", "support", "data",
    "recipes", "sampling", "artifacts", "training", "evaluation", "pipelines", "pipelines.doctor",
    "interop.diffusers",
)  # fmt: skip


def module_of(room: str) -> str:
    """Return the module of a room: paths → unnoise.paths; unnoise itself stays."""
    return room if room == "unnoise" else f"unnoise.{room}"


def public(room: str) -> list[str]:
    """Return the public names of a room: its `__all__`, or those of a single file."""
    module = import_module(module_of(room))
    names = getattr(module, "__all__", None)
    if names is None:
        names = [
            name
            for name, value in vars(module).items()
            if not name.startswith("_") and getattr(value, "__module__", "") == module.__name__
        ]
    return [name for name in names if not inspect.ismodule(getattr(module, name))]


def page(room: str) -> str:
    """Return the page of a room, as reStructuredText with autodoc's directives."""
    module = import_module(module_of(room))
    title = module_of(room)
    lines = [title, "=" * len(title), "", ".. module:: " + title, ""]
    lines += [*(module.__doc__ or "").strip().replace("*", r"\*").splitlines(), ""]
    for name in public(room):
        lines += [*_entry(room, name, getattr(module, name)), ""]
    return "\n".join(lines)


def _entry(room: str, name: str, value: object) -> list[str]:
    place = f"{module_of(room)}.{name}"
    home = home_of(room, name, value)
    if home != place:
        return [f"``{name}``", f"    see :py:obj:`{home}`"]
    if inspect.isclass(value):
        kind = "exception" if issubclass(value, BaseException) else "class"
        return [f".. auto{kind}:: {place}"]
    if inspect.isroutine(value):
        return [f".. autofunction:: {place}"]
    return [f".. py:data:: {place}", "", f"    {_contents(value)}"]


def home_of(room: str, name: str, value: object) -> str:
    """Return the room that documents a name: the first that offers it, the package itself last."""
    if inspect.isclass(value) or inspect.isroutine(value):
        for other in (*ROOMS[1:], ROOMS[0]):
            module = import_module(module_of(other))
            for known in public(other):
                if getattr(module, known) is value:
                    return f"{module_of(other)}.{known}"
    return f"{module_of(room)}.{name}"


def _contents(value: object) -> str:
    if isinstance(value, str):
        return f"``{value}``"
    if isinstance(value, Mapping | Sequence):
        keys = [str(key) for key in value if isinstance(key, str)]
        if keys:
            return ", ".join(f"``{key}``" for key in keys)
        return f"{len(value)} entries: data, see its module"
    return f"{type(value).__name__}"
