"""Any number of samples to the disk: bounded memory, any number of processes, killed and resumed.

Each process locks the next free block, draws it and writes it (`Job`). Processes may be started by
this one, by a launcher or by hand, at any time, and may die; the process that finishes the last
block moves the files to their places.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import torch

from ..artifacts import Model
from ..errors import InvalidArgument, UnnoiseError, need_count
from ..sampling import CycleClasses, SampleRequest, Stream, open_stream
from .sample_files import open_output
from .sample_job import Job, drawn_by, request_again

DEFAULT = 40  # samples
WORTH = 10.0  # seconds of remaining work from which on another process is worth its start


@dataclass(frozen=True)
class JobReport:
    """The result of a job. blocks: number of blocks that this process drew; before: True if the
    output was finished before; finished: False while other processes are still at work; notes:
    faults that were mended."""

    out: Path
    n: int
    nfe: int
    blocks: int
    before: bool
    finished: bool
    notes: tuple[str, ...] = ()


class Interrupted(KeyboardInterrupt):
    """Sampling was interrupted; finished blocks stay, and the same command resumes."""


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
    taken in turn. After a kill at any moment, the same call resumes and ends in the same bytes as
    one that was never killed; a finished output is not drawn again, and an output of another
    request is refused. resume: take options that are not given from the output's own request.
    processes: their number on this machine ("auto": one a core or GPU where there is enough to do);
    the samples are the same for any number, bit for bit. Started by torchrun or `accelerate launch`
    each process takes part. progress(done, n) is called after every block.

    Raises before anything is written if model, options or place are at fault; ArtifactError for an
    error of the disk (finished blocks stay), Interrupted for control-C.
    """
    out, folder = Path(out).expanduser(), Path(model).expanduser()
    rank, launched, local = (  # as torchrun and `accelerate launch` set them
        int(os.environ.get(name, default))
        for name, default in (("RANK", "0"), ("WORLD_SIZE", "1"), ("LOCAL_RANK", "0"))
    )
    most = 1 if processes == "auto" else need_count("processes", processes)
    if launched > 1 and most > 1:
        raise InvalidArgument(
            f"processes is {processes}, and a launcher has started {launched} already; leave one "
            "out"
        )
    request = (request or SampleRequest()).but(n=n, **options)
    request = request_again(out).but(**request.options()) if resume else request
    job = job_for(folder, out, _on_gpu(request, local) if launched > 1 else request)
    threads = torch.get_num_threads()
    tree = job.begin(max(1, threads // min(threads, len(job.stream))))
    if tree["finished"]:
        return JobReport(out, job.stream.n, tree["passes"], 0, True, True)
    chosen = tree["drawn"]["precision"]  # by the process that began, where it is "auto"
    request = job.stream.request.but(precision=chosen)
    if chosen != job.drawn["precision"]:
        job = job_for(folder, out, request)
    stream = job.stream
    helpers = Helpers(folder, out, request, tree["threads"])
    auto = processes == "auto" and launched == 1
    if auto:
        cuda = stream.facts.inference.device.type == "cuda"
        most = torch.cuda.device_count() if cuda else threads
    else:
        helpers.start(most - 1)

    def left() -> int:
        """Report the progress, and return the number of samples that are missing."""
        done = job.samples()
        if progress is not None:
            progress(done, stream.n)
        return stream.n - done

    drawn, began = 0, time.monotonic()
    torch.set_num_threads(tree["threads"])
    try:
        for share in ((rank, max(launched, most)), (0, 1)):  # then blocks of those that have died
            for _ in work(job, *share):
                drawn += 1
                blocks = -(-left() // stream.batch)
                ahead = blocks * (time.monotonic() - began) / drawn
                if auto and not helpers.processes and blocks > 1 and ahead > WORTH:
                    helpers.start(min(most, blocks) - 1)
            while (running := helpers.running()) and left():
                running[0].join(0.2)
        done = job.finish()
    except KeyboardInterrupt as stop:
        raise Interrupted(
            f"interrupted: {job.samples()} of {stream.n} samples are on the disk; go on with "
            f"the same command, or with `unnoise sample {folder} --resume --out {out}`"
        ) from stop
    finally:
        helpers.stop()
        torch.set_num_threads(threads)
    nfe = 0 if done is None else done["passes"]
    return JobReport(out, stream.n, nfe, drawn, False, done is not None, helpers.notes())


def open_samples(folder: Path, request: SampleRequest) -> tuple[Model, Stream]:
    """Return a model and the samples of a request, 40 by default. Raises InvalidArgument for an
    impossible request, and for more classes than samples."""
    request = request.but(n=request.n or DEFAULT)
    model = Model.load(folder, request.precision, request.device)
    condition = request.condition if isinstance(request.condition, dict) else {}
    turn = condition.get("class")
    if isinstance(turn, CycleClasses) and request.n and len(turn.classes) > request.n:
        raise InvalidArgument(
            f"{len(turn.classes)} classes for {request.n} samples; give --n {len(turn.classes)}"
        )
    return model, open_stream(model.facts, request)


def job_for(folder: Path, out: Path, request: SampleRequest) -> Job:
    """Return the job of a request; nothing is written yet."""
    model, stream = open_samples(folder, request)
    return Job(open_output(out, stream), drawn_by(model, stream))


def work(job: Job, rank: int, count: int) -> Iterator[None]:
    """Draw and write the blocks that no other process claims; yield after each."""
    try:
        for index in job.claims(rank * len(job.stream) // count):
            job.keep(index, job.stream.draw(job.stream.blocks[index]))
            yield
    except FileNotFoundError:
        if job.work.is_dir():
            raise
        # other processes have finished it


class Helpers:
    """Further processes that draw blocks of the same job."""

    def __init__(self, *job: Any) -> None:
        self.job = job
        self.processes: list[BaseProcess] = []

    def start(self, count: int) -> None:
        """Start `count` processes."""
        context = multiprocessing.get_context("spawn")
        for rank in range(1, count + 1):
            arguments = (rank, count + 1, os.getpid(), *self.job)
            self.processes.append(context.Process(target=_help, args=arguments, daemon=True))
            self.processes[-1].start()

    def running(self) -> list[BaseProcess]:
        """Return the processes that have not ended."""
        return [process for process in self.processes if process.exitcode is None]

    def notes(self) -> tuple[str, ...]:
        """Return a sentence on each process that failed."""
        return tuple(
            "a helping process failed, and the others did its share: it ended with "
            f"{process.exitcode}"
            for process in self.processes
            if process.exitcode
        )

    def stop(self) -> None:
        """Terminate the processes that still run, and forget them."""
        for process in self.running():
            self.processes.remove(process)
            process.terminate()
            process.join()


def _help(
    rank: int,
    count: int,
    parent: int,
    folder: Path,
    out: Path,
    request: SampleRequest,
    threads: int,
) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the process that started this one stops it
    torch.set_num_threads(threads)
    try:
        job = job_for(folder, out, _on_gpu(request, rank))
        for _ in work(job, rank, count) if job.found() else ():
            if os.getppid() != parent:
                return
    except (UnnoiseError, OSError) as error:
        sys.exit(str(error))


def _on_gpu(request: SampleRequest, rank: int) -> SampleRequest:
    """Return a request for one GPU of this process alone, if there are GPUs and none is named."""
    if request.device != "auto" or not torch.cuda.is_available():
        return request
    return request.but(device=f"cuda:{rank % torch.cuda.device_count()}")
