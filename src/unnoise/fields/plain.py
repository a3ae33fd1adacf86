"""A test for tensors whose values may be read and cached."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.autograd import forward_ad


def plain(tensor: Tensor) -> bool:
    """Return True if the tensor is on the CPU and carries no gradient, tangent or vmap.

    Its values then may be read without waiting for a device, and cached.
    """
    return (
        tensor.device.type == "cpu"
        and type(tensor) is Tensor
        and not tensor.requires_grad
        and not torch._C._functorch.is_functorch_wrapped_tensor(tensor)
        and not torch._C._functorch.is_legacy_batchedtensor(tensor)
        and (forward_ad._current_level < 0 or forward_ad.unpack_dual(tensor).tangent is None)
    )
