"""The growth of the cost of an update and of a sample: batch, image side, parameters, processes.

    python benchmarks/scaling.py [--quick] [--only batch] [--out FOLDER]

Along each axis everything else is constant: our U-Net in bfloat16 (float32 if the processor has
none) beside diffusers' UNet2DModel as its documentation runs it, of equal parameters and arithmetic
at the middle of each axis. CPU time on one thread, contestants in turns, medians; a power law
cost ≈ c·sizeᵖ is fitted on the logarithms, its standard error beside it. Then the shipped digits
recipe, in float32, is trained by one and by two processes (gloo) at the same batch of 64, and
sampled by one and by two: the cost of an update, and the difference of losses and samples.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).parent))

from side_by_side import RESULTS, arguments, rounds, speed, table, write
from speed.fits import exponent
from speed.networks import Contestant, Event, cost, diffusers_unet, our_unet
from speed.steps import inference, training

SECONDS, LEAST, MOST = 1.5, 2, 9  # seconds of a point after its warm round; rounds
WORKER = Path(__file__).parent / "speed" / "worker.py"
DIFFERENCE = 1e-6  # largest allowed difference of losses and samples


@dataclass(frozen=True)
class Point:
    """One size on an axis."""

    axis: str
    size: float
    event: Event
    batch: int
    peer: Contestant
    ours: Contestant


def pair(event: Event, width: int) -> tuple[Contestant, Contestant]:
    """Return (diffusers', ours): at width 32 that of throughput.py at 28×28."""
    peer = diffusers_unet(event, (width, 2 * width, 2 * width), min(32, width & -width))
    mine = our_unet(
        event,
        (3 * width // 2, 2 * width, 3 * width),
        blocks=(3, 1, 2),
        attention=(1, 2),
        embedding=8 * width,
    )
    return peer, mine


def points(quick: bool) -> Iterator[Point]:
    """Yield all points, axis by axis."""
    small = (1, 28, 28)
    for batch in (1, 2) if quick else (1, 2, 4, 8, 16, 32, 64, 128):
        yield Point("batch", batch, small, batch, *pair(small, 32))
    for side in (8, 16) if quick else (8, 16, 32, 64):
        yield Point("side", side, (3, side, side), 1 if quick else 4, *pair((3, side, side), 32))
    event = (1, 16, 16)
    for width in (8, 16) if quick else (8, 16, 32, 64, 80):
        peer, mine = pair(event, width)
        parameters = round(cost(mine, event)[0] / 1e6, 3)
        yield Point("parameters", parameters, event, 1 if quick else 8, peer, mine)


def measure(point: Point, precision: str, quick: bool) -> list[dict[str, Any]]:
    """Return both kinds of work at a point: milliseconds of a call, and ours over the peer's."""
    rows = []
    ours = f"ours {precision}"
    for kind, make in (("training", training), ("inference", inference)):
        runs = {
            "peer fp32": make(point.peer, point.event, point.batch, "fp32"),
            ours: make(point.ours, point.event, point.batch, precision),
        }
        begun = time.process_time()
        for run in runs.values():
            run()
        warm = time.process_time() - begun
        count = 1 if quick else int(min(MOST, max(LEAST, SECONDS / warm)))
        times = rounds(runs, count, warm=0)
        rows.append(
            {
                "axis": point.axis,
                "size": point.size,
                "work": kind,
                "peer ms": round(statistics.median(times["peer fp32"]) * 1e3, 3),
                "our ms": round(statistics.median(times[ours]) * 1e3, 3),
                "speed": speed(times, "peer fp32")[ours].rounded(),
                "rounds": count,
            }
        )
    return rows


def fits(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the exponents of every axis and kind of work, the peer's and ours."""
    found = []
    for axis, kind in dict.fromkeys((row["axis"], row["work"]) for row in rows):
        mine = [row for row in rows if (row["axis"], row["work"]) == (axis, kind)]
        sizes = [row["size"] for row in mine]
        row: dict[str, Any] = {"axis": axis, "work": kind, "from": sizes[0], "to": sizes[-1]}
        for who in ("peer", "our"):
            power, error = exponent(sizes, [r[f"{who} ms"] for r in mine])
            row[f"{who} exponent"], row[f"{who} ± se"] = round(power, 3), round(error, 3)
        found.append(row)
    return found


def processes(quick: bool) -> dict[str, Any]:
    """Measure training and sampling by two processes beside one."""
    updates = 5 if quick else 30
    settings = ["train.precision=fp32"]
    settings += ["network.widths=[8, 16]", "train.batch=16"] if quick else []
    found: dict[int, dict[str, Any]] = {}
    with tempfile.TemporaryDirectory(prefix="unnoise-scaling-") as name:
        folder = Path(name)
        for count in (1, 2):
            out, model = folder / f"{count}.json", folder / "model" if count == 1 else "-"
            launch = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
            _run(
                [*launch * (count == 2), str(WORKER), str(out), str(updates), str(model), *settings]
            )
            found[count] = json.loads(out.read_text("utf-8"))
            assert found[count]["processes"] == count
        arrays = []
        for count in (1, 2):
            out = folder / f"samples{count}.npy"
            shared = ["--n", "32", "--batch", "8", "--precision", "fp32", "--out", str(out)]
            sample = ["-m", "unnoise", "sample", str(folder / "model")]
            _run([*sample, *shared, "--processes", str(count)])
            arrays.append(np.load(out).astype(np.float64))
    one, two = (np.array(found[count]["losses"]) for count in (1, 2))
    return {
        "updates": updates,
        "losses differ": float(np.max(np.abs(two - one) / np.abs(one))),
        "first loss differs": float(abs(two[0] - one[0]) / abs(one[0])),
        "samples differ": float(np.max(np.abs(arrays[1] - arrays[0]))),
        "wanted": DIFFERENCE,
        "CPU ms an update": {str(n): round(f["cpu"] * 1e3, 2) for n, f in found.items()},
        "wall ms an update": {str(n): round(f["wall"] * 1e3, 2) for n, f in found.items()},
        "speed of two": round(found[1]["wall"] / found[2]["wall"], 3),
        "CPU of two": round(found[2]["cpu"] / found[1]["cpu"], 3),
    }


def _run(command: list[str]) -> None:
    made = subprocess.run([sys.executable, *command], capture_output=True, text=True)
    if made.returncode:
        raise SystemExit(
            f"{' '.join(command)} ended with {made.returncode}:\n{made.stderr[-2000:]}"
        )


def prepare(parser: argparse.ArgumentParser) -> None:
    """Add this script's options to the parser."""
    parser.add_argument("--only", default="", help="one of batch, side, parameters, processes")


def main() -> None:
    """Measure all points, print the tables, write the result."""
    from unnoise.sampling import resolve

    args = arguments(__doc__, prepare)
    if args.only and args.out == RESULTS:
        raise SystemExit("one axis would replace all of them; give --out FOLDER")
    torch.set_num_threads(1)
    warnings.filterwarnings("ignore")
    begun, precision = time.process_time(), resolve("auto", torch.device("cpu")).name
    rows: list[dict[str, Any]] = []
    for point in points(args.quick):
        if args.only in ("", point.axis):
            found = measure(point, precision, args.quick)
            rows += found
            print(table(found), flush=True)
    exponents = fits(rows)
    print("\ncost ≈ c·sizeᵖ\n" + table(exponents), flush=True)
    result: dict[str, Any] = {"precision": precision, "rows": rows, "exponents": exponents}
    if args.only in ("", "processes"):
        result["processes"] = processes(args.quick)
        print("\none and two processes\n" + table([result["processes"]]))
    result["seconds"] = round(time.process_time() - begun)
    write("scaling", result, args.out)


if __name__ == "__main__":
    main()
