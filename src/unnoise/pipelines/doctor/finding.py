"""Findings of the doctor, and the table of the checks that make them."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from .examined_run import RunSnapshot

Severity = Literal["fault", "warning", "fine", "not done"]


@dataclass(frozen=True)
class Finding:
    """The result of one check: the measurement, the threshold, and the remedy.

    severity: fault (reason enough for bad samples), warning, fine, or not done, with the reason in
    `measured`. numbers: the measurements as plain JSON values.
    """

    check: str
    severity: Severity
    measured: str
    threshold: str = ""
    remedy: str = ""
    numbers: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Check:
    """A check: its name, its function, its needs, and its possible causes.

    needs: the parts of a run without which the check is not done (data, model, raw, log); sign_of:
    the checks whose faults would explain a fault of this one.
    """

    name: str
    run: Callable[[RunSnapshot], Finding]
    needs: tuple[str, ...]
    sign_of: tuple[str, ...]


CHECKS: dict[str, Check] = {}


def register_check(
    name: str, needs: tuple[str, ...] = (), sign_of: tuple[str, ...] = ()
) -> Callable[[Callable[[RunSnapshot], Finding]], Callable[[RunSnapshot], Finding]]:
    """Return a decorator that enters a function of a RunSnapshot into the table of checks."""

    def enter(function: Callable[[RunSnapshot], Finding]) -> Callable[[RunSnapshot], Finding]:
        """Enter the function into the table of checks, and return it."""
        CHECKS[name] = Check(name, function, needs, sign_of)
        return function

    return enter


def name_causes(findings: list[Finding]) -> list[Finding]:
    """Turn each finding that follows from a fault into a warning that names the fault."""
    faults = {f.check for f in findings if f.severity == "fault"}
    out = []
    for finding in findings:
        causes = [c for c in CHECKS[finding.check].sign_of if c in faults]
        if finding.severity in ("fault", "warning") and causes:
            remedy = f"it follows from the fault in {' and '.join(causes)}: mend that first"
            finding = replace(finding, severity="warning", remedy=remedy)
        out.append(finding)
    return out


@dataclass(frozen=True)
class Report:
    """All findings on a run; recipe: its name; weights: raw, average or none were examined."""

    run: str
    recipe: str
    weights: str
    findings: tuple[Finding, ...]

    @property
    def faults(self) -> list[str]:
        """The names of the checks that found a fault."""
        return [f.check for f in self.findings if f.severity == "fault"]

    @property
    def warnings(self) -> list[str]:
        """The names of the checks that found something to warn of."""
        return [f.check for f in self.findings if f.severity == "warning"]

    def __getitem__(self, check: str) -> Finding:
        return next(f for f in self.findings if f.check == check)

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return _plain(asdict(self)) | {"faults": self.faults, "warnings": self.warnings}


def _plain(value: Any) -> Any:
    """Return the value with null in the place of numbers that JSON lacks (NaN, infinity)."""
    if isinstance(value, dict):
        return {k: _plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
