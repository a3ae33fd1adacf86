"""What a job of sampling was begun with, and what may go on with it: samples.json."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from filelock import FileLock

from ..artifacts import Model
from ..artifacts.formats import digest
from ..errors import ArtifactError, InvalidArgument, shorten, unknown
from ..recipes import merged_guidance, resolved
from ..safe_files.atomic_folder import created, sync
from ..safe_files.files import read_json, write_json
from ..sampling import SampleRequest, Stream
from ..sampling.request import CALL_ONLY
from .sample_files import Output, places, writing

FORMAT, CARD = 2, "samples.json"
_KEYS = ("format", "unnoise", "torch", "finished", "drawn", "asked", "threads", "passes")


def request_again(out: Any) -> SampleRequest:
    """Return the request that an output was begun with. Raises InvalidArgument where nothing was
    begun there."""
    work, card = places(out)
    place = next((p for p in (work / CARD, card) if p.is_file()), None)
    if place is None:
        raise InvalidArgument(
            f"there is nothing to go on with at {out}; leave --resume out to begin"
        )
    return SampleRequest.of(**read(place)["asked"])


def drawn_by(model: Model, stream: Stream) -> dict[str, Any]:
    """Return everything that the bytes of samples depend on, as plain values."""
    recipe = {k: resolved(getattr(model.recipe, k)) for k in ("network", "model")}
    plan = stream.plan.to_dict()
    tuned = plan.pop("tuned", None)  # of a tuned solver, whose name implies no numbers
    return {
        "model": model.recipe.name,
        "weights_sha256": model.weights_sha256,
        "recipe_sha256": digest({**recipe, "path": str(model.denoiser.path)}),
        "data_sha256": digest(model.spec.to_dict()),
        **{name: getattr(stream.request, name) for name in CALL_ONLY},
        "n": stream.n,
        "precision": model.precision,
        **plan,
        "solver_sha256": None if tuned is None else digest(tuned),
        "classes": None if stream.labels is None else stream.labels.to_dict(),
    }


def read(place: Any) -> dict[str, Any]:
    """Return a samples.json in the newest format, its keys checked. Raises ArtifactError."""
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
    return _from_1(tree) if tree["format"] == 1 else tree


def _from_1(tree: dict[str, Any]) -> dict[str, Any]:
    """Format 1 had a guidance of three keys, and the solver's settings for its name."""
    drawn = {key: value for key, value in tree["drawn"].items() if key != "solver"}
    flat = {key: drawn.pop(key, None) for key in ("guidance", "interval", "rescale")}
    return tree | {"drawn": drawn | {"guidance": merged_guidance((), flat)}}


def finished(output: Output, drawn: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return the samples.json of an output that is finished; None where it is not.

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


def begin(
    output: Output, drawn: Mapping[str, Any], request: SampleRequest, threads: int
) -> dict[str, Any]:
    """Return the samples.json in force: of an output that is finished, of one that was begun with
    the same, or of one that is begun now. Raises ArtifactError, with nothing changed, otherwise."""
    if tree := finished(output, drawn):
        shutil.rmtree(output.work, ignore_errors=True)  # of one that was killed at its very end
        return tree
    if not (output.work / CARD).is_file():
        _need_free(output)
    try:
        with writing(output.out), created(output.work), locked(output):
            return _begin(output, drawn, request, threads)
    except Gone:  # another process has just finished it
        return begin(output, drawn, request, threads)


def _begin(
    output: Output, drawn: Mapping[str, Any], request: SampleRequest, threads: int
) -> dict[str, Any]:
    if tree := finished(output, drawn):  # by another process meanwhile
        shutil.rmtree(output.work, ignore_errors=True)
        return tree
    if tree := underway(output, drawn):
        return tree
    try:
        _need_free(output)
        with writing(output.out):
            output.begin()
        write_json(output.work / CARD, tree := _new(drawn, request, threads))
    except BaseException:
        shutil.rmtree(output.work, ignore_errors=True)
        raise
    return tree


def underway(output: Output, drawn: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return the samples.json of work that was begun; None where there is none. Raises
    ArtifactError where it was begun with anything else, or by an older release."""
    place = output.work / CARD
    if not place.is_file():
        return None
    tree = read(place)
    if tree["format"] == 1:
        raise ArtifactError(
            f"{output.out} was begun by an older release of unnoise, whose unfinished work this "
            f"one cannot go on with; finish it with that release ({tree.get('unnoise')!s:.20}), or "
            f"remove {output.work if output.out.suffix else output.out} to start anew"
        )
    _need_same(output, tree["drawn"], drawn, "was begun")
    return tree


def finish(output: Output, drawn: Mapping[str, Any]) -> dict[str, Any] | None:
    """Bring a complete output to its place: its samples.json, or None while blocks are missing."""
    try:
        with locked(output):
            if (tree := finished(output, drawn)) is None:
                done = output.blocks.done()
                if len(done) < output.blocks.count:
                    return None
                output.finish()
                tree = read(output.work / CARD) | {"finished": True, "passes": max(done.values())}
                write_json(output.work / "finished.json", tree)
                with writing(output.out):
                    (output.work / "finished.json").replace(output.card)
                    sync(output.card.parent)
            shutil.rmtree(output.work, ignore_errors=True)
            return tree
    except Gone:
        return finished(output, drawn)


class Gone(Exception):
    """The work folder of an output is there no more."""


@contextmanager
def locked(output: Output) -> Iterator[None]:
    """One process at a time begins or finishes an output. Raises Gone where it is finished already,
    and its work folder removed."""
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


def _new(drawn: Mapping[str, Any], request: SampleRequest, threads: int) -> dict[str, Any]:
    from .. import __version__

    return {
        "format": FORMAT,
        "unnoise": __version__,
        "torch": str(torch.__version__),
        "finished": False,
        "drawn": dict(drawn),
        "asked": request.to_dict(),
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
    """Raise ArtifactError where samples differ; what an older release did not note may be any."""
    before = {"solver": now["solver"], **before}
    keys = [k for k in {**now, **before} if before.get(k) != now.get(k)]
    if not keys:
        return
    differs = "; ".join(
        f"{k} {shorten(str(before.get(k)), 60)}, not {shorten(str(now.get(k)), 60)}" for k in keys
    )
    way = "remove it" if state == "holds samples" else f"remove {output.work} to start anew"
    raise ArtifactError(
        f"{output.out} {state} with {differs}; give another --out, ask for the same again "
        f"(--resume does), or {way}"
    )
