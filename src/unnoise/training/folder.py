"""The folder of a run: whether it is free, who holds it, and what may differ on resuming."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from ..artifacts.artifact import CONFIG
from ..errors import ArtifactError, RecipeError, unknown
from ..recipes import Recipe, load_recipe
from ..safe_files.atomic_folder import created

RECIPE = "recipe.yaml"
LOCK, HOLDER = ".lock", ".lock.json"
# what changes how a run is shared out, reported or kept, and nothing of what it computes while
# nothing goes wrong (accumulate: where each sample is taken by itself)
FREE = (
    "reports", "checkpoint", "keep", "keep_every", "workers", "accumulate", "steps", "budget",
    "guard", "recompute",
)  # fmt: skip
_DYING = 0.5  # seconds that a killed process may take to be gone
_LINGER = 15.0  # seconds that the workers of a run that was killed may still hold its lock


def need_free(out: Path, resume: bool) -> None:
    """Raise ArtifactError where `out` is a file or holds what a new run would write over."""
    if out.exists() and not out.is_dir():
        raise ArtifactError(f"{out} is a file; give a folder for the run")
    if resume and (out / CONFIG).exists() and not (out / "checkpoints").is_dir():
        raise ArtifactError(
            f"{out} holds a finished model and no checkpoints to go on from; give another --out"
        )
    if resume or not out.is_dir():
        return
    if (out / CONFIG).exists() or (out / "checkpoints").exists() or (out / RECIPE).exists():
        raise ArtifactError(
            f"{out} holds a run already; add --resume to go on with it, or give another --out"
        )


@contextmanager
def held(out: Path) -> Iterator[None]:
    """Hold the folder `out`, made where it is missing, against other runs until the block ends or
    the process dies. Raises ArtifactError naming who holds it, or where it cannot be written."""
    from filelock import FileLock, Timeout

    try:
        with created(out):
            lock = FileLock(out / LOCK)
            try:
                lock.acquire(timeout=_DYING)
            except Timeout:
                if _runs(_holder(out)):
                    raise
                lock.acquire(timeout=_LINGER)
    except Timeout as error:
        who = _holder(out)
        name = f"process {who['pid']} on {who['host']}" if who else "another process"
        raise ArtifactError(
            f"{out} is in use by {name}; wait for it, stop it (it saves its state), or give "
            "another --out"
        ) from error
    except OSError as error:
        raise ArtifactError(f"{out} cannot be written: {error.strerror or error}") from error
    try:
        for left in out.glob(".*.part"):  # of a run that was killed as it wrote
            if left.is_file():
                left.unlink(missing_ok=True)
        with suppress(OSError):  # it only serves the message above
            mine = {"pid": os.getpid(), "host": platform.node()}
            (out / HOLDER).write_text(json.dumps(mine) + "\n")
        yield
    finally:
        with suppress(OSError):
            (out / HOLDER).unlink(missing_ok=True)
        lock.release()


def _holder(out: Path) -> dict[str, Any] | None:
    try:
        who = json.loads((out / HOLDER).read_text())
        return {"pid": int(who["pid"]), "host": str(who["host"])}
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _runs(who: dict[str, Any] | None) -> bool:
    """Return whether a holder of the lock is alive; a holder on another machine counts as alive."""
    import psutil

    if who is None or who["host"] != platform.node():
        return True
    try:
        return psutil.Process(who["pid"]).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
    except psutil.Error:
        return True


def need_same(saved: dict[str, Any], recipe: Recipe) -> None:
    """Raise RecipeError if a recipe differs from the saved one in a key that affects training."""
    now = recipe.model_dump(mode="json")
    for key in saved:
        if key not in now:
            raise unknown("key of the checkpoint's recipe", key, now, RecipeError)
    with suppress(RecipeError):  # keys that an earlier release did not have get their defaults
        saved = load_recipe(saved).model_dump(mode="json")
    for section in ("data", "path", "network", "model", "objective", "train"):
        if not isinstance(saved.get(section), dict):
            raise RecipeError(f"the checkpoint's recipe has no {section}; start a new run")
        for key in sorted({*saved[section], *now[section]}):
            free = section == "train" and key in FREE
            free = free and not (key == "accumulate" and _by_parts(now["objective"]))
            if not free and saved[section].get(key) != now[section].get(key):
                raise RecipeError(
                    f"{section}.{key} was {saved[section].get(key)!r} and is now "
                    f"{now[section].get(key)!r}: this run cannot go on with another recipe; undo "
                    "that, or start a new run in another folder"
                )


def _by_parts(objective: dict[str, Any]) -> bool:
    """Return whether the loss depends on the parts that a batch is split into."""
    coupled = (objective.get("coupling") or {}).get("kind", "independent") != "independent"
    return coupled or (objective.get("times") or {}).get("kind") == "loss_history"
