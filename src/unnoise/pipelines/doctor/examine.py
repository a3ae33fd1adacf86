"""The doctor: all checks on a run, in order."""

from __future__ import annotations

from pathlib import Path

from ...errors import UnnoiseError, need_count
from . import data_checks, history_checks, learning_checks, sample_checks  # noqa: F401  they register
from .examined_run import RunSnapshot, open_run
from .finding import CHECKS, Check, Finding, Report, name_causes


def doctor(run: str | Path, *, n: int = 128, seed: int = 0) -> Report:
    """Examine a run, finished or not, and return what is wrong with it and what to do.

    run: its folder, with an artifact, with checkpoints, or with both; n: number of samples drawn,
    by the recipe's settings; seed: of samples and noise. A check whose needs (such as the data) are
    missing is "not done", with the reason. Nothing is written. Raises ArtifactError if there is no
    run, InvalidArgument for n below 20.
    """
    snapshot = open_run(Path(run), need_count("n", n, 20), need_count("seed", seed, 0))
    findings = name_causes([_run(check, snapshot) for check in CHECKS.values()])
    alone = snapshot.average is not None and "data" not in snapshot.missing
    dead = alone and snapshot.raw is not None and snapshot.average_failed
    used = "raw: the average is dead" if dead else "average"
    return Report(
        str(run),
        snapshot.recipe.name,
        used if snapshot.average else "none",
        tuple(findings),
    )


def _run(check: Check, snapshot: RunSnapshot) -> Finding:
    for need in check.needs:
        if need in snapshot.missing:
            return Finding(check.name, "not done", snapshot.missing[need])
    try:
        return check.run(snapshot)
    except UnnoiseError as error:
        return Finding(check.name, "not done", str(error))
