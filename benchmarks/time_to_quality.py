"""The quality of samples after a number of CPU seconds of training, ours and the peers'.

    python benchmarks/time_to_quality.py [--jobs 2] [--data digits] [--only NAME] [--keep]

Every run trains one U-Net from scratch on one thread for a fixed CPU time, drawing and loading of
data included, evaluation not; runs are processes of their own, --jobs at a time, and since CPU time
counts, neighbours cost all of them alike. Digits: scikit-learn's 1,797 in halves, about 0.7 M
parameters, 120 s. MNIST-5k: 4,000 to learn from, 500 held out, 300 s. 50 network evaluations a
sample, classes as in the held-out part. Fréchet distance and C2ST in the features of one classifier
of the training part, and the sliced W2 of the values, each beside its value for training values
(floor) and for noise, and the mean over three sets of samples from start noise that all share.

A peer is tuned by short runs, of which the best counts; missing ones are run first. Finished runs
are stored in runs/time_to_quality, and in the committed result, by a hash of their settings:
interrupt at any time and start again. All of it takes about half an hour on two quiet cores, and
ten minutes more with the tuning.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterable
from dataclasses import asdict
from importlib.util import find_spec
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("TORCHINDUCTOR_COMPILE_THREADS", "1")  # so that compiling is counted

import side_by_side
import torch
from quality import plan, report
from quality.contestants import DOCUMENTED, TRIES
from quality.runs import Kept, Run, execute
from quality.task import EVALUATIONS, Task

ROOT = Path(__file__).parents[1]
NAME = "time_to_quality"
FOLDER, PICTURE = ROOT / "runs" / NAME, ROOT / "docs" / "pictures" / f"{NAME}.png"
TASKS = ("digits", "mnist5k")
QUICK = 100  # held-out values of a quick run


def options(parser: argparse.ArgumentParser) -> None:
    """Add this script's options to the parser."""
    parser.add_argument("--jobs", type=int, default=2, help="runs at a time")
    parser.add_argument("--data", choices=TASKS, help="one of the data sets")
    parser.add_argument("--only", action="append", help="contestants whose name has this in it")
    parser.add_argument("--keep", action="store_true", help="run nothing: tables of what is kept")
    parser.add_argument("--again", action="append", default=[], help="measure these names anew")
    parser.add_argument("--curves", action="store_true", help="240 s too, and 60 s of the peer")
    parser.add_argument("--tries", action="store_true", help="all short runs of the tuning")
    parser.add_argument("--worker", help=argparse.SUPPRESS)


def work(args: argparse.Namespace) -> None:
    """Execute one run, in a process of its own."""
    tree = json.loads(args.worker)
    run, folder = Run(**tree["run"]), Path(tree["folder"])
    execute(run, open_task(run.task, args, folder), folder, side_by_side.library())


def open_task(name: str, args: argparse.Namespace, folder: Path) -> Task:
    """Return the task of a data set."""
    return Task.open(name, folder, QUICK if args.quick else None)


def installed(run: Run) -> bool:
    """Return whether the library of a run can be imported."""
    return find_spec(run.settings["peer"]) is not None


def measure(
    runs: Iterable[Run], args: argparse.Namespace, kept: Kept, script: str = __file__
) -> None:
    """Execute all runs that are not stored yet, `jobs` at a time, each in a process of one thread.

    Each process runs `script`, which with --worker does the work of `work` here.
    """
    for run in runs:
        if any(part in run.name for part in args.again):
            kept.forget(run)
    if args.keep:
        return
    named = [r for r in runs if not args.only or any(part in r.name for part in args.only)]
    waiting = [run for run in named if kept(run) is None]
    for lacking in sorted({r.settings["peer"] for r in waiting if not installed(r)}):
        print(f"{lacking} is left out, since it is not installed; `make bench` installs it")
    waiting = [run for run in waiting if installed(run)]
    going: list[tuple[Run, subprocess.Popen[bytes]]] = []
    try:
        while waiting or going:
            while waiting and len(going) < max(1, args.jobs):
                run = waiting.pop(0)
                tree = json.dumps({"run": asdict(run), "folder": str(kept.folder)})
                command = [sys.executable, "-W", "ignore", script, "--worker", tree]
                going.append((run, subprocess.Popen(command + ["--quick"] * args.quick)))
            time.sleep(0.5)
            for run, process in [pair for pair in going if pair[1].poll() is not None]:
                going.remove((run, process))
                found = kept(run)
                if process.returncode or found is None:
                    raise SystemExit(f"{run.name}, seed {run.seed}, failed; see above")
                print(
                    f"{run.task}, {run.name}, {run.seconds:g} s, seed {run.seed}: FD "
                    f"{found['fd']:.3f}, C2ST {found['c2st']:.3f}, {found['updates']} updates; "
                    f"{len(waiting) + len(going)} to go",
                    flush=True,
                )
    finally:
        for _, process in going:
            process.terminate()


def on_digits(task: Task, args: argparse.Namespace, kept: Kept) -> tuple[list[Run], list[Run]]:
    """Measure the runs on digits, and return (the runs of the table, the tries).

    The order: the tries, then one seed of every contestant, then the other seeds of ours and of the
    best tuned peer.
    """
    if args.quick:
        runs = list(plan.quick(task))
        measure(runs, args, kept)
        return runs, []
    tried = plan.tries(task)
    for runs in tried.values():
        if args.tries or not any(map(kept, runs)):
            measure(runs, args, kept)
    runs = list(plan.digits(task, plan.Peers.known(task, kept)))
    measure(runs, args, kept)
    peers = plan.Peers.known(task, kept)
    rest, long = list(plan.seeds(task, peers)), list(plan.curves(task, peers))
    measure(rest + long * args.curves, args, kept)
    return runs + rest + long, [run for runs in tried.values() for run in runs]


def of_task(name: str, args: argparse.Namespace, kept: Kept) -> dict[str, Any]:
    """Measure the missing runs of one data set, and show its table."""
    task = open_task(name, args, kept.folder)
    bounds = task.bounds()  # trains the classifier, once, before the runs need it
    tries: list[Run] = []
    if name == "digits":
        planned, tries = on_digits(task, args, kept)
    else:
        digits = open_task("digits", args, kept.folder)
        planned = list(plan.mnist5k(task, plan.Peers.known(digits, kept)))
        measure(planned, args, kept)
    results = [found for run in planned if (found := kept(run))]
    table = report.rows(results, bounds)
    right = bounds["classifier"]["accuracy_on_held_out"]
    print(
        f"\n{name}: {bounds['train']} to learn from, {bounds['held_out']} held out, of which the "
        f"classifier names {right:.2%} right; {EVALUATIONS} evaluations a sample"
    )
    print(side_by_side.table(table))
    targets = report.verdict(results, bounds) if name == "digits" else {}
    for label, found in targets.items():
        print(f"{label}: {found['value']:.3g}, target {found['target']:.3g}")
    now = side_by_side.library()
    for found in results:
        if found["settings"]["peer"] == "unnoise" and found["library"] != now:
            print(f"note: {found['name']}, {found['seconds']:g} s, seed {found['seed']}, is of "
                  "other sources; --again unnoise measures it anew")  # fmt: skip
    if name == "digits" and not args.quick:
        draw(task, table, planned, kept)
    return {"bounds": bounds, "table": table, "targets": targets, "runs": results,
            "tries": [found for run in tries if (found := kept(run))]}  # fmt: skip


def draw(task: Task, table: list[dict[str, Any]], planned: list[Run], kept: Kept) -> None:
    """Draw the samples of the rows of 120 s, below the held-out digits."""
    first = {run.name: run for run in planned if run.seconds == plan.MAIN and not run.seed}
    real = torch.cat([torch.nonzero(task.labels == c).flatten()[:2] for c in task.labels.unique()])
    shown = {"held-out data": torch.as_tensor(task.held.values)[real].numpy()}
    for row in table:
        if row.get("CPU s") == plan.MAIN:
            found = kept.shown(first[row["contestant"]])
            if found is None:
                print("picture: left as it is, since the samples of some runs are not kept here")
                return
            shown[f"{row['contestant']}: {row['× floor']:.2f}"] = found
    if len(shown) > 1:
        report.picture(shown, task.train.spec.value_range[1], PICTURE, 4)
        print(f"picture: {PICTURE}")


def main() -> None:
    """Measure all data sets, print the tables, write the result."""
    args = side_by_side.arguments(__doc__, options)
    torch.set_num_threads(1)
    if args.worker:
        return work(args)
    path = args.out / f"{NAME}.json"
    kept = Kept(args.out / "kept") if args.quick else Kept(FOLDER, path)
    names = [args.data] if args.data else ["digits"] if args.quick else TASKS
    data = {name: of_task(name, args, kept) for name in names}
    if path.exists() and not args.quick:  # other data sets stay
        data = {**json.loads(path.read_text("utf-8"))["data"], **data}
    about = {name: who.about for name, who in DOCUMENTED.items()}
    about |= {
        f"{p} try {k + 1}": w.about for p, tried in TRIES.items() for k, w in enumerate(tried)
    }
    side_by_side.write(NAME, {"evaluations": EVALUATIONS, "about": about, "data": data}, args.out)


if __name__ == "__main__":
    main()
