"""All checks on a run, in order."""

from __future__ import annotations

from pathlib import Path

from ...errors import UnnoiseError, need_count
from . import data_checks, history_checks, learning_checks, sample_checks  # noqa: F401  they enter
from .finding import CHECKS, Check, Finding, Report, explained
from .patient import Patient, open_run


def doctor(run: str | Path, *, n: int = 128, seed: int = 0) -> Report:
    """Examine a run, finished or not, and say what is wrong with it and what to do.

    run: its folder, with an artifact, with checkpoints, or with both; n: samples drawn, as the
    recipe says; seed: of samples and noise. Checks that lack what they need, such as the data, are
    "not done" and say why. Nothing is written. Raises ArtifactError where there is no run.
    """
    patient = open_run(Path(run), need_count("n", n, 20), need_count("seed", seed, 0))
    findings = explained([_run(check, patient) for check in CHECKS.values()])
    alone = patient.average is not None and "data" not in patient.missing
    dead = alone and patient.raw is not None and patient.dead_average
    used = "raw: the average is dead" if dead else "average"
    return Report(
        str(run),
        patient.recipe.name,
        used if patient.average else "none",
        tuple(findings),
    )


def _run(check: Check, patient: Patient) -> Finding:
    for need in check.needs:
        if need in patient.missing:
            return Finding(check.name, "not done", patient.missing[need])
    try:
        return check.run(patient)
    except UnnoiseError as error:
        return Finding(check.name, "not done", str(error))
