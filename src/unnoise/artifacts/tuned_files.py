"""Tuned solvers beside a model's weights: tuned/steps-N.json, strict JSON."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from ..errors import ArtifactError, InvalidArgument, RecipeError, unknown
from ..recipes import SampleConfig, merged_guidance, resolved, validate
from ..safe_files.atomic_folder import recover, resolve
from ..safe_files.files import read_json, write_json
from ..sampling import TunedSolver
from ..solvers import Tuned
from .formats import migrate

FOLDER, FORMAT = "tuned", 2
MOST_FILES, MOST_TEXT = 256, 2**16  # a thousand steps take half of that
_KEYS = (
    "format", "unnoise", "weights_sha256", "guidance", "measured", "solver",
)  # fmt: skip
_FLAT = ("interval", "rescale")  # of format 1, beside a number


def write_tuned(folder: Path, tuned: TunedSolver, digest: str) -> Path:
    """Write tuned/steps-N.json into an artifact whose weights have this SHA-256."""
    from .. import __version__

    place = folder / FOLDER
    try:
        recover(folder)
        place.mkdir(exist_ok=True)
    except OSError as error:
        raise ArtifactError(f"{place} cannot be made: {error.strerror or error}") from error
    path = place / f"steps-{tuned.solver.length}.json"
    tree = {
        "format": FORMAT,
        "unnoise": __version__,
        "weights_sha256": digest,
        "guidance": [resolved(section) for section in tuned.guidance],
        "measured": tuned.measured,
        "solver": tuned.solver.to_dict(),
    }
    write_json(path, tree)
    return path


def read_tuned(folder: Path, digest: str) -> dict[int, TunedSolver]:
    """Every tuned solver of an artifact, by its steps. Raises ArtifactError naming what is wrong
    with a file, above all one that was made for other weights."""
    place = resolve(folder, FOLDER)
    if not os.path.lexists(place):
        return {}
    if not place.is_dir():
        raise ArtifactError(f"{place} is no folder; move it away")
    files = []
    for path in place.iterdir():
        if not path.name.startswith("."):
            files.append(path)
        if len(files) > MOST_FILES:
            raise ArtifactError(f"{place} holds more than {MOST_FILES} files; move the others away")
    files.sort()
    found = [_read(path, digest) for path in files]
    return {tuned.solver.length: tuned for tuned in found}


def _from_1(tree: dict[str, Any]) -> dict[str, Any]:
    """Format 1 had one classifier-free guidance, as three flat keys."""
    rest = {key: value for key, value in tree.items() if key not in _FLAT}
    given = {key: tree[key] for key in ("guidance", *_FLAT)}
    return rest | {"format": 2, "guidance": merged_guidance((), given)}


def _read(path: Path, digest: str) -> TunedSolver:
    remedy = f"; remove it, or tune again with `unnoise tune {path.parent.parent}`"
    tree = read_json(path, MOST_TEXT)
    old = isinstance(tree, dict) and tree.get("format") == 1
    keys = (*_KEYS, *_FLAT) if old else _KEYS
    if isinstance(tree, dict):
        for key in tree:
            if key not in keys:
                raise unknown(f"key of {path}", key, keys, ArtifactError)
        missing = [key for key in keys if key not in tree]
        if "format" in tree and missing:
            raise ArtifactError(f"{path} lacks {', '.join(missing)}{remedy}")
    tree = migrate(tree, {1: _from_1}, FORMAT, f"the tuned solver {path}")
    if tree["weights_sha256"] != digest:
        raise ArtifactError(f"{path} was tuned for other weights than this model's{remedy}")
    if not isinstance(tree["unnoise"], str):
        raise ArtifactError(f"{path}: unnoise is no version{remedy}")
    if not isinstance(tree["measured"], dict):
        raise ArtifactError(f"{path}: measured is damaged{remedy}")
    try:
        section = validate(SampleConfig, {"guidance": tree["guidance"]}, "guidance")
        solver = Tuned.from_dict(tree["solver"])
    except (InvalidArgument, RecipeError) as error:
        raise ArtifactError(f"{path} is damaged: {error}{remedy}") from error
    if path.name != f"steps-{solver.length}.json":
        raise ArtifactError(f"{path} holds a solver of {solver.length} steps{remedy}")
    return TunedSolver(solver, section.guidance, tree["measured"])
