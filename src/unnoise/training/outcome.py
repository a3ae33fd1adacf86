"""The numbers of an update: computed on its device, sent to the host."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ..data import Dataset
from .guard import Fault
from .loss_scale import Kind


class Outcome:
    """The numbers by which an update is judged, and the fault that was found.

    loss, norm: () mean loss, and norm of the gradient before clipping. per_sample, t: (batch,) each
    sample's loss and time. step: the update's number; seen: the samples before it. named: the
    parameters with their names, whose gradients are still there. fault: what was wrong with it,
    None until the update is judged and where nothing was.

    With `deferred` nothing waits for the device: the numbers are sent to the host behind the work
    that makes them, `bad` stays on the device, and `receive` is called when more work is queued.
    """

    def __init__(
        self,
        step: int,
        seen: int,
        per_sample: Tensor,
        t: Tensor,
        norm: Tensor,
        named: Sequence[tuple[str, nn.Parameter]],
        deferred: bool,
    ) -> None:
        self.step, self.seen = step, seen
        self.per_sample, self.t, self.norm = per_sample.detach(), t, norm
        self.loss = self.per_sample.mean()
        self.judged = False
        self.fault: Fault | None = None
        found = [(name, p.grad) for name, p in named if p.grad is not None and p.grad.numel()]
        self._names = [name for name, _ in found]
        self._grads = [grad for _, grad in found]
        self._sizes = torch.zeros(0)
        self._sent: _Sent | None = None
        if deferred:
            parts = [self.loss, norm, per_sample, t, self._largest()]
            self._sent, self._grads = _Sent(parts), []

    @property
    def bad(self) -> Tensor:
        """1 where the guard will find the loss or the gradient not finite, else 0: (), float32."""
        both = torch.stack([self.loss.detach().float(), self.norm.detach().float()])
        return (~torch.isfinite(both).all()).float()

    def receive(self) -> None:
        """Wait for the numbers and hold them on the host from here on."""
        if self._sent is not None:
            self.loss, self.norm, self.per_sample, self.t, self._sizes = self._sent.received()
            self._sent = None

    def record(self, kind: Kind | None, data: Dataset, seed: int) -> Fault | None:
        """Record the kind of fault that the guard found, and return where it is."""
        if kind == "gradient":
            tensor, every = self._bad_gradient()
            self.fault = Fault(self.step, kind, tensor=tensor, every=every)
        elif kind == "loss" and (bad := self._bad_rows()):
            row = int(data.order(seed, self.seen + bad[0], 1)[0])
            every = len(bad) == len(self.per_sample)
            self.fault = Fault(self.step, kind, row, float(self.t[bad[0]]), every)
        elif kind is not None:  # of a loss: all finite, and too large to be added up
            self.fault = Fault(self.step, kind)
        self.judged, self._grads = True, []
        return self.fault

    def _bad_rows(self) -> list[int]:
        """Return the indices in the batch of the samples whose loss is not finite."""
        return (~torch.isfinite(self.per_sample)).nonzero().flatten().tolist()

    def _bad_gradient(self) -> tuple[str | None, bool]:
        """Return (name, False) of the first parameter whose gradient is not finite.

        If all gradients are finite and only their norm is not, return (name, True) of the parameter
        with the largest gradient.
        """
        sizes = self._largest() if self._grads else self._sizes
        for name, wrong in zip(self._names, (~torch.isfinite(sizes)).tolist(), strict=True):
            if wrong:
                return name, False
        return (self._names[int(sizes.argmax())] if self._names else None), True

    def _largest(self) -> Tensor:
        """Return the largest magnitude in each gradient."""
        if not self._grads:
            return torch.zeros(0, device=self.loss.device)
        return torch.stack(torch._foreach_norm(self._grads, float("inf")))


class _Sent:
    """Tensors on their way to the host as one, through pinned memory."""

    def __init__(self, parts: Sequence[Tensor]) -> None:
        self.kinds = [(part.shape, part.dtype) for part in parts]
        flat = torch.cat([part.detach().reshape(-1).double() for part in parts])
        self.flat = flat.to("cpu", non_blocking=True)  # to pinned memory
        self.event = None
        if flat.is_cuda:
            self.event = torch.cuda.Event()
            self.event.record(torch.cuda.current_stream(flat.device))

    def received(self) -> list[Tensor]:
        if self.event is not None:
            self.event.synchronize()
        pieces = self.flat.split([shape.numel() for shape, _ in self.kinds])
        return [
            piece.to(dtype).reshape(shape)
            for piece, (shape, dtype) in zip(pieces, self.kinds, strict=True)
        ]
