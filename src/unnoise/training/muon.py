"""Muon for matrices and for convolutions seen as matrices."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import nn


class Muon(torch.optim.Muon):
    """torch.optim.Muon on parameters of two or more dimensions, each seen as (first, rest).

    A convolution (out, in, *kernel) is updated through a matrix (out, in·kernel) that shares its
    memory, so the parameters must be contiguous and must not be moved afterwards.
    """

    def __init__(self, params: Iterable[nn.Parameter], **options: Any) -> None:
        self.whole = list(params)
        self.matrices = [nn.Parameter(p.detach().view(len(p), -1)) for p in self.whole]
        super().__init__(self.matrices, **options)

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        for p, matrix in zip(self.whole, self.matrices, strict=True):
            matrix.grad = None if p.grad is None else p.grad.reshape(matrix.shape)
        return super().step(closure)

    def zero_grad(self, set_to_none: bool = True) -> None:
        super().zero_grad(set_to_none)
        for p in self.whole:
            p.grad = None
