"""Processes forked from a warm one, and a killer that ends them at a chosen file operation."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import sys
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

SAVING = {"open", "os.rename", "os.remove", "os.rmdir", "os.mkdir", "os.truncate"}


class Killer:
    """A counter of file operations that kills this process before the `at`th.

    Install it in a child.

    A file operation changes a folder (Python's own audit events) or requests a sync. With `torn`
    only syncs count, and the file loses the part that was not yet synced: all of it from a random
    place on. at None counts only. With `error` that is raised instead, once.
    """

    def __init__(
        self,
        at: int | None = None,
        torn: random.Random | None = None,
        error: OSError | None = None,
    ) -> None:
        self.at, self.torn, self.error, self.count, self.armed = at, torn, error, 0, False
        sync = os.fsync

        def fsync(handle: int) -> None:
            if self.armed:
                self.next(handle)
            sync(handle)

        os.fsync = fsync  # type: ignore[assignment]
        if torn is None:
            sys.addaudithook(self.see)

    def see(self, event: str, arguments: tuple[Any, ...]) -> None:
        if not self.armed or event not in SAVING:
            return
        if event == "open" and not arguments[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
            return
        self.next()

    def next(self, handle: int | None = None) -> None:
        """Count one more operation, and kill if it is the chosen one."""
        self.count += 1
        if self.count - 1 == self.at:
            if self.error is not None:
                raise self.error
            if self.torn is not None and handle is not None:
                with contextlib.suppress(OSError):  # a folder
                    os.ftruncate(handle, self.torn.randrange(os.fstat(handle).st_size + 1))
            os.kill(os.getpid(), signal.SIGKILL)


@dataclass
class Child:
    """A process forked from this one, and the lines that it sends."""

    pid: int
    words: int

    def end(self) -> tuple[int, list[str]]:
        """Wait, and return (exit code, or minus the signal that ended it, its lines)."""
        _, status = os.waitpid(self.pid, 0)
        said = b""
        while piece := os.read(self.words, 1 << 16):
            said += piece
        os.close(self.words)
        return os.waitstatus_to_exitcode(status), said.decode().splitlines()


def fork(work: Callable[[Callable[[str], None]], None], errors: Path) -> Child:
    """Start `work(say)` in a child; its standard error goes to a file."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid:
        os.close(writing)
        return Child(pid, reading)
    code = 1
    try:
        os.close(reading)
        os.dup2(os.open(errors, os.O_WRONLY | os.O_CREAT | os.O_APPEND), 2)
        work(lambda word: os.write(writing, f"{word}\n".encode()) and None)
        code = 0
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(code)
