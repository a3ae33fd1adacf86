"""What an output was begun with, and what may go on with it: samples.json."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import torch

from ..artifacts import Model
from ..artifacts.formats import digest
from ..errors import ArtifactError, InvalidArgument, need_count, shorten, unknown
from ..recipes import resolved
from ..safe_files.atomic_folder import created, sync
from ..safe_files.files import read_json, write_json
from ..sampling import InTurn, Stream
from .sample_blocks import Blocks
from .sample_files import Output, places, writing

FORMAT, CARD = 1, "samples.json"
_KEYS = ("format", "unnoise", "torch", "finished", "drawn", "asked", "threads", "passes")


@dataclass(frozen=True)
class Asked:
    """What a call asks for, as `Model.stream` takes it; None is as the model says.

    classes: by index or name, which the samples are of in turn; None for all.
    """

    n: int = 40
    solver: str | None = None
    steps: int | None = None
    grid: str | None = None
    guidance: float | None = None
    classes: tuple[str, ...] | None = None
    seed: int = 0
    first: int = 0
    batch: int = 250
    precision: str = "auto"

    @staticmethod
    def of(given: Mapping[str, Any]) -> Asked:
        """From plain values, those that are None left out."""
        known = [f.name for f in fields(Asked)]
        for name in given:
            if name not in known:
                raise unknown("option of sampling", name, known)
        tree = {k: v for k, v in given.items() if v is not None}
        if tree.get("classes") is not None:
            tree["classes"] = tuple(tree["classes"])
        return Asked(**tree)

    @staticmethod
    def again(out: Path, given: Mapping[str, Any]) -> Asked:
        """What an output was begun with, and what is given beside. Raises InvalidArgument where
        nothing was begun there."""
        work, card = places(out)
        place = next((p for p in (work / CARD, card) if p.is_file()), None)
        if place is None:
            raise InvalidArgument(
                f"there is nothing to go on with at {out}; leave --resume out to begin"
            )
        given = {k: v for k, v in given.items() if v is not None}
        return Asked.of({**read(place)["asked"], **given})

    def stream(self, model: Model) -> Stream:
        """The samples that are asked for, checked."""
        turn = None
        need_count("n", self.n)
        if self.classes:
            if len(self.classes) > self.n:
                raise InvalidArgument(
                    f"{len(self.classes)} classes for {self.n} samples; "
                    f"give --n {len(self.classes)}"
                )
            turn = {"class": InTurn(self.classes)}
        return model.stream(
            self.n, solver=self.solver, steps=self.steps, grid=self.grid, guidance=self.guidance,
            condition=turn, seed=self.seed, batch=self.batch, first=self.first,
        )  # fmt: skip


def request(model: Model, stream: Stream) -> dict[str, Any]:
    """Everything that the bytes of samples depend on, as plain values."""
    plan = stream.plan
    recipe = {k: resolved(getattr(model.recipe, k)) for k in ("network", "model")}
    to_dict = getattr(plan.solver, "to_dict", None)  # of a tuned one, whose name says no numbers
    times = ",".join(float(t).hex() for t in plan.grid)
    return {
        "model": model.recipe.name,
        "weights_sha256": model.weights_sha256,
        "recipe_sha256": digest({**recipe, "path": str(model.denoiser.path)}),
        "data_sha256": digest(model.spec.to_dict()),
        "n": stream.n,
        "first": stream.first,
        "seed": stream.seed,
        "batch": stream.batch,
        "solver": str(plan.solver),
        "solver_sha256": None if to_dict is None else digest(to_dict()),
        "steps": len(plan.grid) - 1,
        "grid": plan.spacing,
        "times_sha256": hashlib.sha256(times.encode()).hexdigest(),
        "guidance": plan.config.guidance,
        "interval": None if plan.config.interval is None else list(plan.config.interval),
        "rescale": plan.config.rescale,
        "precision": model.precision,
        "classes": None if stream.labels is None else stream.labels.to_dict(),
    }


def read(place: Path) -> dict[str, Any]:
    """A samples.json, its keys checked. Raises ArtifactError."""
    tree = read_json(place)
    remedy = "it is damaged, or of another release: move it away"
    if not isinstance(tree, dict) or tree.get("format") != FORMAT:
        raise ArtifactError(f"{place} is no samples.json of format {FORMAT}; {remedy}")
    for key in tree:
        if key not in _KEYS:
            raise unknown(f"key of {place}", key, _KEYS, ArtifactError)
    for key, kind in (("drawn", dict), ("asked", dict), ("finished", bool), ("threads", int)):
        if not isinstance(tree.get(key), kind):
            raise ArtifactError(f"{place}: {key} is {tree.get(key)!r:.80}; {remedy}")
    return tree


def finished(output: Output, drawn: Mapping[str, Any]) -> dict[str, Any] | None:
    """The samples.json of an output that is finished; None where it is not.

    Raises ArtifactError where it holds other samples than these, or is damaged.
    """
    if not output.card.is_file():
        return None
    damage = output.damage()
    if damage == "":  # it was removed, and only its description left
        return None
    tree = read(output.card)
    _need_same(output, tree["drawn"], drawn, "holds samples")
    if damage:
        raise ArtifactError(
            f"{damage}, though {output.card} says that it was finished; remove both to draw again"
        )
    return tree


def begin(output: Output, drawn: Mapping[str, Any], asked: Asked, threads: int) -> dict[str, Any]:
    """The samples.json in force: of an output that is finished, of one that was begun with the
    same, or of one that is begun now. Raises ArtifactError, with nothing changed, otherwise."""
    if tree := finished(output, drawn):
        shutil.rmtree(output.work, ignore_errors=True)  # of one that was killed at its very end
        return tree
    if not (output.work / CARD).is_file():
        _need_free(output)
    try:
        with writing(output.out), created(output.work):
            return _begin(output, drawn, asked, threads)
    except Gone:  # another process has just finished it
        return begin(output, drawn, asked, threads)


def _begin(output: Output, drawn: Mapping[str, Any], asked: Asked, threads: int) -> dict[str, Any]:
    with lock(output):
        if tree := finished(output, drawn):  # by another process meanwhile
            shutil.rmtree(output.work, ignore_errors=True)
            return tree
        if (output.work / CARD).is_file():
            tree = read(output.work / CARD)
            _need_same(output, tree["drawn"], drawn, "was begun")
            return tree
        try:
            _need_free(output)
            with writing(output.out):
                output.begin()
                Blocks.create(output.work / "blocks", len(output.stream))
            write_json(output.work / CARD, tree := _new(drawn, asked, threads))
        except BaseException:
            shutil.rmtree(output.work, ignore_errors=True)
            raise
    return tree


def underway(output: Output, drawn: Mapping[str, Any]) -> bool:
    """Whether there is work to join, of an output that another process has begun. Raises
    ArtifactError where it was begun with anything else."""
    place = output.work / CARD
    if not place.is_file():
        return False
    _need_same(output, read(place)["drawn"], drawn, "was begun")
    return True


def finish(output: Output, drawn: Mapping[str, Any]) -> dict[str, Any] | None:
    """Bring a complete output to its place: its samples.json, or None while blocks are missing."""
    try:
        return _finish(output, drawn)
    except Gone:
        return finished(output, drawn)


def _finish(output: Output, drawn: Mapping[str, Any]) -> dict[str, Any] | None:
    with lock(output):
        if (tree := finished(output, drawn)) is None:
            with Blocks(output.work / "blocks", len(output.stream)) as blocks:
                if blocks.missing():
                    return None
                nfe = blocks.nfe()
            output.finish()
            tree = read(output.work / CARD) | {"finished": True, "passes": nfe}
            write_json(output.work / "finished.json", tree)
            with writing(output.out):
                (output.work / "finished.json").replace(output.card)
                sync(output.card.parent)
        shutil.rmtree(output.work, ignore_errors=True)
    return tree


class Gone(Exception):
    """The work folder of an output is there no more."""


@contextmanager
def lock(output: Output) -> Iterator[None]:
    """One process at a time begins or finishes an output. Raises Gone where it is finished already,
    and its work folder removed."""
    from filelock import FileLock

    held = FileLock(output.work / "lock")
    try:
        with writing(output.out):
            held.acquire()
    except ArtifactError as error:
        if not output.work.is_dir():
            raise Gone from error
        raise
    try:
        yield
    finally:
        held.release()


def _new(drawn: Mapping[str, Any], asked: Asked, threads: int) -> dict[str, Any]:
    from .. import __version__

    given = {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(asked).items()}
    return {
        "format": FORMAT,
        "unnoise": __version__,
        "torch": str(torch.__version__),
        "finished": False,
        "drawn": dict(drawn),
        "asked": given,
        "threads": threads,
    }


def _need_free(output: Output) -> None:
    if reason := output.occupied():
        raise ArtifactError(
            f"{reason}, which these samples would be written over; give another --out, or move it "
            "away"
        )


def _need_same(
    output: Output, before: Mapping[str, Any], now: Mapping[str, Any], state: str
) -> None:
    keys = [k for k in {**now, **before} if before.get(k) != now.get(k)]
    if not keys:
        return
    said = "; ".join(
        f"{k} {shorten(str(before.get(k)), 60)}, not {shorten(str(now.get(k)), 60)}" for k in keys
    )
    way = "remove it" if state == "holds samples" else f"remove {output.work} to start anew"
    raise ArtifactError(
        f"{output.out} {state} with {said}; give another --out, ask for the same again (--resume "
        f"does), or {way}"
    )
