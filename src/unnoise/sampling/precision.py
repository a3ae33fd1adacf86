"""The arithmetic of a network: float32, bfloat16 if the processor has it, float16 on GPUs."""

from __future__ import annotations

import functools
import time
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch

from ..errors import InvalidArgument, Unsupported, unknown

PRECISIONS = ("auto", "fp32", "bf16", "fp16")
NARROW = {"bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass(frozen=True)
class Precision:
    """The arithmetic chosen, and the reason."""

    name: str
    reason: str


def resolve(name: str, device: torch.device) -> Precision:
    """Return the precision on a device, `auto` resolved. Raises InvalidArgument or Unsupported."""
    if name not in PRECISIONS:
        raise unknown("precision", name, PRECISIONS)
    able = _has_bf16(device)
    if name == "bf16" and not able:
        raise Unsupported(
            f"precision bf16 on {device}, which has no bfloat16 arithmetic; use fp32 or auto"
        )
    if name == "fp16" and device.type != "cuda":
        raise Unsupported(
            f"precision fp16 on {device}, and float16 is for GPUs; use bf16, fp32 or auto"
        )
    if name in ("fp32", "fp16"):
        return Precision(name, "asked for")
    if name == "bf16":
        return Precision(name, "asked for")
    if able and device.type == "cpu" and not _bf16_pays():
        return Precision("fp32", "cpu has bfloat16, and it was measured twice as slow as float32")
    if able:
        return Precision("bf16", f"{device} has bfloat16")
    return Precision("fp32", f"{device} has no bfloat16 arithmetic")


def find_device(name: str) -> torch.device:
    """Return a device by name; "auto" is the GPU if there is one. Raises InvalidArgument."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise InvalidArgument(f"device {name!r} cannot be used here; try auto or cpu") from error
    return device


def _has_bf16(device: torch.device) -> bool:
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if device.type == "cpu":
        return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported()) and bool(
            torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
        )
    return False


@functools.cache
def _bf16_pays() -> bool:
    """Return whether a convolution on the CPU takes less than twice as long in bfloat16.

    It takes half the time where the processor computes it, and many times as long where a virtual
    machine or a library emulates it: the least of three measurements in turn distinguishes the two.
    """
    times = {torch.float32: float("inf"), torch.bfloat16: float("inf")}
    for _ in range(4):
        for dtype in times:
            x, weight = (
                torch.zeros(8, 64, 16, 16, dtype=dtype),
                torch.zeros(64, 64, 3, 3, dtype=dtype),
            )
            start = time.perf_counter()
            torch.nn.functional.conv2d(x, weight, padding=1)
            times[dtype] = min(times[dtype], time.perf_counter() - start)
    return times[torch.bfloat16] < 2 * times[torch.float32]


def autocast(name: str, device: torch.device) -> AbstractContextManager[object]:
    """Return the context to evaluate a network in; weights, times and schedules stay in float32 or
    more."""
    return torch.autocast(device.type, NARROW[name]) if name in NARROW else nullcontext()
