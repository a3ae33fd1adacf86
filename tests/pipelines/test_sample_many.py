"""Samples to the disk: the same bytes however the work is split, stopped and gone on with."""

import json
import os
import resource
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

sys.path.insert(0, str(Path(__file__).parents[2] / "tools" / "campaigns"))

from forked import Killer, fork

from tests.training.tiny import model_of, tiny
from unnoise.artifacts import load
from unnoise.errors import ArtifactError
from unnoise.pipelines import sample_many
from unnoise.pipelines.sample_many import Helpers, Interrupted, job_for
from unnoise.sampling import SampleRequest

SMALL = "network={kind: mlp, width: 8, depth: 1}"
OPTIONS = {"n": 11, "batch": 4, "steps": 2, "seed": 3, "precision": "fp32"}
KINDS = {"array": "x.npy", "folder": "x"}


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """Where a class-conditional model lies; not to be changed."""
    return model_of(tiny(SMALL), 0.3).save(tmp_path_factory.mktemp("many") / "model")


@pytest.fixture(scope="module")
def whole(model, tmp_path_factory):
    """Folders with the samples of OPTIONS, drawn without a break, by kind of output."""
    places = {kind: tmp_path_factory.mktemp(kind) for kind in KINDS}
    for kind, name in KINDS.items():
        made = sample_many(model, places[kind] / name, **OPTIONS)
        assert (made.blocks, made.nfe, made.finished, made.before) == (3, 4, True, False)
    return places


def files(folder):
    """Every file below a folder: its bytes."""
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def stopped(model, out, after=1, **options):
    """Begin an output and stop after so many blocks."""
    counted = []

    def stop(done, n):
        counted.append(done)
        if len(counted) == after:
            raise KeyboardInterrupt

    with pytest.raises(Interrupted, match="go on with the same command"):
        sample_many(model, out, **{**OPTIONS, **options}, progress=stop)
    return out


def test_an_array_holds_what_the_model_draws(model, whole):
    loaded, place = load(model, "fp32"), whole["array"]
    expected = loaded.sample(11, steps=2, seed=3, batch=4)
    assert np.array_equal(np.load(place / "x.npy"), expected.values)
    assert np.load(place / "x.npy").dtype == np.uint8
    assert np.array_equal(np.load(place / "x.labels.npy"), expected.labels)
    card = json.loads((place / "x.samples.json").read_text())
    assert (card["finished"], card["passes"], card["threads"]) == (True, 4, 1)
    drawn = card["drawn"]
    assert drawn["weights_sha256"] == loaded.weights_sha256
    said = [drawn[k] for k in ("n", "first", "seed", "batch", "steps", "solver", "precision")]
    assert said == [11, 0, 3, 4, 2, "dpmpp_2m", "fp32"]
    assert drawn["guidance"] == [{"kind": "classifier_free", "scale": 1.5, "rescale": 0.0}]
    assert sorted(files(place)) == ["x.labels.npy", "x.npy", "x.samples.json"]


def test_a_folder_holds_what_the_model_draws(model, whole):
    loaded, place = load(model, "fp32"), whole["folder"] / "x"
    made = loaded.sample(11, steps=2, seed=3, batch=4)
    pixels, names = loaded.spec.pixels(made.x)[:, 0].numpy(), loaded.spec.class_names
    lines = (place / "labels.csv").read_text().splitlines()
    assert lines[0] == "file_name,label,class"
    for i, (picture, label) in enumerate(zip(pixels, made.labels.tolist(), strict=True)):
        name = f"{i:05d}-{names[label]}.png"
        assert np.array_equal(np.asarray(Image.open(place / name)), picture)
        assert lines[i + 1] == f"{name},{label},{names[label]}"
    assert len(files(place)) == 13


@pytest.mark.parametrize("kind", KINDS)
def test_killed_before_any_of_its_file_operations(kind, model, whole, tmp_path):
    """SIGKILL at every third operation, and once more on the way back: the same bytes."""

    def run(folder, at):
        def work(say):
            killer = Killer(at)
            killer.armed = True
            sample_many(model, folder / KINDS[kind], **OPTIONS)
            killer.armed = False
            say(f"operations {killer.count}")

        folder.mkdir(exist_ok=True)
        return fork(work, tmp_path / "errors.txt").end()

    code, said = run(tmp_path / "all", None)
    assert code == 0, (tmp_path / "errors.txt").read_text()
    count = int(said[-1].split()[1])
    assert count > 15
    partial = 0
    for at in range(0, count, 3):
        place = tmp_path / str(at)
        assert run(place, at)[0] == -9
        partial += any(p.name.endswith(".partial") for p in place.rglob("*"))
        if at % 2:
            assert run(place, 7)[0] in (-9, 0)
        made = sample_many(model, place / KINDS[kind], **OPTIONS)
        assert made.finished
        assert files(place) == files(whole[kind])
        shutil.rmtree(place)
    assert partial > 2


def test_what_is_finished_is_not_drawn_again(model, whole, monkeypatch):
    from unnoise.sampling import Stream

    monkeypatch.setattr(Stream, "draw", lambda *_: pytest.fail("it was drawn again"))
    for kind, name in KINDS.items():
        before = files(whole[kind])
        for resume in (False, True):
            made = sample_many(model, whole[kind] / name, **OPTIONS, resume=resume)
            assert (made.before, made.blocks, made.nfe, made.n) == (True, 0, 4, 11)
        assert files(whole[kind]) == before


def test_only_what_is_missing_is_drawn(model, whole, tmp_path):
    stopped(model, tmp_path / "x.npy", after=2)
    names = sorted(p.name for p in (tmp_path / "x.npy.partial" / "blocks").glob("*-*"))
    assert names == ["00000000-4", "00000001-4"]
    made = sample_many(model, tmp_path / "x.npy", resume=True)
    assert made.blocks == 1
    assert files(tmp_path) == files(whole["array"])


def draws(model, out, rank, count, say, before=None, **options):
    """Take part as a launcher's process; says how many blocks it drew."""
    os.environ |= {"RANK": str(rank), "WORLD_SIZE": str(count), "LOCAL_RANK": str(rank)}
    if before is not None:
        from unnoise.pipelines import sample_files

        write = sample_files.ArrayOutput.write

        def watched(self, block):
            before(block)
            return write(self, block)

        sample_files.ArrayOutput.write = watched
    made = sample_many(model, out, **{**OPTIONS, **options})
    say(f"{made.blocks} {made.finished}")


def test_processes_that_a_launcher_started_share_the_blocks(model, tmp_path):
    options = {"n": 240, "batch": 4}
    children = [
        fork(
            lambda say, rank=rank: draws(model, tmp_path / "two.npy", rank, 2, say, **options),
            tmp_path / "errors.txt",
        )
        for rank in range(2)
    ]
    said = [child.end() for child in children]
    assert [code for code, _ in said] == [0, 0], (tmp_path / "errors.txt").read_text()
    counts = [int(words[-1].split()[0]) for _, words in said]
    assert sum(counts) == 60  # each block once
    assert "True" in said[0][1][-1] + said[1][1][-1]
    sample_many(model, tmp_path / "one.npy", **OPTIONS | options)
    one, two = np.load(tmp_path / "one.npy"), np.load(tmp_path / "two.npy")
    assert np.array_equal(one, two)
    labels = [np.load(tmp_path / f"{name}.labels.npy") for name in ("one", "two")]
    assert np.array_equal(*labels)


def test_a_unet_in_the_machine_s_own_precision_gives_the_same_bits_to_two(tmp_path):
    unet = model_of(tiny(), 0.3).save(tmp_path / "unet")
    options = {"n": 46, "batch": 4, "precision": "auto", "steps": 3}
    children = [
        fork(
            lambda say, rank=rank: draws(unet, tmp_path / "two.npy", rank, 2, say, **options),
            tmp_path / "errors.txt",
        )
        for rank in range(2)
    ]
    assert [child.end()[0] for child in children] == [0, 0], (tmp_path / "errors.txt").read_text()
    sample_many(unet, tmp_path / "one.npy", **OPTIONS | options)
    one, two = np.load(tmp_path / "one.npy"), np.load(tmp_path / "two.npy")
    assert np.array_equal(one, two)
    assert len(np.unique(one)) > 3


def test_the_block_of_a_process_that_is_killed_is_taken_over(model, whole, tmp_path):
    def die(block):
        if block.first == 4:
            os.kill(os.getpid(), signal.SIGKILL)

    place = tmp_path / "a"
    place.mkdir()
    child = fork(lambda say: draws(model, place / "x.npy", 0, 2, say, die), tmp_path / "errors.txt")
    assert child.end()[0] == -9
    made = sample_many(model, place / "x.npy", **OPTIONS)
    assert (made.blocks, made.finished) == (2, True)
    assert files(place) == files(whole["array"])


def begun(model, out, blocks):
    """A job of so many blocks that was begun, and a function that marks one as done."""
    job = job_for(model, out, SampleRequest.of(**{**OPTIONS, "n": blocks, "batch": 1}))
    job.begin(1)
    return job, lambda k, nfe=1: (job.blocks / f"{k:08d}-{nfe}").touch()


def test_a_block_that_another_process_holds_is_left_to_it(model, tmp_path):
    job, mark = begun(model, tmp_path / "x.npy", 5)

    def other(say):
        mine = []
        for k in job.claims(2):
            mine.append(k)
            mark(k)
        say(str(mine))

    claims = job.claims()
    assert next(claims) == 0
    assert fork(other, tmp_path / "errors.txt").end()[1] == ["[2, 3, 4, 1]"]
    assert len(job.done()) == 4
    mark(0, 7)
    assert list(claims) == []
    assert job.done() == {0: 7, 1: 1, 2: 1, 3: 1, 4: 1}


def test_the_samples_on_the_disk_are_counted_block_by_block(model, tmp_path):
    """The first block of samples 4 … 10 in blocks of 5 has one sample, and the last one too."""
    request = SampleRequest.of(**{**OPTIONS, "n": 7, "first": 4, "batch": 5})
    job = job_for(model, tmp_path / "x.npy", request)
    job.begin(1)
    counts = []
    for k in (0, 1, 2):
        (job.blocks / f"{k:08d}-1").touch()
        counts.append(job.samples())
    assert counts == [1, 6, 7]


def test_a_block_whose_holder_dies_meanwhile_is_had_in_the_end(model, tmp_path):
    job, mark = begun(model, tmp_path / "x.npy", 4)

    def other(say):
        mine = job.claims()
        say(f"held {next(mine)}")
        signal.pause()

    child, had = fork(other, tmp_path / "errors.txt"), []
    assert os.read(child.words, 100) == b"held 0\n"
    for k in job.claims():
        had.append(k)
        mark(k)
        if len(had) == 1:
            os.kill(child.pid, signal.SIGKILL)
            child.end()
    assert had == [1, 2, 3, 0]


def test_processes_that_it_starts_itself(model, tmp_path):
    """Started for real: the same bytes as one process alone, also when one cannot work."""
    options = OPTIONS | {"n": 400, "batch": 2}
    made = sample_many(model, tmp_path / "two" / "x", **options, processes=2)
    assert made.finished
    assert not made.notes
    sample_many(model, tmp_path / "one" / "x", **options)
    assert files(tmp_path / "one") == files(tmp_path / "two")


def test_a_helper_that_fails_is_said():
    class Gone:
        exitcode = -9

    helpers = Helpers()
    helpers.processes = [Gone()]
    helpers.stop()
    assert not helpers.running()
    assert "ended with -9" in helpers.notes()[0]


def test_torchrun_for_real(model, whole, tmp_path):
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    words = ["-n", 11, "--batch", 4, "--steps", 2, "--seed", 3, "--precision", "fp32"]
    command = [*launch, "-m", "unnoise", "sample", model, "--out", "x.npy", *words]
    done = subprocess.run(
        [str(word) for word in command], cwd=tmp_path, capture_output=True, text=True, timeout=300,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    for name in ("x.npy", "x.labels.npy"):
        assert (tmp_path / name).read_bytes() == (whole["array"] / name).read_bytes()


def test_memory_does_not_grow_with_n(tmp_path):
    """160 MB of samples in 32 blocks: a process that held them would grow by that and more."""
    np.save(tmp_path / "v.npy", np.random.default_rng(0).normal(size=(40, 4096)).astype("float32"))
    data = ["data.source=arrays", f"data.path={tmp_path / 'v.npy'}", "data.split={}"]
    wide = model_of(tiny(*data, SMALL, "sample.guidance=1")).save(tmp_path / "wide")
    options = {"batch": 320, "steps": 1, "solver": "ddim", "precision": "fp32"}

    def work(say):
        peaks = []
        for n in (640, 10_240):
            sample_many(wide, tmp_path / f"{n}.npy", n, **options)
            peaks.append(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
        say(str((peaks[1] - peaks[0]) / 1024))

    code, said = fork(work, tmp_path / "errors.txt").end()
    assert code == 0, (tmp_path / "errors.txt").read_text()
    assert np.load(tmp_path / "10240.npy", mmap_mode="r").shape == (10_240, 4096)
    assert float(said[-1]) < 40  # MB


def test_a_stream_of_any_length_is_made_at_once(model):
    stream = load(model, "fp32").stream(10**15, steps=1, solver="ddim", batch=3, first=10**12)
    assert len(stream) == (10**15 + 2) // 3
    last = stream.draw(stream.blocks[-1])
    end = 10**12 + 10**15
    assert stream.rows(stream.blocks[-1]).stop == end
    assert last.labels.tolist() == [i % 10 for i in range(last.first, end)]


def test_blocks_lie_where_they_lie_whatever_the_first_is(model, whole, tmp_path):
    sample_many(model, tmp_path / "x.npy", **{**OPTIONS, "n": 7, "first": 4})
    assert np.array_equal(np.load(tmp_path / "x.npy"), np.load(whole["array"] / "x.npy")[4:])
    assert np.load(tmp_path / "x.labels.npy").tolist() == [4, 5, 6, 7, 8, 9, 0]
    sample_many(model, tmp_path / "y", **{**OPTIONS, "n": 2, "first": 9})
    one, other = tmp_path / "y", whole["folder"] / "x"
    assert sorted(p.name for p in one.glob("*.png")) == ["00009-9.png", "00010-0.png"]
    a, b = (np.asarray(Image.open(p / "00010-0.png")).astype(int) for p in (one, other))
    assert np.abs(a - b).max() <= 1


def test_classes_in_turn_and_no_classes(model, tmp_path):
    sample_many(model, tmp_path / "x.npy", **OPTIONS, classes=["7", "2"], first=1)
    assert np.load(tmp_path / "x.labels.npy").tolist() == [2, 7] * 5 + [2]
    plain = model_of(tiny(SMALL, "model.conditional=false", "sample.guidance=1"))
    plain = plain.save(tmp_path / "plain")
    sample_many(plain, tmp_path / "u.npy", **OPTIONS)
    sample_many(plain, tmp_path / "u", **OPTIONS)
    assert not (tmp_path / "u.labels.npy").exists()
    assert "00010.png" in files(tmp_path / "u")
    assert "labels.csv" not in files(tmp_path / "u")


@pytest.mark.parametrize("faster", [True, False])
def test_a_precision_chosen_by_measurement_is_that_of_the_beginning(
    faster, model, tmp_path, monkeypatch
):
    """A process that measures otherwise goes on in the precision of the first; same bytes."""
    from unnoise.sampling import precision

    monkeypatch.setattr(precision, "_has_bf16", lambda device: True)
    options = {**OPTIONS, "precision": "auto"}
    monkeypatch.setattr(precision, "_bf16_pays", lambda: faster)
    sample_many(model, tmp_path / "a.npy", **options)
    stopped(model, tmp_path / "b.npy", precision="auto")
    monkeypatch.setattr(precision, "_bf16_pays", lambda: not faster)
    assert sample_many(model, tmp_path / "a.npy", **options).before
    assert sample_many(model, tmp_path / "b.npy", **options).blocks == 2
    for name in ("{}.npy", "{}.samples.json"):
        a, b = ((tmp_path / name.format(x)).read_bytes() for x in "ab")
        assert a == b
    other = "fp32" if faster else "bf16"
    with pytest.raises(ArtifactError, match=r"precision \w+, not "):
        sample_many(model, tmp_path / "a.npy", **{**options, "precision": other})


def test_threads_are_given_back(model, tmp_path):
    torch.set_num_threads(2)
    try:
        sample_many(model, tmp_path / "x.npy", **OPTIONS)
        assert torch.get_num_threads() == 2
        sample_many(model, tmp_path / "y.npy", 3, steps=1, solver="ddim")
    finally:
        torch.set_num_threads(1)
    threads = [json.loads((tmp_path / f"{n}.samples.json").read_text())["threads"] for n in "xy"]
    assert threads == [1, 2]  # a core a block where there are blocks for all


def test_who_comes_to_finish_after_another_finished_it(model, whole, tmp_path):
    out = tmp_path / "late.npy"
    sample_many(model, out, **OPTIONS)
    job = job_for(Path(model), out, SampleRequest.of(**OPTIONS))
    assert not job.work.exists()
    tree = job.finish()  # its work folder is gone, and with it what there was to lock
    assert tree["finished"]
    assert tree == job.begin(1)
    assert not job.work.exists()


def test_interval_and_rescale_reach_the_job(model, whole, tmp_path):
    """The same bits as the Python call, which are others than without; resumed, the same bytes."""
    options = {"guidance": 3.0, "interval": (0.2, 0.9), "rescale": 0.7}
    sections = [{"kind": "classifier_free", "scale": 3.0, "interval": [0.2, 0.9], "rescale": 0.7}]
    expected = load(model, "fp32").sample(11, steps=2, seed=3, batch=4, **options).values
    assert not np.array_equal(np.load(whole["array"] / "x.npy"), expected)
    sample_many(model, tmp_path / "a.npy", **OPTIONS, **options)
    stopped(model, tmp_path / "b.npy", guidance=sections)
    assert sample_many(model, tmp_path / "b.npy", resume=True).blocks == 2
    for name in "ab":
        assert np.array_equal(np.load(tmp_path / f"{name}.npy"), expected)
        card = json.loads((tmp_path / f"{name}.samples.json").read_text())
        assert card["drawn"]["guidance"] == sections
    for name, value in (("interval", (0.2, 0.8)), ("rescale", 0.6)):
        with pytest.raises(ArtifactError, match=r"guidance .*, not "):
            sample_many(model, tmp_path / "a.npy", **OPTIONS, **{**options, name: value})
