"""Any number of samples to the disk: bounded memory, any number of processes, killed and resumed.

Processes share nothing but the output's folder: each claims the next block that nobody has, draws
it, writes it and marks it (`Blocks`). So they may be started by this one, by a launcher, by hand or
later, and may die; whoever finds the last block done brings the files to their places.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from ..artifacts import Model
from ..errors import InvalidArgument, need_count
from ..sampling import ModelFacts, Stream
from .sample_blocks import Blocks
from .sample_files import Output, open_output, writing
from .sample_helpers import Helpers
from .sample_state import Asked, begin, finish, request

WORTH = 10.0  # seconds of work ahead from which on a process more is worth its start
Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Drawn:
    """What became of an output. blocks: how many this process drew; before: whether it was there
    already; finished: False where other processes are still at work on it; notes: what went wrong
    and was mended."""

    out: Path
    n: int
    nfe: int
    blocks: int
    before: bool
    finished: bool
    notes: tuple[str, ...] = ()


class Interrupted(KeyboardInterrupt):
    """Sampling was interrupted; what is done stays, and the same command goes on."""


def launched() -> tuple[int, int, int]:
    """(rank, processes, rank on this machine) as torchrun or `accelerate launch` say."""
    rank, count, local = (
        int(os.environ.get(name, default))
        for name, default in (("RANK", "0"), ("WORLD_SIZE", "1"), ("LOCAL_RANK", "0"))
    )
    return rank, count, local


def sample_many(
    model: str | Path,
    out: str | Path,
    n: int | None = None,
    *,
    solver: str | None = None,
    steps: int | None = None,
    grid: str | None = None,
    guidance: float | None = None,
    classes: list[str] | None = None,
    seed: int | None = None,
    first: int | None = None,
    batch: int | None = None,
    precision: str | None = None,
    device: str = "auto",
    processes: int | str = 1,
    resume: bool = False,
    progress: Progress | None = None,
) -> Drawn:
    """Draw n samples (40) of the model in a folder to `out`, a .npy or a folder of pictures.

    The options are those of `Model.stream`; classes are taken in turn. Killed at any moment, the
    same call goes on where it was, and ends in the same bytes as one that was never killed; an
    output that is finished is not drawn again, and one that holds or was begun with anything else
    is refused. resume: take what is not given from the output. processes: how many on this machine
    ("auto": one a core or GPU where there is enough to do); the samples are the same for any
    number, bit for bit. Started by torchrun or `accelerate launch` each process takes part.
    progress(done, n) is called after every block.

    Raises before anything is written where model, options or place are at fault; ArtifactError
    where the disk refuses (what is done stays), Interrupted for control-C.
    """
    given: dict[str, Any] = {
        "n": n, "solver": solver, "steps": steps, "grid": grid, "guidance": guidance,
        "classes": classes or None, "seed": seed, "first": first, "batch": batch,
        "precision": precision,
    }  # fmt: skip
    out, folder = Path(out).expanduser(), Path(model).expanduser()
    rank, launched_count, local = launched()
    if processes != "auto":
        need_count("processes", processes)
    if launched_count > 1 and processes not in (1, "auto"):
        raise InvalidArgument(
            f"processes is {processes}, and a launcher has started {launched_count} already; "
            "leave one out"
        )
    asked = Asked.again(out, given) if resume else Asked.of(given)
    if launched_count > 1 and device == "auto" and torch.cuda.is_available():
        device = f"cuda:{local % torch.cuda.device_count()}"
    output, drawn = output_for(folder, out, asked, device)
    threads = torch.get_num_threads()
    tree = begin(output, drawn, asked, max(1, threads // min(threads, len(output.stream))))
    if tree["finished"]:
        return Drawn(out, output.stream.n, tree["passes"], 0, True, True)
    helpers = Helpers(folder, out, asked, device, tree["threads"])
    most = _most(processes, launched_count, output.stream.facts, threads)
    at_once = processes != "auto"
    count = 0
    try:
        if at_once:
            helpers.start(most - 1)
        began = time.monotonic()

        def after(left: int) -> None:
            nonlocal count
            count += 1
            helpers.look()
            ahead = left * (time.monotonic() - began) / count
            if not at_once and not helpers.count and most > 1 and left > 1 and ahead > WORTH:
                helpers.start(min(most - 1, left - 1))

        place = (rank, launched_count) if launched_count > 1 else (0, most)
        with _threads(tree["threads"]):
            work(output, *place, after=after, progress=progress)
            if _done(output) < output.stream.n:
                helpers.join(lambda: progress and progress(_done(output), output.stream.n))
                work(output, 0, 1, after=after, progress=progress)  # of one that has died
        done = finish(output, drawn)
    except KeyboardInterrupt as stop:
        raise Interrupted(
            f"interrupted: {_done(output)} of {output.stream.n} samples are on the disk; go on "
            f"with the same command, or with `unnoise sample {folder} --resume --out {out}`"
        ) from stop
    finally:
        helpers.stop()
    nfe = 0 if done is None else done["passes"]
    notes = tuple(helpers.notes)
    return Drawn(out, output.stream.n, nfe, count, False, done is not None, notes)


def output_for(folder: Path, out: Path, asked: Asked, device: str) -> tuple[Output, dict[str, Any]]:
    """The output of a call and what its bytes depend on; nothing is written yet."""
    model = Model.load(folder, asked.precision, device)
    stream = asked.stream(model)
    return open_output(out, stream), request(model, stream)


def work(
    output: Output,
    rank: int,
    count: int,
    after: Callable[[int], None] | None = None,
    progress: Progress | None = None,
    alive: Callable[[], bool] | None = None,
) -> None:
    """Draw and write the blocks that nobody else does; after(left) is called for each."""
    stream = output.stream
    try:
        blocks = Blocks(output.work / "blocks", len(stream))
    except FileNotFoundError:  # others have finished it
        return
    with blocks:
        for k in blocks.claims(rank * len(stream) // count):
            if alive is not None and not alive():
                return
            made = stream.draw(stream.blocks[k])
            output.write(made)
            with writing(output.out):
                blocks.mark(k, made.nfe)
            left = blocks.missing()
            if after is not None:
                after(left)
            if progress is not None:
                progress(_samples(stream, left), stream.n)


def _samples(stream: Stream, left: int) -> int:
    """How many samples are done where so many blocks are left."""
    return min(stream.n, (len(stream) - left) * stream.batch) if left else stream.n


def _done(output: Output) -> int:
    try:
        with Blocks(output.work / "blocks", len(output.stream)) as blocks:
            return _samples(output.stream, blocks.missing())
    except FileNotFoundError:  # finished by another process
        return output.stream.n


def _most(processes: int | str, launched_count: int, facts: ModelFacts, threads: int) -> int:
    """How many processes may work here."""
    if launched_count > 1:
        return 1
    if not isinstance(processes, str):
        return processes
    if facts.inference.device.type == "cuda":
        return torch.cuda.device_count()
    return threads


@contextmanager
def _threads(count: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
