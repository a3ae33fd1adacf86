"""The state of a sampling job on the disk: its description (samples.json) and the blocks done.

Processes share nothing but the job's folder. A block that is done is a file INDEX-NFE, renamed to
its place, which holds the block's content until the array does; one that is being drawn is locked
by INDEX.lock, and the system releases the lock when the process ends, however it ends.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext, suppress
from pathlib import Path
from typing import Any, TypeVar

import torch
from filelock import FileLock, Timeout

from ..artifacts import Model
from ..artifacts.formats import digest
from ..data import DataSpec
from ..errors import ArtifactError, InvalidArgument, shorten, unknown
from ..recipes import merged_guidance, resolved
from ..safe_files.atomic_folder import created, sync
from ..safe_files.files import read_json, write_json, written
from ..sampling import SampleReport, SampleRequest, Stream
from ..sampling.request import CALL_ONLY
from .sample_files import CARD, Output, places, writing

T = TypeVar("T")
FORMAT = 2
_KEYS = ("format", "unnoise", "torch", "finished", "drawn", "asked", "threads", "passes")


def drawn_by(model: Model, stream: Stream) -> dict[str, Any]:
    """Return everything on which the bytes of samples depend, as plain values."""
    recipe = {k: resolved(getattr(model.recipe, k)) for k in ("network", "model")}
    plan = stream.plan.to_dict()
    tuned = plan.pop("tuned", None)  # the numbers of a tuned solver, which its name leaves open
    return {
        "model": model.recipe.name,
        "weights_sha256": model.weights_sha256,
        "recipe_sha256": digest({**recipe, "path": str(model.denoiser.path)}),
        "data_sha256": digest(_described(model.spec)),
        **{name: getattr(stream.request, name) for name in CALL_ONLY},
        "n": stream.n,
        "precision": model.precision,
        **plan,
        "solver_sha256": None if tuned is None else digest(tuned),
        "classes": None if stream.labels is None else stream.labels.to_dict(),
        **({"conditions": others} if (others := stream.conditions.to_dict()) else {}),
    }


def _described(spec: DataSpec) -> dict[str, Any]:
    """Return a description of data; with labels alone in the form of earlier releases, so that
    their outputs can be resumed."""
    tree = spec.to_dict()
    if not tree["conditions"].keys() - {"class"}:
        labels = tree.pop("conditions").get("class")
        tree["class_names"] = None if labels is None else labels["names"]
    return tree


def request_again(out: Path) -> SampleRequest:
    """Return the request that an output was begun with. Raises InvalidArgument where none was."""
    work, card = places(out)
    place = next((p for p in (work / CARD, card) if p.is_file()), None)
    if place is None:
        raise InvalidArgument(
            f"there is nothing to go on with at {out}; leave --resume out to begin"
        )
    return SampleRequest.of(**read(place)["asked"])


def read(place: Path) -> dict[str, Any]:
    """Return a samples.json, its keys checked, of format 1 with the guidance of format 2."""
    tree = read_json(place)
    remedy = "it is damaged, or of another release: move it away"
    if not isinstance(tree, dict) or tree.get("format") not in (1, FORMAT):
        raise ArtifactError(f"{place} is no samples.json of format {FORMAT}; {remedy}")
    for key in tree:
        if key not in _KEYS:
            raise unknown(f"key of {place}", key, _KEYS, ArtifactError)
    for key, kind in (("drawn", dict), ("asked", dict), ("finished", bool), ("threads", int)):
        if not isinstance(tree.get(key), kind):
            raise ArtifactError(f"{place}: {key} is {tree.get(key)!r:.80}; {remedy}")
    if tree["format"] == 1:  # had three keys of guidance, and for the solver all of its settings
        drawn = {key: value for key, value in tree["drawn"].items() if key != "solver"}
        flat = {key: drawn.pop(key, None) for key in ("guidance", "interval", "rescale")}
        tree["drawn"] = drawn | {"guidance": merged_guidance((), flat)}
    return tree


class Job:
    """The drawing of one output. drawn: the result of `drawn_by`, all on which its bytes depend."""

    def __init__(self, output: Output, drawn: Mapping[str, Any]) -> None:
        self.output, self.stream, self.drawn = output, output.stream, dict(drawn)
        self.work, self.blocks = output.work, output.blocks

    def found(self) -> dict[str, Any] | None:
        """Return the samples.json of the output, finished or begun; None where there is none.
        Raises ArtifactError if the output is damaged, of another request or of an older release."""
        out, card = self.output.out, self.output.card
        damage = self.output.damage() if card.is_file() else ""
        if damage != "":  # else nothing is there, or it was removed and the description left
            tree = self._same(card, "holds samples", "remove it")
            if damage:
                raise ArtifactError(
                    f"{damage}, though {card} has it as finished; remove both to draw again"
                )
            shutil.rmtree(self.work, ignore_errors=True)  # of one that was killed at its very end
            return tree
        if not (self.work / CARD).is_file():
            return None
        tree = self._same(self.work / CARD, "was begun", f"remove {self.work} to start anew")
        if tree["format"] < FORMAT:
            raise ArtifactError(
                f"{out} was begun by an older release of unnoise, whose unfinished work this one "
                "cannot go on with; finish it with that release, or remove "
                f"{self.work if out.suffix else out} to start anew"
            )
        return tree

    def begin(self, threads: int) -> dict[str, Any]:
        """Return the samples.json of the output, finished or unfinished, of the same request; begin
        the work if there is none. Raises ArtifactError, with nothing changed."""
        if tree := self.found():
            return tree
        self._need_free()
        with created(self.work):
            return self._alone(lambda: self.found() or self._begin(threads))

    def _begin(self, threads: int) -> dict[str, Any]:
        from .. import __version__

        asked = self.stream.request.to_dict()
        tree = {
            "format": FORMAT, "unnoise": __version__, "torch": str(torch.__version__),
            "finished": False, "drawn": self.drawn, "asked": asked, "threads": threads,
        }  # fmt: skip
        try:
            self._need_free()
            self.output.begin()
            write_json(self.work / CARD, tree)
        except BaseException:
            shutil.rmtree(self.work, ignore_errors=True)
            raise
        return tree

    def finish(self) -> dict[str, Any] | None:
        """Move a complete output to its place and return its samples.json; None while blocks are
        missing."""
        return self._alone(self._finish)

    def _finish(self) -> dict[str, Any] | None:
        if (tree := self.found()) and tree["finished"]:
            return tree
        if len(done := self.done()) < len(self.stream):
            return None
        self.output.finish(done)
        tree = read(self.work / CARD) | {"finished": True, "passes": max(done.values())}
        write_json(self.output.card, tree, self.work)
        sync(self.output.card.parent)
        shutil.rmtree(self.work, ignore_errors=True)
        return tree

    def _alone(self, act: Callable[[], T]) -> T | dict[str, Any]:
        """Return act(), while no other process begins or finishes this output."""
        with writing(self.output.out):
            try:
                with FileLock(self.work / "lock"):
                    return act()
            except FileNotFoundError:  # another process has just finished it: the folder is gone
                if (tree := self.found()) and tree["finished"]:
                    return tree
                raise

    def done(self) -> dict[int, int]:
        """Return the network evaluations a sample of each block that is done. Raises
        FileNotFoundError without a work folder: the output may be finished."""
        names = (name.split("-") for name in os.listdir(self.blocks) if name[0] != ".")
        found = {int(name[0]): int(name[1]) for name in names if len(name) == 2}
        if found and max(found) >= len(self.stream):
            raise ArtifactError(
                f"{self.blocks} holds block {max(found)} of {len(self.stream)}; it is damaged: "
                f"remove {self.work} to start anew"
            )
        return found

    def samples(self) -> int:
        """Return how many samples are on the disk."""
        with suppress(FileNotFoundError):
            return sum(len(self.stream.rows(self.stream.blocks[index])) for index in self.done())
        return self.stream.n

    def keep(self, index: int, made: SampleReport) -> None:
        """Write a block; its file is written last, whole or not at all."""
        content, path = self.output.write(made), self.blocks / f"{index:08d}-{made.nfe}"
        with writing(path), written(path) as file:
            file.write(content)

    def claims(self, start: int = 0) -> Iterator[int]:
        """Yield the blocks that are free, from `start` on, each locked while it is drawn.

        Blocks of a process that dies become free. On a file system without locks a block may be
        drawn twice, with the same bytes.
        """
        claimed = True
        while claimed:
            claimed, done = False, self.done()
            for k in range(len(self.stream)):
                index = (start + k) % len(self.stream)
                if index in done:
                    continue
                with suppress(Timeout), self._locked(index):
                    if not (self.work / CARD).is_file():  # finished meanwhile
                        return
                    if not any(self.blocks.glob(f"{index:08d}-*")):
                        claimed = True
                        yield index

    def _locked(self, index: int) -> AbstractContextManager[Any]:
        lock = FileLock(self.blocks / f"{index:08d}.lock", blocking=False)
        with suppress(NotImplementedError):
            return lock.acquire()
        return nullcontext()

    def _need_free(self) -> None:
        if reason := self.output.occupied():
            raise ArtifactError(
                f"{reason}, which these samples would be written over; give another --out, or move "
                "it away"
            )

    def _same(self, place: Path, state: str, way: str) -> dict[str, Any]:
        """Return a samples.json. Raises ArtifactError if it describes other samples than these,
        apart from a precision that each process chose by its own measurement."""
        tree, now = read(place), self.drawn
        before = {"solver": now["solver"]} | tree["drawn"]  # format 1 has no name of the solver
        if self.stream.request.precision == "auto" and "precision" in before:
            now = now | {"precision": before["precision"]}
        keys = [k for k in {**now, **before} if before.get(k) != now.get(k)]
        if keys:
            differs = "; ".join(
                f"{k} {shorten(str(before.get(k)), 60)}, not {shorten(str(now.get(k)), 60)}"
                for k in keys
            )
            raise ArtifactError(
                f"{self.output.out} {state} with {differs}; give another --out, ask for the same "
                f"again (--resume does), or {way}"
            )
        return tree
