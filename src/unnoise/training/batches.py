"""The batch of an update: its ramp, and the parts that fit into memory."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from ..errors import DataError, OutOfMemory
from ..recipes.train_section import TrainConfig

_SAID = ("can't allocate memory", "not enough memory", "out of memory", "std::bad_alloc")


def batch_at(progress: float, config: TrainConfig) -> int:
    """Return the number of samples of the update that begins at a share `progress` of the run.

    With a ramp of n doublings this is first·2ᵏ in the kth of n stages of length over/n, and the
    whole batch after them.
    """
    ramp = config.ramp
    if ramp is None or progress >= ramp.over:
        return config.batch
    doublings = (config.batch // ramp.first).bit_length() - 1
    return ramp.first << min(doublings - 1, int(doublings * progress / ramp.over))


def rate_of(batch: int, config: TrainConfig) -> float:
    """Return the factor of the learning rate at a batch: 1, √(batch/whole) or batch/whole."""
    if config.ramp is None:
        return 1.0
    power = {"constant": 0.0, "sqrt": 0.5, "linear": 1.0}[config.ramp.rate]
    return (batch / config.batch) ** power


class Parts:
    """The equal parts of each process's share of a batch: at least `accumulate` of them.

    most: the largest part that fits into memory, or None if no part has failed. Raises DataError
    if the first or the whole batch is not a multiple of accumulate × processes.
    """

    def __init__(self, config: TrainConfig, processes: int) -> None:
        self.accumulate, self.processes = config.accumulate, processes
        self.most: int | None = None
        self.whole, self.first = config.batch, batch_at(0.0, config)
        for batch in {self.whole, self.first}:
            if batch % (self.accumulate * processes):
                raise DataError(
                    f"a batch of {batch} cannot be split into {self.accumulate} accumulated parts "
                    f"on {processes} process(es); make it a multiple of "
                    f"{self.accumulate * processes}"
                )

    def split(self, batch: int) -> tuple[int, int]:
        """Return (number of parts, samples in each) of one process."""
        share = batch // self.processes
        parts = self.accumulate
        while share % parts or (self.most is not None and share // parts > self.most):
            parts += 1
        return parts, share // parts

    def shrink(self, batch: int) -> str:
        """Halve the largest part allowed, and return a note of the new parts.

        Raises OutOfMemory if a part has one sample already.
        """
        before, size = self.split(batch)
        if size == 1:
            raise OutOfMemory(
                "one sample does not fit into memory with what training holds beside it; take a "
                "smaller network (network.widths, network.blocks), smaller data, or "
                "train.recompute=true, or free memory"
            )
        self.most = size // 2
        parts, now = self.split(batch)
        again = self.split(self.whole)[0]
        hint = "" if self.first % again else f" (train.accumulate={again} starts with that)"
        return (
            f"{size} samples at once do not fit into memory: from here on {now}, in {parts} "
            f"parts where there were {before}, so that the batch stays {batch}{hint}"
        )

    def load(self, most: object) -> None:
        """Restore `most` of a saved state, or keep the present value if it is smaller."""
        if isinstance(most, int) and most >= 1:
            self.most = most if self.most is None else min(most, self.most)


@contextmanager
def memory_named() -> Iterator[None]:
    """Raise OutOfMemory in place of any error of an allocator inside the context."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if isinstance(error, OutOfMemory) or not out_of_memory(error):
            raise
        raise OutOfMemory(
            f"memory is not enough for the optimizer and the averages ({error!s:.200}); take a "
            "smaller network (network.widths, network.blocks), or free memory and go on with "
            "--resume: what was saved is sound"
        ) from error


def out_of_memory(error: BaseException) -> bool:
    """Return whether an error means out of memory, for any allocator that torch uses."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and any(said in str(error).lower() for said in _SAID)
