"""Checkpoints: a folder a state, complete or not there at all.

checkpoints/step-00000100/  weights, ema, optimizer.safetensors, objective.safetensors where the
                            objective has a state; state.json; manifest.json (last)
checkpoints/latest          the name of the newest complete one
Written beside, synced, then renamed; a reader verifies the manifest's hashes and walks back to the
newest sound one.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
from pathlib import Path
from typing import Any

from torch import Tensor

from ..artifacts.files import read_json, read_tensors, write_bytes, write_json, write_tensors
from ..errors import ArtifactError

FORMAT = 1
_NAME = re.compile(r"step-(\d{8,})")


class Checkpoints:
    """The checkpoints of one run folder; the newest `keep` are kept.

    Those that `load` passed over as damaged go with the next save.
    """

    def __init__(self, run: Path, keep: int = 2) -> None:
        self.folder, self.keep = run / "checkpoints", keep
        self.notes: list[str] = []
        self._damaged: list[str] = []

    def names(self) -> list[str]:
        """Complete-looking checkpoints, oldest first."""
        if not self.folder.is_dir():
            return []
        for aside in self.folder.glob(".step-*.old"):  # a save of the same step was cut short
            if not (at := self.folder / aside.name[1:-4]).exists():
                aside.rename(at)
        return sorted(
            (p.name for p in self.folder.iterdir() if _NAME.fullmatch(p.name)),
            key=lambda name: int(name[5:]),
        )

    def save(self, state: dict[str, Any], recipe: dict[str, Any]) -> Path:
        """Write a state; raises ArtifactError (disk full, read-only), earlier ones untouched."""
        name = f"step-{state['step']:08d}"
        final, beside = self.folder / name, self.folder / f".{name}.part"
        aside = self.folder / f".{name}.old"
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            before = self.names()
            for left in self.folder.glob(".step-*.part"):
                shutil.rmtree(left, ignore_errors=True)
            beside.mkdir()
            optimizer, plain = _flatten(state["optimizers"])
            parts = {"weights": state["weights"], "ema": state["ema"], "optimizer": optimizer}
            if state.get("objective"):
                parts["objective"] = state["objective"]
            hashes = {
                f"{part}.safetensors": write_tensors(beside / f"{part}.safetensors", tensors)
                for part, tensors in parts.items()
            }
            numbers = {k: state[k] for k in ("step", "seen", "elapsed", "ema_updates", "data")}
            write_json(
                beside / "state.json",
                {"format": FORMAT, **numbers, "optimizers": plain, "recipe": recipe},
            )
            hashes["state.json"] = hashlib.sha256((beside / "state.json").read_bytes()).hexdigest()
            write_json(beside / "manifest.json", hashes)
            _sync(beside)
            if final.exists():
                shutil.rmtree(aside, ignore_errors=True)
                final.rename(aside)
            beside.rename(final)
            _sync(self.folder)
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
        for old in [*self._damaged, *sound[: max(0, len(sound) + 1 - self.keep)]]:
            if old != name:
                shutil.rmtree(self.folder / old, ignore_errors=True)
        self._damaged.clear()
        return final

    def load(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """(state, recipe) of the newest sound checkpoint; says in `notes` what it passed over.

        Raises ArtifactError where there is none.
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
            self.notes += problems
            self._damaged = passed
            return found
        detail = "; ".join(problems) or "there is none"
        raise ArtifactError(f"no sound checkpoint in {self.folder}: {detail}")


def _read(folder: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    hashes = read_json(folder / "manifest.json")
    expected = {"weights.safetensors", "ema.safetensors", "optimizer.safetensors", "state.json"}
    if not isinstance(hashes, dict) or set(hashes) - {"objective.safetensors"} != expected:
        raise ArtifactError(f"{folder / 'manifest.json'} does not list {sorted(expected)}")
    parts = {
        name.removesuffix(".safetensors"): read_tensors(folder / name, sha256)
        for name, sha256 in hashes.items()
        if name.endswith(".safetensors")
    }
    path = folder / "state.json"
    tree = read_json(path)
    if hashlib.sha256(path.read_bytes()).hexdigest() != hashes["state.json"]:
        raise ArtifactError(f"{path} is damaged: its SHA-256 differs from the manifest's")
    if tree.pop("format", None) != FORMAT:
        raise ArtifactError(f"{path} has another format; this release reads {FORMAT}")
    recipe = tree.pop("recipe")
    tree["optimizers"] = _unflatten(parts["optimizer"], tree["optimizers"])
    kept = {"weights": parts["weights"], "ema": parts["ema"]}
    return tree | kept | {"objective": parts.get("objective", {})}, recipe


def _flatten(states: list[dict[str, Any]]) -> tuple[dict[str, Tensor], list[Any]]:
    """Optimizer states as named tensors, and the rest as JSON."""
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
        groups = [
            {k: tuple(v) if k == "betas" else v for k, v in group.items()}
            for group in numbers["param_groups"]
        ]
        states.append({"state": state, "param_groups": groups})
    return states


def _sync(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
