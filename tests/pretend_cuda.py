"""A GPU that is none: tensors that report the device cuda:0 and hold their numbers on the CPU.

Everything that a program may get wrong about a device goes wrong here too: operands on two devices,
results that are read without being fetched, tensors made on the wrong side. What is compiled for
the device (kernels, memory, streams) is not imitated; autocast is off.
"""

from __future__ import annotations

import contextlib
import importlib
from types import SimpleNamespace
from typing import Any

import torch
from torch.utils import _foreach_utils
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_map_only, tree_unflatten

CUDA = torch.device("cuda", 0)
# an index may lie on the CPU where the values do not; these copy from one device to another
MIXED = {"index", "index_put_", "index_put", "_index_put_impl_", "copy_", "_to_copy", "set_"}


class OnDevice(torch.Tensor):
    """A tensor whose numbers are `elem`, on the CPU, and whose device is cuda:0."""

    elem: torch.Tensor

    @staticmethod
    def __new__(cls, elem: torch.Tensor) -> OnDevice:
        made = torch.Tensor._make_wrapper_subclass(
            cls, elem.size(), elem.stride(), elem.storage_offset(), None, elem.dtype, elem.layout,
            torch.device("meta"),
        )  # fmt: skip
        made.elem = elem
        return made

    @property
    def device(self) -> torch.device:
        return CUDA

    @property
    def is_cuda(self) -> bool:
        return True

    @property
    def is_meta(self) -> bool:
        return False

    def numpy(self, **options: Any) -> Any:
        raise TypeError("can't convert cuda:0 device type tensor to numpy")

    def tolist(self) -> Any:
        return self.cpu().tolist()

    def pin_memory(self, *given: Any) -> Any:
        raise RuntimeError("cannot pin 'torch.cuda.FloatTensor' only dense CPU tensors can be")

    def __repr__(self, **options: Any) -> str:
        return f"OnDevice({self.elem!r})"

    @classmethod
    def __torch_dispatch__(cls, function, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        return dispatched(function, args, kwargs or {})


def dispatched(function: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    """One operation, on the numbers: its results are on the device where its operands are."""
    name = function.overloadpacket.__name__
    leaves, form = tree_flatten((args, kwargs))
    there = [leaf for leaf in leaves if isinstance(leaf, OnDevice)]
    asked = kwargs.get("device")
    if there and name not in MIXED:
        here = [x for x in leaves if isinstance(x, torch.Tensor) and not isinstance(x, OnDevice)]
        if any(x.ndim for x in here):
            raise RuntimeError(f"{name}: tensors on cuda:0 and cpu in one operation")
    plain = [leaf.elem if isinstance(leaf, OnDevice) else leaf for leaf in leaves]
    args, kwargs = tree_unflatten(plain, form)
    wanted = CUDA if there else None
    if asked is not None and torch.device(asked).type != "meta":  # meta: as torch's C++ sees it
        wanted = torch.device(asked)
    elif asked is not None:
        wanted = CUDA
    if asked is not None:
        kwargs["device"] = torch.device("cpu")
    if name == "_to_copy":
        kwargs.pop("non_blocking", None)
    out = function(*args, **kwargs)
    if name == "copy_" and not isinstance(leaves[0], OnDevice):
        return leaves[0]
    if wanted is None or wanted.type != "cuda":
        return out
    known = {id(leaf.elem): leaf for leaf in there}
    return tree_map_only(
        torch.Tensor, lambda x: known[id(x)] if id(x) in known else OnDevice(x), out
    )


class _Mode(TorchDispatchMode):
    def __torch_dispatch__(self, function, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        return dispatched(function, args, kwargs or {})


@contextlib.contextmanager
def pretended(monkeypatch: Any) -> Any:
    """Inside, torch finds one GPU; yields its device."""
    kinds = lambda: ["cpu", "cuda", "meta"]  # noqa: E731
    module = importlib.import_module("torch.optim.optimizer")
    monkeypatch.setattr(module, "_get_fused_kernels_supported_devices", kinds)
    monkeypatch.setattr(_foreach_utils, "_get_foreach_kernels_supported_devices", kinds)
    monkeypatch.setattr(torch.cuda, "_lazy_init", lambda: None)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda *given, **options: True)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device=None: (2**40, 2**40))
    monkeypatch.setattr(torch.cuda, "synchronize", lambda device=None: None)
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: None)
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: False)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device=None: None)
    event = SimpleNamespace(record=lambda stream=None: None, synchronize=lambda: None)
    monkeypatch.setattr(torch.cuda, "Event", lambda **options: event)
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda self, *given: self)
    autocast = torch.autocast

    def cast(kind: str, *given: Any, **options: Any) -> Any:
        return contextlib.nullcontext() if kind == "cuda" else autocast(kind, *given, **options)

    monkeypatch.setattr(torch, "autocast", cast)
    overwrites = torch.__future__.get_overwrite_module_params_on_conversion()
    lifts = torch._C._only_lift_cpu_tensors()
    torch.__future__.set_overwrite_module_params_on_conversion(True)
    torch._C._set_only_lift_cpu_tensors(True)
    try:
        with _Mode():
            yield CUDA
    finally:
        torch.__future__.set_overwrite_module_params_on_conversion(overwrites)
        torch._C._set_only_lift_cpu_tensors(lifts)
