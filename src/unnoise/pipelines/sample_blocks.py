"""The blocks of a sampling job that are done: one atomically renamed file each."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
from filelock import FileLock, Timeout

from ..errors import ArtifactError
from ..safe_files.files import write_bytes


class Blocks:
    """The blocks of one job in a folder that any number of processes share.

    A block that is done is a file INDEX-NFE, which holds its content until that is in the array;
    one that is being drawn is locked by its file INDEX.lock, and the system releases the lock when
    the process ends, however it ends. Processes may join and leave at any time. Where the file
    system has no locks a block may be drawn twice, to the same bytes.
    """

    def __init__(self, folder: Path, count: int) -> None:
        self.folder, self.count = folder, count

    def done(self) -> dict[int, int]:
        """Return the network evaluations a sample of each block that is done. Raises
        FileNotFoundError where the job is finished and its folder gone."""
        found = {}
        for path in self.folder.iterdir():
            index, dash, nfe = path.name.partition("-")
            if dash and index.isdecimal() and nfe.isdecimal():
                found[int(index)] = int(nfe)
        if any(index >= self.count for index in found):
            raise ArtifactError(
                f"{self.folder} holds block {max(found)} of {self.count}; it is damaged: remove "
                f"{self.folder.parent} to start anew"
            )
        return found

    def path(self, index: int, nfe: int) -> Path:
        return self.folder / f"{index:08d}-{nfe}"

    def mark(self, index: int, nfe: int, content: bytes) -> None:
        """Write a block that is done, whole or not at all."""
        try:
            write_bytes(self.path(index, nfe), content)
        except ArtifactError as error:
            raise ArtifactError(
                f"{error}; what is done stays: make room, and go on with the same command"
            ) from error

    def claims(self, start: int = 0) -> Iterator[int]:
        """Yield each block that is neither done nor another process's, locked while it is drawn.

        start: the first to try, so that processes which start together take different ones. Goes
        round until no block can be had: those of a process that ends meanwhile are taken over.
        """
        claimed = True
        while claimed:
            claimed = False
            missing = np.ones(self.count, bool)
            missing[list(self.done())] = False
            order = np.flatnonzero(missing)
            for index in map(int, np.roll(order, -int(np.searchsorted(order, start)))):
                with self._locked(index) as mine:
                    if mine and not any(self.folder.glob(f"{index:08d}-*")):
                        claimed = True
                        yield index

    @contextmanager
    def _locked(self, index: int) -> Iterator[bool]:
        lock = FileLock(self.folder / f"{index:08d}.lock", blocking=False)
        try:
            lock.acquire()
        except Timeout:
            yield False
            return
        except NotImplementedError:  # no locks there
            yield True
            return
        except OSError:
            if self.folder.is_dir():
                raise
            yield False  # another process has just finished the job
            return
        try:
            yield True
        finally:
            lock.release()
            with suppress(OSError):
                Path(lock.lock_file).unlink()
            with suppress(OSError):  # of a job that was finished meanwhile the lock made it anew
                self.folder.rmdir()
                self.folder.parent.rmdir()
