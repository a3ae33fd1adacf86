"""The processes that train one model: which one writes, and what all of them must agree on."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from torch import Tensor, nn

from ..errors import DataError, Unsupported

if TYPE_CHECKING:
    from accelerate import Accelerator

T = TypeVar("T")


def find_processes() -> Accelerator:
    """Return the device and the processes that a launcher has set up; one process without it."""
    from accelerate import Accelerator

    return Accelerator(cpu=not torch.cuda.is_available())


class Processes:
    """One process, or the k that `accelerate launch` or `torchrun` started (Accelerate finds them).

    Every method is called by all processes at the same place, and returns the same on each. Where
    another process has ended meanwhile the methods raise Unsupported.
    """

    def __init__(self, accelerator: Accelerator) -> None:
        self.rank, self.count = accelerator.process_index, accelerator.num_processes
        self.device = accelerator.device

    @property
    def first(self) -> bool:
        """Whether this is the process that writes: rank 0."""
        return self.rank == 0

    def sum(self, numbers: Tensor) -> Tensor:
        """Sum over the processes, in place."""
        if self.count > 1:
            with self._alive():
                torch.distributed.all_reduce(numbers)
        return numbers

    def sum_gradients(self, parameters: Sequence[nn.Parameter], failed: bool = False) -> bool:
        """Sum the gradients by one reduction of one flat buffer; return whether any process
        `failed` to make its own, and then leave the gradients as they are.

        A parameter without a gradient on any process is left without one.
        """
        if self.count == 1 or not parameters:
            return failed
        dtype = torch.float64 if parameters[0].dtype == torch.float64 else torch.float32
        has = torch.tensor([*(p.grad is not None for p in parameters), failed])
        pieces = [
            torch.zeros_like(p, dtype=dtype) if p.grad is None else p.grad.to(dtype)
            for p in parameters
        ]
        flat = torch.cat([*(g.reshape(-1) for g in pieces), has.to(self.device, dtype)])
        self.sum(flat)
        *sums, had = flat.split([*(p.numel() for p in parameters), len(has)])
        *any_had, any_failed = had.tolist()
        if any_failed:
            return True
        for p, total, one_had in zip(parameters, sums, any_had, strict=True):
            if one_had:
                p.grad = total.view_as(p).to(p.dtype)
        return False

    def gather(self, rows: Sequence[Tensor]) -> list[Tensor]:
        """Return the whole batch, (batch,) each, from every process's parts of it, in order.

        rows: one (accumulate, part) for every kind of number; part k of rank r stands at
        k·count + r.
        """
        if self.count == 1:
            return [row.flatten() for row in rows]
        spread = torch.zeros(
            len(rows), rows[0].shape[0], self.count, rows[0].shape[1],
            dtype=torch.float64, device=self.device,
        )  # fmt: skip
        for one, row in zip(spread, rows, strict=True):
            one[:, self.rank] = row
        self.sum(spread)
        return [one.flatten().to(row.dtype) for one, row in zip(spread, rows, strict=True)]

    def any(self, *flags: bool) -> list[bool]:
        """Return, for each flag, whether it is set on any process."""
        if self.count == 1:
            return list(flags)
        counts = self.sum(torch.tensor(flags, dtype=torch.float32, device=self.device))
        return [count > 0 for count in counts.tolist()]

    def broadcast(self, number: float) -> float:
        """Return rank 0's number, exactly."""
        if self.count == 1:
            return number
        mine = number if self.first else 0.0
        return float(self.sum(torch.tensor(mine, dtype=torch.float64, device=self.device)))

    def on_rank_zero(self, work: Callable[[], T]) -> T:
        """Return on every process what `work` returns on rank 0; raise its error on all of them."""
        if self.count == 1:
            return work()
        found: list[Any] = [None, None]
        if self.first:
            try:
                found[0] = work()
            except Exception as error:
                found[1] = error
        with self._alive():
            torch.distributed.broadcast_object_list(found, 0)
        if found[1] is not None:
            raise found[1]
        return found[0]

    def require_equal(self, what: str, value: str) -> None:
        """Raise DataError unless all processes have the same value."""
        if self.count == 1:
            return
        values: list[Any] = [None] * self.count
        with self._alive():
            torch.distributed.all_gather_object(values, value)
        for rank, other in enumerate(values):
            if other != values[0]:
                raise DataError(
                    f"process {rank} has another {what} than process 0: {other[:200]} against "
                    f"{values[0][:200]}; start all processes with the same command on the same data"
                )

    def close(self) -> None:
        """Wait for all and end the group, if there is one."""
        if self.count > 1 and torch.distributed.is_initialized():
            with self._alive():
                torch.distributed.barrier()
            torch.distributed.destroy_process_group()

    @contextmanager
    def _alive(self) -> Iterator[None]:
        try:
            yield
        except RuntimeError as error:
            raise Unsupported(
                f"process {self.rank} of {self.count} cannot reach the others: one of them has "
                "ended, and says why; what was saved is sound: start all again with --resume"
            ) from error
