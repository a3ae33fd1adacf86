"""Planted bugs: a mutation replaces a part of the package by a plausible wrong one.

    @mutation("score of the wrong sign", "tests/fields/test_lenses.py::test_every_pair")
    def _(patch):
        patch.item(lenses.LENSES, "score", lambda p, t: (torch.zeros_like(t), 1 / p.sigma(t)))

The tests that it names must fail with it. A mutation is planted in a process of its own, before
the tests are imported, so that nothing is ever put back.
"""

from __future__ import annotations

import builtins
import importlib
import sys
from collections.abc import Callable, MutableMapping
from dataclasses import dataclass
from types import ModuleType
from typing import Any

MUTATIONS: dict[str, Mutation] = {}


def module(name: str) -> ModuleType:
    """Return the module unnoise.`name`, also where a function of its name hides it."""
    return importlib.import_module(f"unnoise.{name}")


class NoPlace(Exception):
    """What a mutation replaces is no longer in the package."""


class Patch:
    """Replace attributes, and every name under which a loaded module of the package holds them."""

    def attribute(self, owner: Any, name: str, wrong: Any) -> None:
        """Replace `owner.name`, an attribute of a module or a class, by `wrong`."""
        if name not in vars(owner):
            raise NoPlace(f"{getattr(owner, '__name__', owner)} has no {name} of its own")
        right = vars(owner)[name]
        setattr(owner, name, wrong)
        if isinstance(owner, ModuleType):
            ours = [m for n, m in sys.modules.items() if n.split(".")[0] in ("unnoise", "tests")]
            for module in ours:
                for alias in [key for key, value in vars(module).items() if value is right]:
                    setattr(module, alias, wrong)

    def here(self, owner: ModuleType, name: str, wrong: Any) -> None:
        """Replace a name that one module imported or took from Python, in that module alone."""
        if name not in vars(owner) and not hasattr(builtins, name):
            raise NoPlace(f"{owner.__name__} has no {name}")
        setattr(owner, name, wrong)

    def around(self, owner: Any, name: str, wrap: Callable[[Callable[..., Any]], Any]) -> None:
        """Replace the function, method or property `owner.name` by wrap(the function)."""
        if name not in vars(owner):
            raise NoPlace(f"{getattr(owner, '__name__', owner)} has no {name} of its own")
        right = vars(owner)[name]
        if isinstance(right, property):
            self.attribute(owner, name, property(wrap(right.fget)))
        elif isinstance(right, staticmethod | classmethod):
            self.attribute(owner, name, type(right)(wrap(right.__func__)))
        else:
            self.attribute(owner, name, wrap(right))

    def result(self, owner: Any, name: str, change: Callable[..., Any]) -> None:
        """Replace the function `owner.name` by one that returns change(result, *arguments)."""

        def wrap(right: Callable[..., Any]) -> Callable[..., Any]:
            return lambda *a, **options: change(right(*a, **options), *a, **options)

        self.around(owner, name, wrap)

    def item(self, table: MutableMapping[Any, Any], key: Any, wrong: Any) -> None:
        """Replace `table[key]`."""
        if key not in table:
            raise NoPlace(f"no {key!r} among {', '.join(map(str, table))[:200]}")
        table[key] = wrong


class Shim:
    """A module or object of which some attributes are others."""

    def __init__(self, right: Any, **wrong: Any) -> None:
        self._right = right
        vars(self).update(wrong)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._right, name)


@dataclass(frozen=True)
class Mutation:
    """A planted bug: `plant` puts it there; each of `tests` must fail with it.

    crashes: the wrong code may end in an error of Python's own; elsewhere a TypeError or the like
    is taken for a mistake in the mutation.
    """

    name: str
    tests: tuple[str, ...]
    plant: Callable[[Patch], None]
    crashes: bool = False

    @property
    def room(self) -> str:
        return self.plant.__module__.rpartition(".")[2]


def mutation(
    name: str, *tests: str, crashes: bool = False
) -> Callable[[Callable[[Patch], None]], Callable[[Patch], None]]:
    """Enter the decorated function among the mutations."""

    def enter(plant: Callable[[Patch], None]) -> Callable[[Patch], None]:
        if name in MUTATIONS:
            raise ValueError(f"two mutations are named {name!r}")
        MUTATIONS[name] = Mutation(name, tests, plant, crashes)
        return plant

    return enter
