"""Any number of samples to the disk: bounded memory, any number of processes, killed and resumed.

Each process claims the next block that no other one has, draws it and writes it (`Job`). So they
may be started by this one, by a launcher, by hand or later, and may die; the process that finds the
last block done brings the files to their places.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import torch

from ..artifacts import Model
from ..errors import InvalidArgument, UnnoiseError, need_count
from ..sampling import CycleClasses, SampleRequest, open_stream
from .sample_files import open_output, write_block
from .sample_job import Job, drawn_by, request_again

DEFAULT = 40  # samples
WORTH = 10.0  # seconds of work ahead from which on a process more is worth its start


@dataclass(frozen=True)
class JobReport:
    """The end of a job. blocks: how many this process drew; before: whether the output was there
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


def sample_many(
    model: str | Path,
    out: str | Path,
    n: int | None = None,
    *,
    request: SampleRequest | None = None,
    processes: int | str = 1,
    resume: bool = False,
    progress: Callable[[int, int], None] | None = None,
    **options: Any,
) -> JobReport:
    """Draw n samples (40) of the model in a folder to `out`, a .npy or a folder of pictures.

    request, options: as `Model.sample` has them, with precision, device, and classes, which are
    taken in turn. Killed at any moment, the same call goes on where it was, and ends in the same
    bytes as one that was never killed; an output that is finished is not drawn again, and one that
    holds or was begun with anything else is refused. resume: take what is not given from the
    output. processes: how many on this machine ("auto": one a core or GPU where there is enough to
    do); the samples are the same for any number, bit for bit. Started by torchrun or `accelerate
    launch` each process takes part. progress(done, n) is called after every block.

    Raises before anything is written where model, options or place are at fault; ArtifactError
    where the disk refuses (what is done stays), Interrupted for control-C.
    """
    out, folder = Path(out).expanduser(), Path(model).expanduser()
    rank, launched, local = (  # as torchrun and `accelerate launch` set them
        int(os.environ.get(name, default))
        for name, default in (("RANK", "0"), ("WORLD_SIZE", "1"), ("LOCAL_RANK", "0"))
    )
    if processes != "auto":
        need_count("processes", processes)
    if launched > 1 and processes not in (1, "auto"):
        raise InvalidArgument(
            f"processes is {processes}, and a launcher has started {launched} already; leave one "
            "out"
        )
    asked = (request or SampleRequest()).but(n=n, **options)
    asked = request_again(out).but(**asked.options()) if resume else asked
    asked = asked.but(n=asked.n or DEFAULT)
    if launched > 1:
        asked = _on_gpu(asked, local)
    job = job_for(folder, out, asked)
    threads, count = torch.get_num_threads(), len(job.stream)
    tree = job.begin(asked, max(1, threads // min(threads, count)))
    if tree["finished"]:
        return JobReport(out, job.stream.n, tree["passes"], 0, True, True)
    cuda = job.stream.facts.inference.device.type == "cuda"
    most = torch.cuda.device_count() if cuda else threads
    most = 1 if launched > 1 else most if isinstance(processes, str) else processes
    helpers, drawn, began = Helpers(folder, out, asked, tree["threads"]), 0, time.monotonic()
    if processes != "auto":
        helpers.start(most - 1)

    def tell() -> int:
        done = job.samples()
        if progress is not None:
            progress(done, job.stream.n)
        return job.stream.n - done

    def after() -> None:
        nonlocal drawn
        drawn += 1
        helpers.look()
        left = -(-tell() // job.stream.batch)
        ahead = left * (time.monotonic() - began) / drawn
        if processes == "auto" and not helpers.count and left > 1 and ahead > WORTH:
            helpers.start(min(most, left) - 1)

    torch.set_num_threads(tree["threads"])
    try:
        work(job, *((rank, launched) if launched > 1 else (0, most)), after=after)
        while helpers.running and tell():
            helpers.join()
        work(job, 0, 1, after=after)  # blocks of a process that has died
        done = job.finish()
    except KeyboardInterrupt as stop:
        raise Interrupted(
            f"interrupted: {job.samples()} of {job.stream.n} samples are on the disk; go on with "
            f"the same command, or with `unnoise sample {folder} --resume --out {out}`"
        ) from stop
    finally:
        helpers.stop()
        torch.set_num_threads(threads)
    nfe, notes = 0 if done is None else done["passes"], tuple(helpers.notes)
    return JobReport(out, job.stream.n, nfe, drawn, False, done is not None, notes)


def job_for(folder: Path, out: Path, request: SampleRequest) -> Job:
    """Return the job of a request; nothing is written yet."""
    model = Model.load(folder, request.precision, request.device)
    check_classes(request)
    stream = open_stream(model.facts, request)
    return Job(open_output(out, stream), drawn_by(model, stream))


def check_classes(request: SampleRequest) -> None:
    """Raise InvalidArgument where more classes are to be taken in turn than samples drawn."""
    condition = request.condition if isinstance(request.condition, dict) else {}
    turn = condition.get("class")
    if isinstance(turn, CycleClasses) and request.n and len(turn.classes) > request.n:
        raise InvalidArgument(
            f"{len(turn.classes)} classes for {request.n} samples; give --n {len(turn.classes)}"
        )


def work(
    job: Job,
    rank: int,
    count: int,
    after: Callable[[], None] = lambda: None,
    alive: Callable[[], bool] = lambda: True,
) -> None:
    """Draw and write the blocks that no other process does; after() is called for each."""
    try:
        for index in job.claims(rank * len(job.stream) // count):
            if not alive():
                return
            made = job.stream.draw(job.stream.blocks[index])
            write_block(job.blocks / f"{index:08d}-{made.nfe}", job.output.write(made))
            after()
    except FileNotFoundError:
        if job.work.is_dir():
            raise
        # other processes have finished it


class Helpers:
    """Processes that this one starts to draw blocks beside it; none until `start`. notes: the ends
    of those that failed."""

    def __init__(self, *job: Any) -> None:
        self.job, self.count = job, 0
        self.notes: list[str] = []
        self.running: list[BaseProcess] = []

    def start(self, count: int) -> None:
        """Start so many."""
        context, self.count = multiprocessing.get_context("spawn"), count
        for rank in range(1, count + 1):
            arguments = (rank, count + 1, os.getpid(), *self.job)
            self.running.append(context.Process(target=_help, args=arguments, daemon=True))
            self.running[-1].start()

    def look(self) -> None:
        """Note the processes that have ended, and how."""
        for process in [p for p in self.running if p.exitcode is not None]:
            self.running.remove(process)
            if process.exitcode:
                self.notes.append(
                    "a helping process failed, and the others did its share: it ended with "
                    f"{process.exitcode}"
                )

    def join(self) -> None:
        """Wait a moment for one to end."""
        self.running[0].join(0.2)
        self.look()

    def stop(self) -> None:
        """End those that still run."""
        for process in self.running:
            process.terminate()
            process.join()


def _help(
    rank: int, count: int, parent: int, folder: Path, out: Path, asked: SampleRequest, threads: int
) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the process that started this one stops it
    torch.set_num_threads(threads)
    try:
        job = job_for(folder, out, _on_gpu(asked, rank))
        if job.begun():
            work(job, rank, count, alive=lambda: os.getppid() == parent)
    except (UnnoiseError, OSError) as error:
        sys.exit(str(error))


def _on_gpu(request: SampleRequest, rank: int) -> SampleRequest:
    """Return a request for a GPU of this process's own, where there are some and none is named."""
    if request.device != "auto" or not torch.cuda.is_available():
        return request
    return request.but(device=f"cuda:{rank % torch.cuda.device_count()}")
