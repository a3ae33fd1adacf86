"""The runner of measurements: every finished one is stored, and an interrupted run resumes."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

from unnoise.errors import ArtifactError, UnnoiseError
from unnoise.safe_files.files import read_json, write_json

from .claim import Claim, Finding, Interval, Result
from .registry import fingerprint, library

CACHE = Path("runs/claims")


def run(
    claims: Sequence[Claim],
    cache: Path = CACHE,
    keep: bool = False,
    fresh: bool = False,
    say: Callable[[str], None] = print,
) -> list[Result]:
    """Measure `claims` in turn; each result is on disk before the next one starts.

    A result in `cache` (one JSON file a claim) is used again if the claim, its code and the library
    are unchanged; with `keep` also if other parts of the library changed; with `fresh` never. `say`
    is called with one line a claim. Raises the error of the first measurement that fails, naming
    the claim; results finished before it stay.
    """
    cache.mkdir(parents=True, exist_ok=True)
    results = []
    width = max((len(c.name) for c in claims), default=0)
    for count, claim in enumerate(claims, 1):
        place = f"[{count:{len(str(len(claims)))}}/{len(claims)}] {claim.name:{width}}"
        result = None if fresh else cached_result(claim, cache, keep)
        if result is None:
            result = _measure(claim)
            write_json(cache / f"{claim.name}.json", as_tree(result))
        when = f"kept from {result.date}" if result.again else f"{result.seconds:.1f} s"
        say(f"{place}  {result.finding.sentence}  ({when})")
        results.append(result)
    return results


def _measure(claim: Claim) -> Result:
    began = time.perf_counter()
    try:
        finding = claim.measure()
    except UnnoiseError as error:
        raise type(error)(f"claim {claim.name}: {error}") from error
    except Exception as error:
        error.add_note(f"while measuring the claim {claim.name!r}")
        raise
    seconds = round(time.perf_counter() - began, 3)
    return Result(claim, finding, seconds, date.today().isoformat(), key_of(claim), library())


def key_of(claim: Claim) -> str:
    """Return the key that a cached result must match: claim's code, its words, versions."""
    from unnoise import __version__

    return f"{fingerprint(claim.measure)} unnoise {__version__}"


def cached_result(claim: Claim, cache: Path, keep: bool) -> Result | None:
    """Return the cached result of a claim, or None if there is none that is still valid."""
    file = cache / f"{claim.name}.json"
    if not file.is_file():
        return None
    try:
        result = from_tree(claim, read_json(file))
    except (ArtifactError, KeyError, TypeError, ValueError, AttributeError):
        return None  # damaged: measured again
    if result.key != key_of(claim) or (result.library != library() and not keep):
        return None
    return replace(result, again=True)


def as_tree(result: Result) -> dict[str, Any]:
    """Return a result as strict JSON: intervals as objects, infinities as words."""
    claim, finding = result.claim, result.finding
    return {
        "name": claim.name,
        "chapter": claim.chapter,
        "source": claim.source,
        "statement": claim.statement,
        "verdict": finding.verdict,
        "when": finding.when,
        "measured": {label: _plain(value) for label, value in finding.measured.items()},
        "remark": finding.remark,
        "seconds": result.seconds,
        "date": result.date,
        "key": result.key,
        "library": result.library,
    }


def from_tree(claim: Claim, tree: dict[str, Any]) -> Result:
    """Return the result that `as_tree` wrote."""
    measured = {label: _value(value) for label, value in tree["measured"].items()}
    finding = Finding(measured, tree["verdict"], tree["when"], tree["remark"])
    return Result(
        claim, finding, float(tree["seconds"]), tree["date"], tree["key"], tree["library"]
    )


def _plain(value: Any) -> Any:
    if isinstance(value, Interval):
        return {"value": _plain(value.value), "low": _plain(value.low), "high": _plain(value.high)}
    if isinstance(value, float) and value in (float("inf"), -float("inf")):
        return "inf" if value > 0 else "-inf"
    return value


def _value(value: Any) -> Any:
    if isinstance(value, dict):
        return Interval(*(_value(value[part]) for part in ("value", "low", "high")))
    return float(value) if value in ("inf", "-inf") else value
