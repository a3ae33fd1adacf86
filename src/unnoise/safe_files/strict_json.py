"""JSON with one meaning: no double keys, no NaN, no numbers beyond 64 bits."""

from __future__ import annotations

import json
import math
from typing import Any, NoReturn

from ..errors import DataError


def strict_json(text: str, what: str) -> Any:
    """Return the value of a JSON text.

    Raises DataError, which names `what`, for keys given twice, NaN, numbers beyond 64 bits and
    half characters.
    """

    def pairs(items: list[tuple[str, Any]]) -> dict[str, Any]:
        out: dict[str, Any] = {}
        for key, value in items:
            if key in out:
                raise ValueError(f"the key {key!r} is given twice")
            out[key] = value
        return out

    def constant(word: str) -> NoReturn:
        raise ValueError(f"{word} is not a JSON number")

    def real(word: str) -> float:
        return value if math.isfinite(value := float(word)) else constant(word[:40])

    def whole(word: str) -> int:
        if len(word) > 20 or not -(2**63) <= (value := int(word)) < 2**64:
            raise ValueError(f"{word[:40]} does not fit 64 bits")
        return value

    try:
        tree = json.loads(
            text,
            object_pairs_hook=pairs,
            parse_constant=constant,
            parse_float=real,
            parse_int=whole,
        )
        if "\\ud" in text.lower():  # one half of a pair of surrogates can be written nowhere
            json.dumps(tree, ensure_ascii=False).encode()
        return tree
    except (ValueError, RecursionError) as error:
        raise DataError(f"{what} is not sound JSON: {error}") from error
