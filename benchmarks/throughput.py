"""Images a second of our networks and the peers', training and sampling, at equal size.

    python benchmarks/throughput.py [--quick] [--threads 2] [--compiled] [--out FOLDER]
                                    [--only "U-Net 28"] [--batches 1,8]

Pairs of a peer's network and ours with the same parameters and the same arithmetic to 5 %, at
32×32×3 with about 9 M parameters and 28×28×1 with 1–2 M. The contestants of a row take turns; a
ratio is the median, with quartiles, of each round's own, against the peer as its documentation runs
it: float32, eager. GFLOP/s count a forward pass once and an update three times; a share is of the
best convolution (U-Net) or matrix product (transformer) measured in the same run and precision.
One thread and CPU time of this process; with --threads wall time, which needs a quiet machine. With
--compiled ours is run compiled too, at batch 8, and the time of compilation is printed.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).parent))

from side_by_side import RESULTS, arguments, rounds, speed, table, write
from speed.memory import peak_bytes
from speed.networks import EQUAL, PAIRS, SMALL, Pair, cost
from speed.peaks import peaks
from speed.steps import Run, inference, training

BATCHES = (1, 8, 64)
SECONDS, LEAST, MOST = 4.0, 3, 15  # seconds of a row after its warm round; rounds
MEMORY = 8  # batch of the memory measurement
BASE, COMPILED = "peer fp32", "ours bf16 compiled"
KINDS: dict[str, Callable[..., Run]] = {"training": training, "inference": inference}
PASSES = {"training": 3, "inference": 1}
WANTED = {  # times the peer's default, in fp32 and bf16
    "U-Net": {"training": (1.1, 3.5), "inference": (1.1, 5.0)},
    "DiT": {"training": (None, 2.5), "inference": (None, 3.5)},
}
SHOWN = ("who", "images a second", "GFLOP/s", "share", "speed", "MB", "compiling s")


def contestants(pair: Pair, kind: str, batch: int, both: bool, compiled: bool) -> dict[str, Run]:
    """Return the runs of a row; a large batch of a large network leaves out runs not compared."""
    make, event = KINDS[kind], pair.event
    runs = {BASE: make(pair.peer, event, batch, "fp32")}
    if both:
        runs["peer bf16"] = make(pair.peer, event, batch, "bf16")
        runs["ours fp32"] = make(pair.ours, event, batch, "fp32")
    runs["ours bf16"] = make(pair.ours, event, batch, "bf16")
    if compiled:
        from unnoise.data.cache import cache_dir
        from unnoise.networks.compiled import compile_blocks

        folder = cache_dir() / "compiled"
        runs[COMPILED] = make(pair.ours, event, batch, "bf16", lambda n: compile_blocks(n, folder))
    return runs


def measure(
    pair: Pair, kind: str, batch: int, top: dict[str, dict[str, float]], args: argparse.Namespace
) -> list[dict[str, Any]]:
    """Return the rows of one pair, kind of work and batch."""
    both = batch < max(BATCHES) or pair.event == SMALL
    runs = contestants(pair, kind, batch, both, args.compiled)
    clock = time.perf_counter if args.threads > 1 else time.process_time
    compiling = None
    if args.compiled:
        begun = clock()
        runs[COMPILED]()
        compiling = round(clock() - begun, 1)
    memory: dict[str, int] = {}
    count, begun = LEAST, clock()  # a median of three leaves out a first round that is slower
    if batch == MEMORY:
        memory = {name: peak_bytes(run) for name, run in runs.items()}
    elif args.quick or batch < max(BATCHES):
        for run in runs.values():
            run()
    if memory or batch < max(BATCHES):
        count = max(LEAST, min(MOST, int(SECONDS / (clock() - begun))))
    count = 1 if args.quick else count
    times = rounds(runs, count, warm=0, clock=clock)
    ratios, rows = speed(times, BASE), []
    ceiling = top["matmul" if pair.name.startswith("DiT") else "convolution"]
    flops = {who: cost(getattr(pair, who), pair.event)[1] for who in ("peer", "ours")}
    for name, spent in times.items():
        middle = statistics.median(spent)
        who, precision = name.split()[:2]
        rate = flops[who] * PASSES[kind] * batch / middle / 1e9
        rows.append(
            {
                "pair": pair.name,
                "work": kind,
                "batch": batch,
                "who": name,
                "milliseconds": round(middle * 1e3, 3),
                "images a second": round(batch / middle, 2),
                "GFLOP/s": round(rate, 1),
                "share": round(rate / ceiling[precision] / args.threads, 3),
                "speed": ratios[name].rounded(),
                "MB": round(memory[name] / 1e6, 1) if name in memory else None,
                "compiling s": compiling if name == COMPILED else None,
                "rounds": count,
            }
        )
    return rows


def targets(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return, for each pair and kind of work at batch 8, ours in fp32 and bf16 beside the targets.

    bound: the ratio if all of our arithmetic ran at the peak to which its share refers.
    """
    found = []
    for row in rows:
        if row["who"] in ("ours fp32", "ours bf16") and row["batch"] == MEMORY:
            wanted = WANTED[row["pair"].split()[0]][row["work"]]
            found.append(
                {
                    "pair": row["pair"],
                    "work": row["work"],
                    "precision": row["who"].split()[1],
                    "speed": row["speed"][0],
                    "wanted": wanted[row["who"] == "ours bf16"],
                    "bound": round(row["speed"][0] / row["share"], 2) if row["share"] else None,
                }
            )
    return found


def sizes() -> list[dict[str, Any]]:
    """Return parameters and arithmetic of every pair; stop unless they are equal."""
    found = []
    for pair in PAIRS:
        (peer, peer_flops), (mine, my_flops) = (
            cost(who, pair.event) for who in (pair.peer, pair.ours)
        )
        if max(abs(mine / peer - 1), abs(my_flops / peer_flops - 1)) > EQUAL:
            raise SystemExit(
                f"{pair.name}: ours has {mine / peer:.3f} times the parameters and "
                f"{my_flops / peer_flops:.3f} times the arithmetic"
            )
        found.append(
            {
                "pair": pair.name,
                "peer": f"{pair.peer.maker} {pair.peer.about}",
                "ours": pair.ours.about,
                "peer M parameters": round(peer / 1e6, 3),
                "our M parameters": round(mine / 1e6, 3),
                "peer GFLOP": round(peer_flops / 1e9, 4),
                "our GFLOP": round(my_flops / 1e9, 4),
            }
        )
    return found


def prepare(parser: argparse.ArgumentParser) -> None:
    """Add this script's options to the parser."""
    parser.add_argument("--threads", type=int, default=1, help="more than 1: wall time")
    parser.add_argument("--compiled", action="store_true", help="ours compiled too, at batch 8")
    parser.add_argument("--only", default="", help="pairs whose name has this")
    parser.add_argument("--batches", default="", help=f"some of {BATCHES}, as 1,8")


def main() -> None:
    """Measure all rows, print the tables, write the result."""
    args = arguments(__doc__, prepare)
    if (args.only or args.batches) and args.out == RESULTS:
        raise SystemExit("a part of the rows would replace all of them; give --out FOLDER")
    batches = BATCHES[:1] if args.quick else (MEMORY,) if args.compiled else BATCHES
    if args.batches:
        batches = tuple(int(batch) for batch in args.batches.split(","))
    torch.set_num_threads(args.threads)
    warnings.filterwarnings("ignore")
    begun = time.process_time()
    top, pairs = peaks(args.quick), sizes()
    print(f"peaks of one thread, GFLOP/s: {top}")
    print(table(pairs))
    rows: list[dict[str, Any]] = []
    for pair in PAIRS:
        if args.only not in pair.name or (args.quick and pair.event != SMALL):
            continue
        for batch in batches:
            for kind in KINDS:
                found = measure(pair, kind, batch, top, args)
                rows += found
                print(f"\n{pair.name}, {kind}, batch {batch}")
                print(table(found, SHOWN), flush=True)
    goals = targets(rows)
    if goals:
        print("\nat batch 8, times the peer's default\n" + table(goals))
    name = "throughput" + "_compiled" * args.compiled
    name += f"_{args.threads}_threads" * (args.threads > 1)
    write(
        name,
        {
            "seconds": round(time.process_time() - begun),
            "clock": "CPU time" if args.threads == 1 else "wall time",
            "peaks": top,
            "pairs": pairs,
            "rows": rows,
            "targets": goals,
        },
        args.out,
    )


if __name__ == "__main__":
    main()
