"""Second derivatives of a log-density, from its score: vᵀ·∂s/∂x·v, differentiable in parameters."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from ..likelihood.divergence import basis

Score = Callable[[Tensor], Tensor]


def curvatures(score: Score, x: Tensor, directions: Tensor) -> tuple[Tensor, Tensor]:
    """Return s(x), (batch, *event), and vᵀ·∂s/∂x·v for each v of `directions`, (k, batch).

    x: (batch, *event); directions: (k, batch, *event). Each sample's score depends on that sample
    alone. Reverse mode, all directions at once: if gradients are on, both results can be
    differentiated again. (Through forward mode torch's layer_norm gives wrong gradients then.)
    """
    keep = torch.is_grad_enabled()
    with torch.enable_grad():
        at = x if x.requires_grad else x.detach().requires_grad_()
        value = score(at)
        turned = torch.autograd.grad(
            value, at, directions, create_graph=keep, is_grads_batched=True
        )[0]
    parts = (turned * directions).flatten(2).sum(2)
    return (value, parts) if keep else (value.detach(), parts.detach())


def unit_directions(x: Tensor) -> Tensor:
    """Return every direction of the event once: (size of the event, batch, *event)."""
    return basis(x)[:, None].expand(-1, *x.shape)
