"""Recipes from YAML files, shipped names and dotted overrides."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from importlib import resources
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError

from ..errors import RecipeError, nearest, shorten, unknown
from ..safe_files.safe_read import check_tree, read_text
from .sample_section import FLAT, brings_grid, merged_guidance
from .schema import Recipe

CHOICES = ("kind", "source")  # the keys that choose a section's component
MOST_YAML, MOST_FAULTS = 96 * 2**10, 20  # bytes read of a file; faults listed at once
DEFAULT_KINDS = {"objective.kind": "denoising"}  # defaults of missing choices
SOLVER = ["sample", "solver"]
RENAMED: dict[tuple[str, ...], str] = {("objective", "drop"): "condition_dropout"}  # old keys
# kept when the component changes
COMMON_KEYS = {"split", "normalisation", "condition_dropout", "coupled"}


def shipped() -> dict[str, str]:
    """Return the names of the recipes that ship with unnoise, with the purpose of each."""
    found = {}
    for entry in sorted(resources.files(__package__).iterdir(), key=lambda e: e.name):
        if entry.name.endswith(".yaml"):
            tree = _parse(entry.read_text("utf-8"), entry.name)
            found[entry.name.removesuffix(".yaml")] = str(tree.get("about", ""))
    return found


def read_tree(which: str | Path) -> dict[str, Any]:
    """Return the tree of a recipe file, or of a shipped recipe by its name. Raises RecipeError."""
    path = Path(which).expanduser()
    if path.is_dir():
        raise RecipeError(
            f"{path} is a folder, not a recipe; to train on what is in it, give it as --data {path}"
        )
    if path.suffix in (".yaml", ".yml") or path.is_file():
        if not os.path.lexists(path):
            raise RecipeError(f"there is no recipe file {path}; shipped: {', '.join(shipped())}")
        return _parse(read_text(path, RecipeError, MOST_YAML), str(path))
    if str(which) not in shipped():
        raise unknown("recipe", str(which), shipped(), RecipeError)
    return _parse((resources.files(__package__) / f"{which}.yaml").read_text("utf-8"), str(which))


def load_recipe(which: str | Path | Mapping[str, Any], overrides: Sequence[str] = ()) -> Recipe:
    """Return a recipe from a file, a shipped name or a tree, with overrides (`train.steps=2000`).

    Raises RecipeError for a source that cannot be read, unknown keys (naming the nearest), and
    values that are not allowed.
    """
    tree = _renamed(_checked(which) if isinstance(which, Mapping) else read_tree(which))
    parsed = [parse_override(override) for override in overrides]
    _refuse_both_lengths(parsed)
    # another kind first: it drops the keys of the old one, but none of the other overrides
    for parts, value in sorted(parsed, key=lambda p: p[0][-1] not in CHOICES and p[0] != SOLVER):
        _apply(tree, [*parts[:-1], RENAMED.get(tuple(parts), parts[-1])], value)
    return validate(Recipe, _renamed(tree), "recipe")


def validate(kind: type[BaseModel], tree: Any, what: str) -> Any:
    """Build a section from a tree; raise one RecipeError for all of pydantic's complaints."""
    try:
        return kind.model_validate(tree)
    except ValidationError as error:
        problems = error.errors(include_url=False)
        lines = [f"{what}: {_explain(kind, problem)}" for problem in problems[:MOST_FAULTS]]
        if len(problems) > MOST_FAULTS:
            lines.append(f"{what}: and {len(problems) - MOST_FAULTS} more faults")
        raise RecipeError("\n".join(lines)) from error
    except RecursionError as error:
        raise RecipeError(f"{what} is nested too deeply") from error


def dump(recipe: Recipe) -> str:
    """Return the resolved recipe as YAML; `load_recipe` reads it back unchanged."""
    return yaml.safe_dump(resolved(recipe), sort_keys=False, allow_unicode=True)


def resolved(section: BaseModel) -> dict[str, Any]:
    """Return a section as plain values, without the keys that are null by default."""
    tree = {}
    for key, value in section.model_dump(mode="json").items():
        inner, known = getattr(section, key), type(section).model_fields[key]
        if value is not None or known.default is not None:
            tree[key] = _resolved(inner, value)
    return tree


def _resolved(inner: Any, value: Any) -> Any:
    if isinstance(inner, BaseModel):
        return resolved(inner)
    sections = isinstance(inner, tuple) and all(isinstance(each, BaseModel) for each in inner)
    return [*map(resolved, inner)] if sections else value


class _Loader(yaml.SafeLoader):
    """Safe YAML that refuses a key given twice."""


def _mapping(loader: _Loader, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
    seen: set[Any] = set()
    for key_node, _ in node.value:
        key = loader.construct_object(key_node, deep=deep)
        if not isinstance(key, str) or key in seen:
            what = "is given twice" if isinstance(key, str) else "is not a word"
            raise yaml.constructor.ConstructorError(
                None, None, f"key {key!r} {what}", key_node.start_mark
            )
        seen.add(key)
    return yaml.SafeLoader.construct_mapping(loader, node, deep)


_Loader.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, _mapping)


def _yaml(text: str, where: str) -> Any:
    try:
        tree = yaml.load(text, _Loader)
    except (yaml.YAMLError, ValueError, OverflowError, RecursionError) as error:
        raise RecipeError(f"{where} is not sound YAML: {error}") from error
    check_tree(tree, where, RecipeError)
    return tree


def _parse(text: str, where: str) -> dict[str, Any]:
    tree = _yaml(text, where)
    if not isinstance(tree, dict):
        raise RecipeError(f"{where} holds {type(tree).__name__}; a recipe is a tree of keys")
    return tree


def _checked(tree: Mapping[str, Any]) -> dict[str, Any]:
    check_tree(tree, "the recipe", RecipeError)
    try:
        return _copy(tree)
    except RecursionError as error:
        raise RecipeError("the recipe is nested too deeply") from error


def _copy(tree: Mapping[str, Any]) -> dict[str, Any]:
    return {k: _copy(v) if isinstance(v, Mapping) else v for k, v in tree.items()}


def parse_override(override: str) -> tuple[list[str], Any]:
    """Return the keys and the value of `train.steps=2000`; raises RecipeError."""
    key, equals, text = override.partition("=")
    parts = [part.strip() for part in key.split(".")]
    if not equals or not all(parts):
        raise RecipeError(f"override {override!r}; write key=value, such as train.steps=2000")
    value = _yaml(text, f"the value of override {override!r}") if text.strip() else None
    if isinstance(value, str):
        with suppress(ValueError):  # YAML reads 2e-3 as text
            number = float(value) if "e" in value.lower() else None
            if number is not None:
                value = int(number) if number.is_integer() else number
    return parts, value


def _renamed(tree: dict[str, Any]) -> dict[str, Any]:
    """Return the tree with the keys of earlier releases under their names of today."""
    for (section, old), new in RENAMED.items():  # type: ignore[misc]
        part = tree.get(section)
        if isinstance(part, dict) and old in part:
            if new in part:
                raise RecipeError(f"{section}.{old} is {section}.{new}, and both are given")
            rest = {k: v for k, v in part.items() if k != old}
            tree[section] = rest | {new: part[old]}
    return tree


def _refuse_both_lengths(parsed: list[tuple[list[str], Any]]) -> None:
    given = {parts[-1] for parts, value in parsed if parts[:-1] == ["train"] and value is not None}
    if {"steps", "budget"} <= given:
        raise RecipeError("train.steps and train.budget were both given; give one of the two")


def _apply(tree: dict[str, Any], parts: list[str], value: Any) -> None:
    at = tree
    for part in parts[:-1]:
        below = at.get(part)
        if below is None:
            below = at[part] = {}
        if not isinstance(below, dict):
            raise RecipeError(f"override {'.'.join(parts)}: {part!r} holds a value, not keys")
        at = below
    last = parts[-1]
    # another kind of component has its own keys: drop those of the old one
    if last in CHOICES and at.get(last, DEFAULT_KINDS.get(".".join(parts))) not in (None, value):
        for old in [k for k in at if k not in COMMON_KEYS]:
            del at[old]
    if parts == SOLVER and brings_grid(value):
        at.pop("grid", None)
    # a length given by one measure replaces the other
    other = {"steps": "budget", "budget": "steps"}.get(last)
    if parts[:-1] == ["train"] and other and value is not None:
        at.pop(other, None)
    if parts[:-1] == ["sample"] and last in FLAT and isinstance(at.get("guidance"), list):
        at["guidance"] = merged_guidance(at["guidance"], {last: value})
    else:
        at[last] = value


def _explain(kind: type[BaseModel], problem: Any) -> str:
    place = [str(part) for part in problem["loc"]]
    tags = _tags(kind)
    named = [part for part in place[:-1] if part not in tags] + [
        part for part in place[-1:] if part not in tags or problem["type"] == "extra_forbidden"
    ]
    where = ".".join(named) or "the whole"
    given = problem.get("input")
    if problem["type"] == "extra_forbidden":
        known = _keys_at(kind, place[:-1])
        guess = nearest(place[-1], known)
        hint = f"; did you mean {guess!r}?" if guess else ""
        return f"unknown key {shorten(repr(where))}{hint}; known there: {', '.join(known)}"
    if problem["type"] == "missing":
        return f"{where} is missing; give it"
    if problem["type"] in ("union_tag_invalid", "literal_error"):
        context = problem["ctx"]
        allowed = str(context.get("expected_tags") or context.get("expected")).replace("'", "")
        tag = context.get("tag", given)
        guess = nearest(str(tag), [a.strip() for a in allowed.replace(" or ", ",").split(",")])
        hint = f"; did you mean {guess!r}?" if guess else ""
        return f"{where} is {_shown(tag)}{hint}; known: {allowed}"
    if problem["type"] == "union_tag_not_found":
        return f"{where} needs the key {problem['ctx']['discriminator']}, its component"
    message = str(problem["msg"]).removeprefix("Value error, ")
    shown = "the section" if isinstance(given, Mapping) else _shown(given)
    return f"{where} is {shown}: {message}"


def _shown(value: Any) -> str:
    try:
        return shorten(repr(value))
    except RecursionError:
        return f"a {type(value).__name__} of many levels"


def _sections(annotation: Any) -> list[type[BaseModel]]:
    """Return every section type inside an annotation."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [s for part in getattr(annotation, "__args__", ()) for s in _sections(part)]


def _tags(kind: type[BaseModel]) -> set[str]:
    """Return the names by which discriminated unions choose, which pydantic puts into locations."""
    tags: set[str] = set()
    for field in kind.model_fields.values():
        for section in _sections(field.annotation):
            for key in CHOICES:
                if key in section.model_fields:
                    tags |= set(getattr(section.model_fields[key].annotation, "__args__", ()))
            tags |= _tags(section)
    return tags


def _keys_at(kind: type[BaseModel], place: list[str]) -> list[str]:
    here = [kind]
    for part in place:
        deeper = [
            s
            for k in here
            if part in k.model_fields
            for s in _sections(k.model_fields[part].annotation)
        ]
        if deeper:
            here = deeper
        else:  # a discriminator's tag
            here = [
                k
                for k in here
                if part
                in {
                    a
                    for key in CHOICES
                    if key in k.model_fields
                    for a in getattr(k.model_fields[key].annotation, "__args__", ())
                }
            ] or here
    return sorted({name for k in here for name in k.model_fields})
