"""The migration of metric cards of older formats to the present one."""

from __future__ import annotations

from typing import Any

from ..errors import DataError


def migrated(raw: Any, newest: int) -> Any:
    """Return a card's JSON in the newest format; fields that an older format lacks are None.

    Raises DataError unless `raw` is an object with a format between 1 and `newest`.
    """
    if not isinstance(raw, dict):
        raise DataError(f"a metric card is {type(raw).__name__}; it must be an object")
    found = raw.get("format")
    if isinstance(found, bool) or not isinstance(found, int) or not 1 <= found <= newest:
        known = f"this release reads formats 1 to {newest}"
        newer = isinstance(found, int) and found > newest
        remedy = "upgrade unnoise" if newer else "evaluate again"
        raise DataError(f"a metric card of format {found!r}; {known}: {remedy}")
    while raw["format"] < newest:
        raw = _STEPS[raw["format"]](raw)
    return raw


def _from_1(raw: dict[str, Any]) -> dict[str, Any]:
    """Return format 2: with errors, sliced distance, extent of the search, noise levels, path."""
    raw = dict(raw)
    for key in ("directions", "searched", "train_values", "levels"):
        raw.setdefault(key, None)
    if isinstance(raw.get("metrics"), dict):
        raw["metrics"] = {
            name: {**metric, "error": None} if isinstance(metric, dict) else metric
            for name, metric in raw["metrics"].items()
        }
    if isinstance(raw.get("provenance"), dict):
        raw["provenance"] = {"path": None, **raw["provenance"]}
    return raw | {"format": 2}


def _from_2(raw: dict[str, Any]) -> dict[str, Any]:
    """Return format 3: with the settings of the learned two-sample test."""
    return {"judge": None, **raw, "format": 3}


_STEPS = {1: _from_1, 2: _from_2}
