"""Signals that ask a run to stop: it finishes its update, saves, and goes."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

AGAIN = 1.0  # seconds after which a second signal is meant; launchers pass the first one on twice


@contextmanager
def stoppable() -> Iterator[Callable[[], bool]]:
    """Inside, SIGINT and SIGTERM set a flag, which what is given reads; a second one, a second or
    more later, ends the process at once."""
    asked: list[float] = []

    def note(number: int, frame: FrameType | None) -> None:
        if asked and time.monotonic() - asked[0] > AGAIN:
            raise KeyboardInterrupt
        asked.append(time.monotonic())

    try:
        before = {s: signal.signal(s, note) for s in (signal.SIGINT, signal.SIGTERM)}
    except ValueError:  # not the main thread: the caller's handlers stay
        before = {}
    try:
        yield lambda: bool(asked)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
