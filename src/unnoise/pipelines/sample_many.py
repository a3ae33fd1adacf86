"""Any number of samples to the disk: bounded memory, any number of processes, killed and resumed.

Processes share nothing but the output's folder: each claims the next block that no other one has,
draws it and writes it (`Blocks`). So they may be started by this one, by a launcher, by hand or
later, and may die; the process that finds the last block done brings the files to their places.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import torch

from ..artifacts import Model
from ..errors import InvalidArgument, UnnoiseError, need_count
from ..sampling import CycleClasses, SampleRequest, open_stream
from .sample_files import Output, open_output
from .sample_state import begin, drawn_by, finish, request_again, underway

DEFAULT = 40  # samples
WORTH = 10.0  # seconds of work ahead from which on a process more is worth its start
REFRESH = 1.0  # seconds after which the blocks of other processes are counted again
Progress = Callable[[int, int], None]


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
    progress: Progress | None = None,
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
    rank, count, local = (
        int(os.environ.get(name, default))  # as torchrun and `accelerate launch` set them
        for name, default in (("RANK", "0"), ("WORLD_SIZE", "1"), ("LOCAL_RANK", "0"))
    )
    if processes != "auto":
        need_count("processes", processes)
    if count > 1 and processes not in (1, "auto"):
        raise InvalidArgument(
            f"processes is {processes}, and a launcher has started {count} already; leave one out"
        )
    asked = (request or SampleRequest()).but(n=n, **options)
    if resume:
        asked = request_again(out).but(**asked.options())
    asked = asked if asked.n is not None else asked.but(n=DEFAULT)
    if count > 1 and asked.device == "auto" and torch.cuda.is_available():
        asked = asked.but(device=f"cuda:{local % torch.cuda.device_count()}")
    output, drawn = output_for(folder, out, asked)
    threads = torch.get_num_threads()
    tree = begin(output, drawn, asked, max(1, threads // min(threads, len(output.stream))))
    if tree["finished"]:
        return JobReport(out, output.stream.n, tree["passes"], 0, True, True)
    most = 1 if count > 1 else _most(processes, output, threads)
    job = Job(output, helpers=Helpers(folder, out, asked, tree["threads"]), progress=progress)
    if processes != "auto":
        job.helpers.start(most - 1)
    try:
        with _threads(tree["threads"]):
            place = (rank, count) if count > 1 else (0, most)
            job.work(*place, more=most if processes == "auto" else 1)
            while job.helpers.running and job.left():
                job.helpers.join()
                job.tell()
            job.work(0, 1)  # of one that has died
        done = finish(output, drawn)
    except KeyboardInterrupt as stop:
        raise Interrupted(
            f"interrupted: {job.samples()} of {output.stream.n} samples are on the disk; go on "
            f"with the same command, or with `unnoise sample {folder} --resume --out {out}`"
        ) from stop
    finally:
        job.helpers.stop()
    nfe = 0 if done is None else done["passes"]
    notes = tuple(job.helpers.notes)
    return JobReport(out, output.stream.n, nfe, job.drawn, False, done is not None, notes)


def output_for(folder: Path, out: Path, request: SampleRequest) -> tuple[Output, dict[str, Any]]:
    """Return the output of a request and what its bytes depend on; nothing is written yet."""
    model = Model.load(folder, request.precision, request.device)
    check_classes(request)
    stream = open_stream(model.facts, request)
    return open_output(out, stream), drawn_by(model, stream)


def check_classes(request: SampleRequest) -> None:
    """Raise InvalidArgument where more classes are to be taken in turn than samples drawn."""
    condition = request.condition if isinstance(request.condition, dict) else {}
    turn = condition.get("class")
    if isinstance(turn, CycleClasses) and request.n and len(turn.classes) > request.n:
        raise InvalidArgument(
            f"{len(turn.classes)} classes for {request.n} samples; give --n {len(turn.classes)}"
        )


class Job:
    """This process's part of the work on one output. drawn: the blocks that it drew."""

    def __init__(
        self, output: Output, helpers: Helpers | None = None, progress: Progress | None = None
    ) -> None:
        self.output, self.helpers, self.progress = output, helpers or Helpers(), progress
        self.drawn, self._done, self._counted = 0, 0, 0.0

    def work(
        self, rank: int, count: int, more: int = 1, alive: Callable[[], bool] = lambda: True
    ) -> None:
        """Draw and write the blocks that no other process does, from share `rank` of `count` on.

        more: processes that may share the work, where there is enough of it.
        """
        stream, blocks, began = self.output.stream, self.output.blocks, time.monotonic()
        try:
            for index in blocks.claims(rank * len(stream) // count):
                if not alive():
                    return
                made = stream.draw(stream.blocks[index])
                blocks.mark(index, made.nfe, self.output.write(made))
                self.drawn, self._done = self.drawn + 1, self._done + 1
                self.helpers.look()
                left = self.left(REFRESH)
                ahead = left * (time.monotonic() - began) / self.drawn
                if more > 1 and left > 1 and ahead > WORTH:
                    self.helpers.start(min(more, left) - 1)
                    more = 1
                self.tell()
        except FileNotFoundError:
            if self.output.work.is_dir():
                raise
            # other processes have finished it

    def left(self, age: float = 0.0) -> int:
        """Return how many blocks are not done, of a count that is at most `age` seconds old."""
        if time.monotonic() - self._counted >= age:
            try:
                self._done = len(self.output.blocks.done())
            except FileNotFoundError:  # finished by another process
                self._done = self.output.blocks.count
            self._counted = time.monotonic()
        return self.output.blocks.count - self._done

    def samples(self, age: float = 0.0) -> int:
        """Return how many samples are done."""
        stream, left = self.output.stream, self.left(age)
        return min(stream.n, (len(stream) - left) * stream.batch) if left else stream.n

    def tell(self) -> None:
        """Report the progress."""
        if self.progress is not None:
            self.progress(self.samples(REFRESH), self.output.stream.n)


class Helpers:
    """Processes that this one starts to draw blocks beside it; none until `start`. notes: the ends
    of those that failed."""

    def __init__(self, *job: Any) -> None:
        self.job, self.notes = job, list[str]()
        self.running: list[BaseProcess] = []

    def start(self, count: int) -> None:
        """Start so many."""
        context = multiprocessing.get_context("spawn")
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
        for process in self.running:
            process.join()
        self.running.clear()


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
        if request.device == "auto" and torch.cuda.is_available():
            request = request.but(device=f"cuda:{rank % torch.cuda.device_count()}")
        output, drawn = output_for(folder, out, request)
        if underway(output, drawn):
            Job(output).work(rank, count, alive=lambda: os.getppid() == parent)
    except (UnnoiseError, OSError) as error:
        sys.exit(str(error))


def _most(processes: int | str, output: Output, threads: int) -> int:
    """Return how many processes may work here."""
    if not isinstance(processes, str):
        return processes
    if output.stream.facts.inference.device.type == "cuda":
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
