"""Processes that this one starts to draw blocks beside it."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Callable
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path

import torch

from ..errors import UnnoiseError
from .sample_state import Asked

_LOOK = 0.2  # seconds between looks at helpers that still work


class Helpers:
    """Helpers of one output; none until `start`. notes: how those ended that failed."""

    def __init__(self, folder: Path, out: Path, asked: Asked, device: str, threads: int) -> None:
        self.arguments = (folder, out, asked, device, threads)
        self.notes: list[str] = []
        self._running: list[tuple[BaseProcess, Connection]] = []
        self.count = 0

    def start(self, count: int) -> None:
        """Start so many."""
        context = multiprocessing.get_context("spawn")
        self.count = max(count, 0)
        for rank in range(1, self.count + 1):
            here, there = context.Pipe(duplex=False)
            process = context.Process(
                target=_help,
                args=(rank, self.count + 1, os.getpid(), there, *self.arguments),
                daemon=True,
            )
            process.start()
            there.close()
            self._running.append((process, here))

    def look(self) -> None:
        """Note which have ended, and how."""
        for process, said in list(self._running):
            if process.exitcode is None:
                continue
            self._running.remove((process, said))
            words = None
            if said.poll():
                try:
                    words = str(said.recv())
                except EOFError:
                    words = None
            said.close()
            if process.exitcode or words:
                how = words or f"it ended with {process.exitcode}"
                self.notes.append(f"a helping process failed, and the others did its share: {how}")

    def join(self, told: Callable[[], None]) -> None:
        """Wait for all to end, calling `told` from time to time."""
        while self._running:
            self._running[0][0].join(_LOOK)
            self.look()
            told()

    def stop(self) -> None:
        """End those that still run."""
        for process, _ in self._running:
            process.terminate()
        for process, said in self._running:
            process.join()
            said.close()
        self._running.clear()


def _help(
    rank: int,
    count: int,
    parent: int,
    say: Connection,
    folder: Path,
    out: Path,
    asked: Asked,
    device: str,
    threads: int,
) -> None:
    from .sample_many import output_for, work
    from .sample_state import underway

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the one that started this says when to stop
    torch.set_num_threads(threads)
    try:
        if device == "auto" and torch.cuda.is_available():
            device = f"cuda:{rank % torch.cuda.device_count()}"
        output, drawn = output_for(folder, out, asked, device)
        if underway(output, drawn):
            work(output, rank, count, alive=lambda: os.getppid() == parent)
    except (UnnoiseError, OSError) as error:
        say.send(str(error))
