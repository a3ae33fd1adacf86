"""Tuned solvers beside a model's weights: tuned/steps-N.json, strict JSON."""

from __future__ import annotations

import math
import os
from pathlib import Path

from ..errors import ArtifactError, InvalidArgument, unknown
from ..safe_files.atomic_folder import recover, resolve
from ..safe_files.files import read_json, write_json
from ..sampling import TunedSolver
from ..solvers import Tuned
from .formats import migrate

FOLDER, FORMAT = "tuned", 1
MOST_FILES, MOST_TEXT = 256, 2**16  # a thousand steps take half of that
_KEYS = (
    "format", "unnoise", "weights_sha256", "guidance", "interval", "rescale", "measured", "solver",
)  # fmt: skip


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
        "guidance": tuned.guidance,
        "interval": None if tuned.interval is None else list(tuned.interval),
        "rescale": tuned.rescale,
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


def _read(path: Path, digest: str) -> TunedSolver:
    remedy = f"; remove it, or tune again with `unnoise tune {path.parent.parent}`"
    tree = migrate(read_json(path, MOST_TEXT), {}, FORMAT, f"the tuned solver {path}")
    for key in tree:
        if key not in _KEYS:
            raise unknown(f"key of {path}", key, _KEYS, ArtifactError)
    missing = [key for key in _KEYS if key not in tree]
    if missing:
        raise ArtifactError(f"{path} lacks {', '.join(missing)}{remedy}")
    if tree["weights_sha256"] != digest:
        raise ArtifactError(f"{path} was tuned for other weights than this model's{remedy}")
    if not isinstance(tree["unnoise"], str):
        raise ArtifactError(f"{path}: unnoise is no version{remedy}")
    interval, numbers = tree["interval"], [tree["guidance"], tree["rescale"]]
    if interval is not None:
        numbers += interval if isinstance(interval, list) and len(interval) == 2 else [None]
    if not all(
        isinstance(n, int | float) and not isinstance(n, bool) and math.isfinite(n) for n in numbers
    ) or not isinstance(tree["measured"], dict):
        raise ArtifactError(f"{path}: guidance, interval, rescale or measured is damaged{remedy}")
    try:
        solver = Tuned.from_dict(tree["solver"])
    except InvalidArgument as error:
        raise ArtifactError(f"{path}: {error}{remedy}") from error
    if path.name != f"steps-{solver.length}.json":
        raise ArtifactError(f"{path} holds a solver of {solver.length} steps{remedy}")
    return TunedSolver(
        solver,
        float(tree["guidance"]),
        None if interval is None else (float(interval[0]), float(interval[1])),
        float(tree["rescale"]),
        tree["measured"],
    )
