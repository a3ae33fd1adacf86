"""Bytes that torch holds at the worst moment of a call, counted, not sampled.

Every allocation and release of torch's CPU allocator is an event of its profiler, inside operations
and compiled code too; the sum of them at its highest is the same in every run.
"""

from __future__ import annotations

import os
from collections.abc import Callable

os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # the profiler's own lines

from torch.profiler import ProfilerActivity, profile


def peak_bytes(run: Callable[[], object]) -> int:
    """Return the most bytes allocated during `run()` above those allocated before it."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as record:
        answer = run()
        del answer
    events = [e for e in record.profiler.kineto_results.events() if e.name() == "[memory]"]
    events.sort(key=lambda event: event.start_ns())
    held = most = 0
    for event in events:
        held += event.nbytes()
        most = max(most, held)
    return most
