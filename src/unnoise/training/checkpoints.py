"""Checkpoints: one folder per state, complete or absent.

checkpoints/step-00000100/  weights, ema, optimizer.safetensors; objective.safetensors where an
                            objective has a state; averages.safetensors where train.averages are
                            kept; state.json; manifest.json (last). In each file a tensor's name
                            begins with that of its player and a dot.
checkpoints/latest          the name of the newest complete one, for people; it is not used to load
A checkpoint is written under a temporary name, synced, then renamed. Loading verifies the hashes of
the manifest and returns the newest sound checkpoint, with a note on each that was skipped. A
checkpoint is renamed before it is removed. Names with a dot are left by an interrupted save; the
next save removes them.
"""

from __future__ import annotations

import hashlib
import re
import shutil
from contextlib import suppress
from pathlib import Path
from typing import Any

from torch import Tensor

from ..errors import ArtifactError
from ..safe_files.atomic_folder import sync
from ..safe_files.files import (
    check_finite,
    read_json,
    read_tensors,
    write_bytes,
    write_json,
    write_tensors,
)
from .player import DENOISER

FORMAT = 3  # 1 had no state of the guard; 1 and 2 had one player, whose tensors bore no name
_NUMBERS = ("step", "seen", "elapsed", "data")
_KINDS: dict[str, Any] = {
    "step": int, "seen": int, "elapsed": int | float, "data": str, "guard": dict, "players": dict,
    "recipe": dict,
}  # fmt: skip
_PLAYER: dict[str, Any] = {"ema_updates": int, "optimizers": list}
_REQUIRED = ("weights", "ema", "optimizer")
_OPTIONAL = ("objective", "averages")
_NAME = re.compile(r"step-(\d{8,})")


class Checkpoints:
    """The checkpoints of a run folder: the newest `keep`, and those of every `keep_every`th update.

    The next save removes the damaged checkpoints that `load` skipped. notes: the problems that
    `load` found; loaded: the name of the checkpoint that it returned. read_only: the folder is not
    changed, for a process that reads while the run writes.
    """

    def __init__(
        self, run: Path, keep: int = 2, keep_every: int | None = None, read_only: bool = False
    ) -> None:
        self.folder, self.keep, self.keep_every = run / "checkpoints", keep, keep_every
        self.read_only = read_only
        self.notes: list[str] = []
        self.loaded: str | None = None
        self._damaged: list[str] = []

    def names(self) -> list[str]:
        """Return the names of the checkpoints, oldest first; their hashes are not verified."""
        if not self.folder.is_dir():
            return []
        # a save of the same step was cut short
        for aside in () if self.read_only else self.folder.glob(".step-*.old"):
            if not (at := self.folder / aside.name[1:-4]).exists():
                aside.rename(at)
        return sorted(
            (p.name for p in self.folder.iterdir() if _NAME.fullmatch(p.name)),
            key=lambda name: int(name[5:]),
        )

    def save(self, state: dict[str, Any], recipe: dict[str, Any]) -> Path:
        """Write a state; raises ArtifactError (disk full, read-only) and keeps earlier ones."""
        name = f"step-{state['step']:08d}"
        final, beside = self.folder / name, self.folder / f".{name}.part"
        aside = self.folder / f".{name}.old"
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            before = self.names()
            for left in self.folder.glob(".step-*"):
                shutil.rmtree(left, ignore_errors=True)
            for left in self.folder.glob(".latest.*"):
                left.unlink()
            beside.mkdir()
            parts, players = _split(state["players"])
            hashes = {
                f"{part}.safetensors": write_tensors(beside / f"{part}.safetensors", tensors)
                for part, tensors in parts.items()
                if tensors or part in _REQUIRED
            }
            numbers = {k: state[k] for k in _NUMBERS} | {"guard": state.get("guard") or {}}
            numbers |= {"part": state["part"]} if state.get("part") else {}
            write_json(
                beside / "state.json",
                {"format": FORMAT, **numbers, "players": players, "recipe": recipe},
            )
            hashes["state.json"] = hashlib.sha256((beside / "state.json").read_bytes()).hexdigest()
            write_json(beside / "manifest.json", hashes)
            sync(beside)
            if final.exists():
                shutil.rmtree(aside, ignore_errors=True)
                final.rename(aside)
            beside.rename(final)
            sync(self.folder)
            write_bytes(self.folder / "latest", f"{name}\n".encode())
        except OSError as error:
            shutil.rmtree(beside, ignore_errors=True)
            raise ArtifactError(
                f"checkpoint {final} cannot be written: {error.strerror or error}; earlier ones "
                "are untouched"
            ) from error
        except BaseException:
            shutil.rmtree(beside, ignore_errors=True)
            raise
        shutil.rmtree(aside, ignore_errors=True)
        sound = [other for other in before if other not in (name, *self._damaged)]
        older = sound[: max(0, len(sound) + 1 - self.keep)]
        if self.keep_every is not None:
            older = [other for other in older if int(other[5:]) % self.keep_every]
        for old in [*self._damaged, *older]:
            if old != name:
                self._remove(old)
        self._damaged.clear()
        return final

    def forget(self, after: int) -> None:
        """Remove the checkpoints of updates after `after`."""
        for name in self.names():
            if int(name[5:]) > after:
                self._remove(name)

    def _remove(self, name: str) -> None:
        """Rename a checkpoint, then remove it, so that no partly removed one has its name."""
        gone = self.folder / f".{name}.gone"
        with suppress(OSError):
            (self.folder / name).rename(gone)
        shutil.rmtree(gone, ignore_errors=True)

    def load(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """Return (state, recipe) of the newest sound checkpoint; `notes` gets those skipped.

        Raises ArtifactError if there is none.
        """
        problems: list[str] = []
        passed: list[str] = []
        for name in reversed(self.names()):
            try:
                found = _read(self.folder / name)
            except ArtifactError as error:
                problems.append(f"{name} was passed over: {error}")
                passed.append(name)
                continue
            self.notes += [*problems, *self._stale(name, passed)]
            self._damaged, self.loaded = passed, name
            return found
        detail = "; ".join(problems) or "there is none"
        raise ArtifactError(f"no sound checkpoint in {self.folder}: {detail}")

    def read(self, name: str) -> tuple[dict[str, Any], dict[str, Any]]:
        """Return (state, recipe) of one checkpoint; raises ArtifactError if it is not sound."""
        return _read(self.folder / name)

    def _stale(self, name: str, passed: list[str]) -> list[str]:
        try:
            said = (self.folder / "latest").read_text("utf-8", errors="replace").strip()
        except OSError:
            return [f"`latest` is missing; going on from {name}, the newest sound checkpoint"]
        if said in (name, *passed):
            return []
        return [f"`latest` says {said[:40]!r}; going on from {name}, the newest sound checkpoint"]


def _read(folder: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    hashes = read_json(folder / "manifest.json")
    expected = {*(f"{part}.safetensors" for part in _REQUIRED), "state.json"}
    optional = {f"{part}.safetensors" for part in _OPTIONAL}
    if not isinstance(hashes, dict) or set(hashes) - optional != expected:
        raise ArtifactError(f"{folder / 'manifest.json'} does not list {sorted(expected)}")
    parts = {
        name.removesuffix(".safetensors"): read_tensors(folder / name, sha256)
        for name, sha256 in hashes.items()
        if name.endswith(".safetensors")
    }
    path = folder / "state.json"
    tree = read_json(path, sha256=str(hashes["state.json"]))
    found = tree.pop("format", None) if isinstance(tree, dict) else None
    if type(found) is not int or found not in range(1, FORMAT + 1):
        raise ArtifactError(
            f"{path} has another format, {found!r}; this release reads 1 to {FORMAT}: go on with "
            "the release that wrote it, or a newer one"
        )
    if found < FORMAT:
        tree, parts = _with_player(tree, parts)
    _check(path, tree, _KINDS)
    for name, player in tree["players"].items():
        if not isinstance(player, dict):
            raise ArtifactError(f"{path}: player {name!r} is no object of keys")
        _check(path, player, _PLAYER)
    for numbers in (tree, *tree["players"].values()):
        for key in ("step", "seen", "elapsed", "ema_updates"):
            if numbers.get(key, 0) < 0:
                raise ArtifactError(f"{path}: {key} is {numbers[key]}, below 0")
    recipe = tree.pop("recipe")
    for part in ("weights", "ema", "averages"):
        check_finite(parts.get(part, {}), str(folder / f"{part}.safetensors"))
    try:
        tree["players"] = _join(parts, tree["players"])
    except (TypeError, ValueError, KeyError, AttributeError) as error:
        raise ArtifactError(f"{path}: the state of the players is damaged ({error})") from error
    return tree, recipe


def _check(path: Path, tree: dict[str, Any], kinds: dict[str, Any]) -> None:
    """Raise ArtifactError unless `tree` has a value of its kind under every key."""
    if lacking := kinds.keys() - tree.keys():
        raise ArtifactError(f"{path} lacks {sorted(lacking)}")
    for key, kind in kinds.items():
        if not isinstance(tree[key], kind) or isinstance(tree[key], bool):
            raise ArtifactError(f"{path}: {key} is {tree[key]!r:.80}, which it cannot be")


def _with_player(
    tree: dict[str, Any], parts: dict[str, dict[str, Tensor]]
) -> tuple[dict[str, Any], dict[str, dict[str, Tensor]]]:
    """Return the state of format 1 or 2 as one of format 3, with the one player "denoiser"."""
    tree = {"guard": {}} | tree
    kept = {key: tree.pop(key) for key in _PLAYER if key in tree}
    guard = tree["guard"]
    if isinstance(guard, dict) and "sizes" not in guard and guard:
        sizes = {key: guard[key] for key in ("scale", "usual", "recent") if key in guard}
        guard = {key: value for key, value in guard.items() if key not in sizes}
        tree["guard"] = guard | {"sizes": {DENOISER: sizes}}
    named = {
        part: {f"{DENOISER}.{name}": tensor for name, tensor in tensors.items()}
        for part, tensors in parts.items()
    }
    return tree | {"players": {DENOISER: kept}}, named


def _split(
    players: dict[str, dict[str, Any]],
) -> tuple[dict[str, dict[str, Tensor]], dict[str, dict[str, Any]]]:
    """Return the tensors of each file by name, and the rest of each player's state as JSON."""
    parts: dict[str, dict[str, Tensor]] = {part: {} for part in (*_REQUIRED, *_OPTIONAL)}
    rest = {}
    for name, state in players.items():
        optimizer, plain = _flatten(state["optimizers"])
        for part, tensors in (state | {"optimizer": optimizer}).items():
            if part in parts:
                parts[part] |= {f"{name}.{key}": tensor for key, tensor in tensors.items()}
        rest[name] = {"ema_updates": state["ema_updates"], "optimizers": plain}
    return parts, rest


def _join(
    parts: dict[str, dict[str, Tensor]], players: dict[str, dict[str, Any]]
) -> dict[str, dict[str, Any]]:
    """Return each player's state from the tensors of the files and the rest; see `_split`."""
    states: dict[str, dict[str, Any]] = {
        name: {part: {} for part in (*_REQUIRED, *_OPTIONAL)} for name in players
    }
    for part, tensors in parts.items():
        for name, tensor in tensors.items():
            player, key = name.split(".", 1)
            states[player][part][key] = tensor
    return {
        name: {part: kept for part, kept in states[name].items() if part != "optimizer"}
        | {
            "ema_updates": players[name]["ema_updates"],
            "optimizers": _unflatten(states[name]["optimizer"], players[name]["optimizers"]),
        }
        for name in players
    }


def _flatten(states: list[dict[str, Any]]) -> tuple[dict[str, Tensor], list[Any]]:
    """Return optimizer states as named tensors, and the rest as JSON."""
    tensors: dict[str, Tensor] = {}
    plain = []
    for part, state in enumerate(states):
        numbers: dict[str, dict[str, Any]] = {}
        for key, values in state["state"].items():
            for name, value in values.items():
                if isinstance(value, Tensor):
                    tensors[f"{part}.{key}.{name}"] = value
                else:
                    numbers.setdefault(str(key), {})[name] = value
        plain.append({"state": numbers, "param_groups": state["param_groups"]})
    return tensors, plain


def _unflatten(tensors: dict[str, Tensor], plain: list[Any]) -> list[dict[str, Any]]:
    states = []
    for part, numbers in enumerate(plain):
        state: dict[int, dict[str, Any]] = {int(k): dict(v) for k, v in numbers["state"].items()}
        for name, value in tensors.items():
            index, key, slot = name.split(".", 2)
            if int(index) == part:
                state.setdefault(int(key), {})[slot] = value
        if numbers.keys() != {"state", "param_groups"} or not isinstance(
            numbers["param_groups"], list
        ):
            raise ValueError(f"part {part} has not exactly state and param_groups")
        groups = [
            {k: tuple(v) if k == "betas" else v for k, v in group.items()}
            for group in numbers["param_groups"]
        ]
        states.append({"state": state, "param_groups": groups})
    return states
