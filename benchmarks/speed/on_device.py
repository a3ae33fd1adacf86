"""Our networks beside diffusers' on a GPU: time by the wall clock, memory by torch's allocator."""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
from side_by_side import rounds, speed, table

from .memory import peak_bytes
from .networks import (
    EQUAL,
    LARGE,
    PAIRS,
    Pair,
    cost,
    diffusers_dit,
    diffusers_unet,
    equal,
    our_dit,
    our_unet,
)  # fmt: skip
from .steps import Run, inference, training

BATCHES = (64, 8, 256)  # in this order: what is left out where the time is over is the last
KINDS: dict[str, Callable[..., Run]] = {"training": training, "inference": inference}
EVALUATIONS = {"training": 3, "inference": 1}
ROUNDS, SECONDS, LEAST = 5, 0.6, 0.02  # of a row; seconds of all its rounds; of one timing
SHOWN = ("pair", "work", "batch", "who", "images a second", "TFLOP/s", "speed", "MB", "all MB")
# four and six times the size of those that a CPU is measured with
WIDE = (
    Pair(
        "U-Net 32×32 wide, diffusers",
        LARGE,
        diffusers_unet(LARGE, (128, 256, 256, 256)),
        our_unet(
            LARGE, (256, 320, 320, 320), blocks=(1, 1, 3, 1), attention=(1, 2, 3), embedding=512
        ),
    ),
    Pair(
        "DiT 32×32 wide, diffusers",
        LARGE,
        diffusers_dit(LARGE, 8, 64, 12),
        our_dit(LARGE, width=512, depth=12, patch=2, embedding=640),
    ),
)
SMALL_EVENT = (1, 8, 8)
TINY = (
    Pair(
        "U-Net 8×8, diffusers",
        SMALL_EVENT,
        diffusers_unet(SMALL_EVENT, (8, 8), groups=8),
        our_unet(SMALL_EVENT, (8, 8), blocks=1),
    ),
    Pair(
        "DiT 8×8, diffusers",
        SMALL_EVENT,
        diffusers_dit(SMALL_EVENT, 2, 8, 1),
        our_dit(SMALL_EVENT, width=16, depth=1, head=8),
    ),
)


def pairs(quick: bool) -> list[Pair]:
    """Return the pairs of a run: two of 10 M parameters, two wide ones; or two tiny ones."""
    if quick:
        return list(TINY)
    return [pair for pair in PAIRS if pair.peer.maker == "diffusers" and pair.event == LARGE] + [
        *WIDE
    ]


def precision_on(device: torch.device) -> str:
    """Return "bf16", or "fp32" on a GPU without its arithmetic."""
    able = device.type != "cuda" or torch.cuda.is_bf16_supported(including_emulation=False)
    return "bf16" if able else "fp32"


def clock_of(device: torch.device) -> Callable[[], float]:
    """Return a wall clock that first waits for all work on the device."""

    def clock() -> float:
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        return time.perf_counter()

    return clock


def memory_of(run: Run, device: torch.device) -> tuple[int, int]:
    """Return the most bytes allocated during a call, above what was there before it, and in all."""
    if device.type != "cuda":
        return peak_bytes(run), 0
    torch.cuda.synchronize(device)
    torch.cuda.reset_peak_memory_stats(device)
    before = torch.cuda.memory_allocated(device)
    run()
    torch.cuda.synchronize(device)
    most = torch.cuda.max_memory_allocated(device)
    return most - before, most


def measure(pair: Pair, kind: str, batch: int, device: torch.device, quick: bool) -> list[dict]:
    """Return the rows of one pair, kind of work and batch: first the peer's, then ours."""
    precision, clock = precision_on(device), clock_of(device)
    runs, memory = {}, {}
    for who in (pair.peer, pair.ours):
        name = f"{'ours' if who.ours else 'peer'} {precision}"
        gc.collect()
        if device.type == "cuda":
            torch.cuda.empty_cache()
        held = torch.cuda.memory_allocated(device) if device.type == "cuda" else 0
        runs[name] = KINDS[kind](who, pair.event, batch, precision, device=device)
        for _ in range(3):
            runs[name]()
        more, most = memory_of(runs[name], device)
        memory[name] = more, most - held  # without the other's network
    return timed(runs, memory, pair, kind, batch, clock, quick)


def timed(
    runs: dict[str, Run],
    memory: dict[str, tuple[int, int]],
    pair: Pair,
    kind: str,
    batch: int,
    clock: Callable[[], float],
    quick: bool,
) -> list[dict[str, Any]]:
    """Time the contestants in turns; return a row for each."""
    began = clock()
    for run in runs.values():
        run()
    once = (clock() - began) / len(runs)
    calls = 1 if quick else max(1, min(200, round(max(LEAST, SECONDS / ROUNDS / 2) / once)))
    times = rounds(runs, 2 if quick else ROUNDS, warm=0, calls=calls, clock=clock)
    base, rows = next(iter(runs)), []
    flops = {who: cost(getattr(pair, who), pair.event)[1] for who in ("peer", "ours")}
    for name, spent in times.items():
        middle = statistics.median(spent)
        rate = flops[name.split()[0]] * EVALUATIONS[kind] * batch / middle
        more, most = memory.get(name, (None, None))
        rows.append(
            {
                "pair": pair.name,
                "work": kind,
                "batch": batch,
                "who": name,
                "milliseconds": round(middle * 1e3, 4),
                "images a second": round(batch / middle, 1),
                "TFLOP/s": round(rate / 1e12, 3),
                "speed": speed(times, base)[name].rounded(),
                "MB": None if more is None else round(more / 1e6, 3),
                "all MB": round(most / 1e6, 3) if most else None,
            }
        )
    return rows


def throughput(device: torch.device, quick: bool, seconds: float) -> dict[str, Any]:
    """Return the rows of every pair, batch and kind of work for which `seconds` leave time."""
    began, rows, left_out = time.perf_counter(), [], []
    for batch in (4,) if quick else BATCHES:
        for pair in pairs(quick):
            apart = max(abs(ratio - 1) for ratio in equal(pair))
            if apart > EQUAL and not quick:
                raise SystemExit(f"{pair.name}: the networks differ by {apart:.1%}")
            for kind in KINDS:
                if time.perf_counter() - began > seconds:
                    left_out.append(f"{pair.name}, {kind}, batch {batch}")
                    continue
                found = measure(pair, kind, batch, device, quick)
                print(table(found, SHOWN), flush=True)
                rows += found
    return {"precision": precision_on(device), "rows": rows, "left_out": left_out}


def compiled(device: torch.device, quick: bool) -> dict[str, Any]:
    """Return rows of our networks eager and with compiled blocks, and the compiler's seconds."""
    import warnings

    from unnoise.networks.compiled import compile_blocks

    batch, rows = 4 if quick else 64, []
    backend = "aot_eager" if quick else "inductor"
    precision, clock = precision_on(device), clock_of(device)
    for pair in pairs(quick)[: 1 if quick else 2]:
        for kind, make in KINDS.items():
            runs = {
                f"ours {precision}": make(pair.ours, pair.event, batch, precision, device=device),
                f"ours {precision} compiled": make(
                    pair.ours, pair.event, batch, precision,
                    lambda network: compile_blocks(network, None, backend), device,
                ),
            }  # fmt: skip
            began = clock()
            with warnings.catch_warnings():
                warnings.filterwarnings("error", message=".*cannot be compiled")
                runs[f"ours {precision} compiled"]()
            took = round(clock() - began, 1)
            found = timed(runs, {}, pair, kind, batch, clock, quick)
            found[1]["compiling s"] = took
            print(table(found, (*SHOWN[:-2], "compiling s")), flush=True)
            rows += found
    return {"precision": precision, "backend": backend, "rows": rows}
