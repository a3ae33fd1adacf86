"""The peak of the machine: its best matrix product and its best 3×3 convolution.

The best of several sizes and layouts, in GFLOP/s of CPU time, in float32 and bfloat16: the unit of
the shares.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import torch

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}
MATRICES = (512, 1024, 2048)
CONVOLUTIONS = ((8, 64, 32), (8, 128, 32), (8, 256, 16))  # batch, channels, side
LAYOUTS = (torch.contiguous_format, torch.channels_last)


def best(run: Callable[[], object], flops: float, tries: int, least: float) -> float:
    """Return GFLOP/s of the fastest of `tries`, each of at least `least` seconds."""
    run()
    fastest = 0.0
    for _ in range(tries):
        begun, calls = time.process_time(), 0
        while (spent := time.process_time() - begun) < least or not calls:
            run()
            calls += 1
        fastest = max(fastest, flops * calls / max(spent, 1e-9))
    return fastest / 1e9


def peaks(quick: bool = False) -> dict[str, dict[str, float]]:
    """Return {"matmul": {"fp32": …, "bf16": …}, "convolution": {…}} in GFLOP/s."""
    tries, least = (1, 0.01) if quick else (3, 0.1)
    found: dict[str, dict[str, float]] = {"matmul": {}, "convolution": {}}
    with torch.inference_mode():
        for name, dtype in DTYPES.items():
            rates = []
            for n in MATRICES[: 1 if quick else None]:
                a, b = torch.randn(n, n).to(dtype), torch.randn(n, n).to(dtype)
                out = torch.empty(n, n, dtype=dtype)
                rates.append(
                    best(lambda a=a, b=b, out=out: torch.mm(a, b, out=out), 2 * n**3, tries, least)
                )
            found["matmul"][name] = round(max(rates), 1)
            rates = []
            for batch, channels, side in CONVOLUTIONS[: 1 if quick else None]:
                flops = 2 * 9 * batch * channels**2 * side**2
                for layout in LAYOUTS:
                    x = torch.randn(batch, channels, side, side).to(dtype)
                    x = x.contiguous(memory_format=layout)
                    conv = torch.nn.Conv2d(channels, channels, 3, padding=1)
                    conv = conv.to(dtype).to(memory_format=layout)
                    rates.append(best(lambda x=x, conv=conv: conv(x), flops, tries, least))
            found["convolution"][name] = round(max(rates), 1)
    return found
