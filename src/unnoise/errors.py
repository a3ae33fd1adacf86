"""The exception family: every message names the value, the allowed ones and the remedy."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from difflib import get_close_matches

LONGEST = 6000  # characters of a message: quoted values may be of any length


class UnnoiseError(Exception):
    """Base of every error that unnoise raises on purpose; a long message loses its middle."""

    def __init__(self, *args: object) -> None:
        super().__init__(*(shorten(a, LONGEST) if isinstance(a, str) else a for a in args))


def shorten(text: str, most: int = 120) -> str:
    """Return a text of at most `most` characters; the middle of a longer one is left out."""
    head = most * 2 // 3
    return text if len(text) <= most else f"{text[:head]} … {text[len(text) + 3 + head - most :]}"


class InvalidArgument(UnnoiseError, ValueError):
    """A value that is out of its range or of the wrong kind."""


class Unsupported(UnnoiseError, ValueError):
    """A combination that cannot work, refused where it is built."""


class DataError(UnnoiseError, ValueError):
    """Data that is missing, damaged or not what was declared."""


class ArtifactError(UnnoiseError, ValueError):
    """A trained model on disk that is missing, damaged or not readable here."""


class RecipeError(UnnoiseError, ValueError):
    """A recipe or an override that cannot be understood."""


class OutOfMemory(UnnoiseError, MemoryError):
    """Work that does not fit into memory, in however small parts it is done."""


class NonFinite(UnnoiseError, ArithmeticError):
    """A computation whose numbers are not finite; the message names step, time and sample."""


def nearest(name: str, allowed: Iterable[str]) -> str | None:
    """Return the known name closest to `name`, or None if none is similar."""
    if len(str(name)) > 200:
        return None
    close = get_close_matches(str(name), [str(a) for a in allowed], n=1, cutoff=0.5)
    return close[0] if close else None


def unknown(
    kind: str, name: object, allowed: Iterable[str], error: type[UnnoiseError] = InvalidArgument
) -> UnnoiseError:
    """Return the error for a name outside a closed set, with the nearest known name."""
    allowed = sorted(str(a) for a in allowed)
    guess = nearest(str(name), allowed)
    hint = f"; did you mean {guess!r}?" if guess else ";"
    return error(f"unknown {kind} {shorten(repr(name))}{hint} known: {', '.join(allowed)}")


def need_known(kind: str, name: object, allowed: Collection[str]) -> None:
    """Raise InvalidArgument, with the nearest known name, unless `name` is in a closed set."""
    if name not in allowed:
        raise unknown(kind, name, allowed)


def need_count(name: str, value: object, least: int = 1) -> int:
    """Return `value` as an int; raise InvalidArgument unless it is a whole number ≥ `least`."""
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise InvalidArgument(f"{name} is {value!r}; give a whole number that is at least {least}")
    return value
