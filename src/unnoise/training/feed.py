"""Batches prepared ahead by worker processes; their content depends on seed and counter alone."""

from __future__ import annotations

import itertools
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.util import Finalize
from types import FrameType
from typing import Any

import torch

from ..data import Dataset
from ..data.on_device import OnDevice
from ..errors import DataError, UnnoiseError
from ..objectives import Batch


class Feed:
    """The parts of the training stream that one process takes: `size` samples every `stride`.

    workers: number of processes of torch's DataLoader that prepare parts ahead; with 0 each part is
    read when it is needed. The parts are the same.
    """

    def __init__(
        self,
        data: Dataset | OnDevice,
        seed: int,
        size: int,
        stride: int,
        workers: int = 0,
        pin: bool = False,
    ) -> None:
        self.source = _Source(data, seed, size)
        self.stride, self.workers, self.pin = stride, workers, pin
        self._ahead: Iterator[Any] | None = None
        self._next = -1
        self._end: Finalize | None = None

    def seek(self, counter: int) -> None:
        """Make ready for what follows from `counter` on."""
        if not self.workers or (self._ahead is not None and counter == self._next):
            return
        from torch.utils.data import DataLoader

        self.close()
        loader: Any = DataLoader(
            self.source,  # type: ignore[arg-type]  # it is asked for counters, without end
            batch_size=None,
            sampler=itertools.count(counter, self.stride),  # type: ignore[arg-type]
            num_workers=self.workers,
            collate_fn=_as_it_is,
            worker_init_fn=_quiet,
            pin_memory=self.pin,
            generator=torch.Generator(),  # or it would draw from the global one
        )
        self._ahead, self._next = iter(loader), counter
        # at exit multiprocessing asks workers to end by a signal, which these leave to the run
        self._end = Finalize(self, _shut, (self._ahead,), exitpriority=10)

    def take(self, counter: int, size: int) -> Batch:
        """Return the samples at counter … counter + size − 1."""
        if self._ahead is None or (counter, size) != (self._next, self.source.size):
            return self.source.make(counter, size)
        try:
            with worker_deaths():
                found = next(self._ahead)
        except (ConnectionError, EOFError, FileNotFoundError) as error:
            if str(error).startswith("Caught"):  # the worker lives: this is about its data
                raise
            raise _death(error) from error  # before it could hand over what it had made
        self._next += self.stride
        if isinstance(found, UnnoiseError):
            raise found
        return found

    def close(self) -> None:
        """End the workers."""
        if self._end is not None:
            self._end()
        self._ahead, self._next, self._end = None, -1, None


class _Source:
    """The training stream as a DataLoader's data set: an item is `size` samples from a counter."""

    def __init__(self, data: Dataset | OnDevice, seed: int, size: int) -> None:
        self.data, self.seed, self.size = data, seed, size

    def make(self, counter: int, size: int) -> Batch:
        return self.data.batch(self.data.order(self.seed, counter, size))

    def __getitem__(self, counter: int) -> Batch | UnnoiseError:
        try:
            return self.make(counter, self.size)
        except UnnoiseError as error:  # the DataLoader would wrap its message in a traceback
            return error


@contextmanager
def worker_deaths() -> Iterator[None]:
    """Raise DataError if a worker dies inside the context; torch reports it at any moment."""
    try:
        yield
    except RuntimeError as error:
        if "DataLoader worker" not in str(error):
            raise
        raise _death(error) from error


def _death(error: Exception) -> DataError:
    said = (str(error) or type(error).__name__).splitlines()[0]
    return DataError(
        f"a data worker has died ({said}); use fewer train.workers (0 needs none) or give them "
        "more memory, and go on with --resume"
    )


def _shut(ahead: Any) -> None:
    ahead._shutdown_workers()


def _as_it_is(found: Any) -> Any:
    return found


def _quiet(worker: int) -> None:
    """Leave signals that reach the whole group to the run, which ends its workers itself."""
    asked: list[int] = []

    def note(number: int, frame: FrameType | None) -> None:
        if asked:
            os._exit(0)
        asked.append(number)

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, note)
