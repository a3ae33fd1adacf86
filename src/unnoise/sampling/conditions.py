"""The conditions of each sample, given by rules, so that those of a billion take no memory."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Int64
from torch import Tensor

from ..data import DataSpec
from ..data.conditions import ClassCondition, ConditionSpec, VectorCondition
from ..errors import InvalidArgument, unknown
from ..fields import Condition
from .facts import ModelFacts


@dataclass(frozen=True)
class CycleClasses:
    """Values for `condition={"class": …}` or another name: sample i has classes[i mod k]."""

    classes: tuple[Any, ...]


@dataclass(frozen=True)
class Labels:
    """Sample i is of class cycle[(i − offset) // every modulo their number]."""

    cycle: Sequence[int]
    offset: int = 0
    every: int = 1

    def of(self, rows: range) -> Int64[Tensor, " n"]:
        """Return the classes of some samples."""
        turn = torch.arange(rows.start - self.offset, rows.stop - self.offset)
        turn = turn.div(self.every, rounding_mode="floor") % len(self.cycle)
        if isinstance(self.cycle, range):
            return turn
        few = len(self.cycle) > 4 * len(rows)  # no tensor of all of them for each block
        return (
            torch.tensor([self.cycle[k] for k in turn]) if few else torch.tensor(self.cycle)[turn]
        )

    def to_dict(self) -> dict[str, Any]:
        """Return the rule as plain JSON values; a long list by its SHA-256."""
        every = {} if self.every == 1 else {"every": self.every}
        if len(self.cycle) <= 1000:
            return {"turn": list(self.cycle), "offset": self.offset, **every}
        sha256 = hashlib.sha256(",".join(map(str, self.cycle)).encode()).hexdigest()
        return {"listed": len(self.cycle), "sha256": sha256, "offset": self.offset, **every}


@dataclass(frozen=True, eq=False)
class Vectors:
    """Sample i has row (i − offset) modulo their number of the raw values (k, width)."""

    values: Tensor
    offset: int = 0

    def of(self, rows: range) -> Tensor:
        """Return the vectors of some samples, (n, width)."""
        turn = torch.arange(rows.start - self.offset, rows.stop - self.offset)
        return self.values[turn % len(self.values)]

    def to_dict(self) -> dict[str, Any]:
        """Return the rule as plain JSON values; many vectors by their SHA-256."""
        if len(self.values) <= 100:
            return {"turn": self.values.tolist(), "offset": self.offset}
        sha256 = hashlib.sha256(self.values.numpy().astype("<f4").tobytes()).hexdigest()
        return {"listed": len(self.values), "sha256": sha256, "offset": self.offset}


Rule = Labels | Vectors


@dataclass(frozen=True, eq=False)
class SampleConditions:
    """The conditions of a stream of samples: a rule by name; a name without one is null."""

    spec: DataSpec
    rules: Mapping[str, Rule]

    @property
    def labels(self) -> Labels | None:
        """The rule of the condition "class"; None where there is none."""
        rule = self.rules.get("class")
        return rule if isinstance(rule, Labels) else None

    def columns(self, rows: range) -> dict[str, Tensor]:
        """Return the values of some samples by name, in the data's own units."""
        return {name: rule.of(rows) for name, rule in self.rules.items()}

    def condition(self, rows: range) -> Condition | None:
        """Return the condition of some samples; None for an unconditional model."""
        return self.spec.prepare(self.columns(rows), len(rows)) if self.rules else None

    def to_dict(self) -> dict[str, Any]:
        """Return the rules as plain JSON values, but for that of the labels."""
        return {name: rule.to_dict() for name, rule in self.rules.items() if name != "class"}


def conditions_for(
    facts: ModelFacts, condition: Mapping[str, Any] | None, n: int | None = None, first: int = 0
) -> tuple[SampleConditions, int]:
    """Return the conditions of n samples from `first` on, and n.

    condition: name → a value, one a sample, or `CycleClasses`, as `Model.sample` takes it. Of class
    conditions that are not given all combinations are taken in turn, the first name fastest; a
    vector that is not given is null. n is 16, or one a value of the condition, where it is not
    given. Raises InvalidArgument.
    """
    if condition is not None and not isinstance(condition, Mapping):
        raise InvalidArgument(f'condition is {condition!r}; give a dict, as {{"class": 3}}')
    given, known = dict(condition or {}), facts.conditions
    for name in given:
        if name not in known:
            raise unknown("condition", name, known or ["none: the model is unconditional"])
    rules: dict[str, Rule] = {}
    every = 1
    for name, meaning in known.items():
        if name in given:
            rules[name], count = _rule(name, meaning, given[name], facts.spec, n, first)
            n = n or count
        elif isinstance(meaning, ClassCondition):
            rules[name] = Labels(range(len(meaning.names)), every=every)
            every *= len(meaning.names)
        elif name in facts.needed:
            raise InvalidArgument(
                f"condition {name} is not given, and the model is trained with "
                f"objective.condition_dropout=0 for it, so that it has no null; give "
                f'condition={{"{name}": …}} (--condition {name}=…)'
            )
    return SampleConditions(facts.spec, rules), n or 16


def _rule(
    name: str, meaning: ConditionSpec, asked: Any, spec: DataSpec, n: int | None, first: int
) -> tuple[Rule, int | None]:
    """Return the rule of what was asked for, and the number of samples that it is for; None where
    it is for any number."""
    cycles = isinstance(asked, CycleClasses)
    if cycles and not asked.classes:
        raise InvalidArgument(f"no {name} is given to take in turn; give one or more")
    values = meaning.read(list(asked.classes) if cycles else asked, name, spec.name)
    if not cycles and (not len(values) or (n is not None and len(values) not in (1, n))):
        word = "classes" if name == "class" else f"values of {name}"
        raise InvalidArgument(
            f"{len(values)} {word} for {n or 'some'} samples; give one, or one per sample"
        )
    offset = 0 if cycles else first
    listed = hasattr(asked, "tolist") or isinstance(asked, list | tuple | range)
    if isinstance(meaning, VectorCondition):
        many = len(values) > 1 or (listed and meaning.width == 1 and getattr(asked, "ndim", 1) > 0)
        return Vectors(values, offset), len(values) if many and not cycles else None
    one = not listed or getattr(asked, "ndim", 1) == 0
    return Labels(tuple(values.tolist()), offset), None if one or cycles else len(values)
