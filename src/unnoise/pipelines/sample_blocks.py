"""Which blocks of samples are done: one small file that any number of processes share."""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType

import numpy as np

from ..errors import ArtifactError

_SIZE = 4  # bytes a block: 0 until its samples are on the disk, then 1 + the passes of a sample
_TAKEN = (errno.EACCES, errno.EAGAIN)


class Blocks:
    """The blocks of one output, claimed by locks on their bytes of the file, which the system
    gives back when a process ends, however it ends.

    Processes may join and leave at any time. Where the file system knows no locks a block may be
    drawn twice, to the same bytes.
    """

    def __init__(self, path: Path, count: int) -> None:
        self.path, self.count = path, count
        self.file = os.open(path, os.O_RDWR | getattr(os, "O_CLOEXEC", 0))
        size = os.fstat(self.file).st_size
        if size != _SIZE * count:
            os.close(self.file)
            raise ArtifactError(
                f"{path} is {size} bytes for {count} blocks; it is damaged: remove {path.parent} "
                "to start anew"
            )

    @staticmethod
    def create(path: Path, count: int) -> None:
        """A file that says that none is done."""
        with path.open("wb") as file:
            file.truncate(_SIZE * count)

    def read(self) -> np.ndarray:
        """(count,) uint32 as in the file."""
        pieces, at = [], 0
        while piece := os.pread(self.file, 1 << 24, at):
            pieces.append(piece)
            at += len(piece)
        return np.frombuffer(b"".join(pieces), "<u4")

    def missing(self) -> int:
        """How many are not done."""
        return self.count - int(np.count_nonzero(self.read()))

    def nfe(self) -> int:
        """The most network passes that a sample cost."""
        return int(self.read().max()) - 1

    def claims(self, start: int = 0) -> Iterator[int]:
        """Each block that is neither done nor another's, held until the next is asked for.

        start: where to begin, so that processes which start together do not meet. Goes round until
        no block can be had: those of a process that ends meanwhile are taken over.
        """
        while True:
            held = 0
            open_ = np.flatnonzero(self.read() == 0)
            for block in map(int, np.roll(open_, -int(np.searchsorted(open_, start)))):
                if not self._lock(block):
                    continue
                try:
                    if not self.done(block):
                        held += 1
                        yield block
                finally:
                    fcntl.lockf(self.file, fcntl.LOCK_UN, _SIZE, _SIZE * block)
            if not held:
                return

    def done(self, block: int) -> bool:
        """Whether a block is done."""
        return any(os.pread(self.file, _SIZE, _SIZE * block))

    def mark(self, block: int, nfe: int) -> None:
        """Note that a block's samples are on the disk."""
        os.pwrite(self.file, (nfe + 1).to_bytes(_SIZE, "little"), _SIZE * block)

    def _lock(self, block: int) -> bool:
        try:
            fcntl.lockf(self.file, fcntl.LOCK_EX | fcntl.LOCK_NB, _SIZE, _SIZE * block)
        except OSError as error:
            return error.errno not in _TAKEN
        return True

    def __enter__(self) -> Blocks:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        os.close(self.file)
