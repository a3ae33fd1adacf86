"""Muon for matrices and for convolutions seen as matrices, in the precision of the weights."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

SMALL = 2**14  # numbers of a matrix below which equal shapes are worth stacking
WIDE = 2  # longer side over shorter one from which the Gram matrix is iterated instead


class Muon(torch.optim.Muon):
    """Muon (Jordan et al. 2024) on parameters of two or more dimensions, seen as (first, rest).

    B ← μB + (1 − μ)g, u = (1 − μ)g + μB, w ← (1 − rλ)w − r·√max(1, rows/columns)·O(u), where O
    is `orthogonal`. Options, state and rule are torch.optim.Muon's, whose O is computed in
    bfloat16 everywhere: here that is so on other devices than the CPU alone. Rounding of the
    gradient, such as by adding it up in another order, is then not turned into differences of
    10⁻²: two processes stay with one.

    A convolution (out, in, *kernel) is updated through a matrix (out, in·kernel) that shares its
    memory, so the parameters must be contiguous and must not be moved afterwards.

    Where it has an attribute `found_inf`, () on the device, of which the value is 1, a step changes
    neither matrices nor state, as with torch's fused optimizers under its GradScaler.
    """

    def __init__(self, params: Iterable[nn.Parameter], **options: Any) -> None:
        self.whole = list(params)
        self.matrices = [nn.Parameter(p.detach().view(len(p), -1)) for p in self.whole]
        super().__init__(self.matrices, **options)

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        """Update all matrices that have a gradient."""
        loss = closure() if closure is not None else None
        bad = getattr(self, "found_inf", None)  # 1 on the device: nothing is to be changed
        good = None if bad is None else bad == 0
        whole = dict(zip(map(id, self.matrices), self.whole, strict=True))
        for group in self.param_groups:
            found = [m for m in group["params"] if whole[id(m)].grad is not None]
            if not found:
                continue
            grads = [whole[id(m)].grad.reshape(m.shape) for m in found]  # type: ignore[union-attr]
            for m, g in zip(found, grads, strict=True):
                if "momentum_buffer" not in self.state[m]:
                    self.state[m]["momentum_buffer"] = torch.zeros_like(g)
            kept = [self.state[m]["momentum_buffer"] for m in found]
            momentum, rate = group["momentum"], group["lr"]
            decay: Any = 1 - rate * group["weight_decay"]
            if good is not None:  # an average of equal values is that value
                grads = [torch.where(good, g, b) for g, b in zip(grads, kept, strict=True)]
                decay = 1 - rate * group["weight_decay"] * good.double()
            torch._foreach_lerp_(kept, grads, 1 - momentum)
            wanted = torch._foreach_lerp(grads, kept, momentum) if group["nesterov"] else kept
            options = group["ns_coefficients"], group["ns_steps"], group["eps"]
            turned = _all_orthogonal(wanted, *options)
            if good is not None:
                turned = [torch.where(good, u, 0) for u in turned]
            for m, u in zip(found, turned, strict=True):
                m.mul_(decay)
                m.add_(u, alpha=-rate * _stretch(group["adjust_lr_fn"], m))
        return loss

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forget the gradients."""
        super().zero_grad(set_to_none)
        for p in self.whole:
            p.grad = None


def orthogonal(
    matrix: Float[Tensor, "*batch rows columns"],
    coefficients: Sequence[float] = (3.4445, -4.7750, 2.0315),
    steps: int = 5,
    eps: float = 1e-7,
) -> Float[Tensor, "*batch rows columns"]:
    """Return the matrix with all singular values near 1, by Newton–Schulz, in its own dtype.

    X ← X/‖X‖, then `steps` times X ← (a + bA + cA²)X with A = XXᵀ of the shorter side. If the
    matrix is much longer than wide, A ← PAP and the product of the P = a + bA + cA² are iterated
    instead, and X is multiplied once, since P commutes with A. A is computed from X again after at
    most three steps, because its small eigenvalues grow twelvefold a step: so their rounding stays
    that of the plain iteration.
    """
    upright = matrix.shape[-2] > matrix.shape[-1]
    x = matrix.mT if upright else matrix
    x = x / torch.linalg.matrix_norm(x, keepdim=True).clamp(min=eps)
    a, b, c = coefficients
    fused = torch.addmm if x.ndim == 2 else torch.baddbmm
    if x.shape[-1] >= WIDE * x.shape[-2]:
        for count in _parts(steps):
            gram, product = x @ x.mT, None
            for k in range(count):
                p = fused(gram, gram, gram, beta=b, alpha=c)
                p.diagonal(dim1=-2, dim2=-1).add_(a)
                product = p if product is None else p @ product
                gram = p @ (gram @ p) if k + 1 < count else gram
            if product is not None:
                x = product @ x
    else:
        for _ in range(steps):
            gram = x @ x.mT
            x = fused(x, fused(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x.mT if upright else x


def _parts(steps: int) -> list[int]:
    """Return `steps` as parts of at most three, the shorter ones first."""
    parts = max(1, math.ceil(steps / 3))
    return [(steps + k) // parts for k in range(parts)]


def _all_orthogonal(
    matrices: Sequence[Tensor], coefficients: Sequence[float], steps: int, eps: float
) -> list[Tensor]:
    """`orthogonal` of each, small ones of one shape together; bfloat16 away from the CPU."""
    out: list[Tensor] = [*matrices]
    alike: dict[tuple[int, ...], list[int]] = defaultdict(list)
    for i, matrix in enumerate(matrices):
        alike[tuple(matrix.shape) if matrix.numel() <= SMALL else (i,)].append(i)
    for places in alike.values():
        given = [matrices[i] for i in places]
        coarse = given[0].device.type != "cpu" and given[0].dtype == torch.float32
        if coarse:
            given = [matrix.bfloat16() for matrix in given]
        if len(given) == 1:
            found: Any = [orthogonal(given[0], coefficients, steps, eps)]
        else:
            found = orthogonal(torch.stack(given), coefficients, steps, eps).unbind()
        for i, matrix in zip(places, found, strict=True):
            out[i] = matrix.to(matrices[i].dtype)
    return out


def _stretch(rule: str | None, matrix: Tensor) -> float:
    rows, columns = matrix.shape
    if rule == "match_rms_adamw":
        return 0.2 * math.sqrt(max(rows, columns))
    return math.sqrt(max(1, rows / columns))
