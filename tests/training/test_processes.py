"""Two processes (gloo) against one at the same global batch, in float64."""

import os
import signal
import subprocess
import sys
import time

import pytest
import torch
from safetensors.torch import load_file

from tests.training.processes import at_once
from tests.training.test_run import go, lines
from tests.training.tiny import everything, run_steps, tiny, training_of
from unnoise.recipes import dump, load_recipe
from unnoise.training import Checkpoints, Interrupted, loop, run

ADAMW = ["train.optimizer.kind=adamw", "train.steps=8", "objective.times.stratified=true"]
KINDS = {
    "denoising": ["train.accumulate=1"],
    "accumulated": ["train.accumulate=2"],
    "workers": ["train.accumulate=2", "train.workers=1"],
    "sliced": ["objective.kind=score_matching", "objective.projections=2"],
}


def trained(rank, folder, overrides, updates=8):
    training = training_of(tiny(*ADAMW, *overrides), double=True)
    seen = [
        {"loss": u.loss, "norm": u.gradient_norm, "per_sample": u.per_sample, "t": u.t,
         "rate": torch.tensor(u.rate), "seen": torch.tensor(u.seen)}
        for u, _ in zip(training.updates(), range(updates), strict=False)
    ]  # fmt: skip
    return everything(training) | {f"{k}.{n}": v for n, u in enumerate(seen) for k, v in u.items()}


@pytest.mark.parametrize("kind", KINDS)
def test_two_processes_are_one(kind, tmp_path):
    alone = trained(0, tmp_path, [o for o in KINDS[kind] if "workers" not in o])
    for said in at_once(2, trained, tmp_path / "two", KINDS[kind]):
        assert isinstance(said, dict), said
        assert said.keys() == alone.keys()
        for name, value in alone.items():
            torch.testing.assert_close(said[name], value, rtol=1e-6, atol=1e-6, msg=name)


def test_four_processes_are_one_whose_batch_is_not_split(tmp_path):
    alone = trained(0, tmp_path, [], 3)
    for said in at_once(4, trained, tmp_path / "four", ["train.accumulate=2"], 3):
        for name, value in alone.items():
            torch.testing.assert_close(said[name], value, rtol=1e-6, atol=1e-6, msg=name)


def moved_on(rank, folder, name):
    """Go on from the checkpoint in `folder`, save there again."""
    training = training_of(tiny(*ADAMW, "train.workers=1"), double=True)
    training.load_state(Checkpoints(folder).load()[0])
    run_steps(training, 3)
    if rank == 0:
        Checkpoints(folder.parent / name).save(training.state(), {})
    return everything(training)


def test_going_on_with_another_number_of_processes(tmp_path):
    straight = training_of(tiny(*ADAMW), double=True)
    run_steps(straight, 8)
    first = training_of(tiny(*ADAMW), double=True)
    run_steps(first, 2)
    Checkpoints(tmp_path / "a").save(first.state(), {})
    at_once(2, moved_on, tmp_path / "a", "b")  # 1 → 2
    last = training_of(tiny(*ADAMW), double=True)  # → 1
    last.load_state(Checkpoints(tmp_path / "b").load()[0])
    assert last.step == 5
    run_steps(last, 3)
    wanted = everything(straight)
    for name, value in everything(last).items():
        torch.testing.assert_close(value, wanted[name], rtol=1e-6, atol=1e-6, msg=name)


def whole_run(rank, folder, overrides, resume=False, stop=None):
    """A run by `train`; stop: (rank, update) at which that process gets SIGTERM."""
    from unnoise.safe_files import files

    updates, written = run.Training.updates, []

    def watched(self):
        for update in updates(self):
            if (rank, update.step) == stop:
                os.kill(os.getpid(), signal.SIGTERM)
            yield update

    def noted(path, content, write=files.write_bytes):
        written.append(path.name)
        write(path, content)

    run.Training.updates = watched
    files.write_bytes = noted
    try:
        model = go(tiny(*overrides), folder / "run", resume=resume)
    except Interrupted as stopped:
        return {"stopped": str(stopped)}
    assert rank == 0 or not written
    return {k: v.clone() for k, v in model.denoiser.network.state_dict().items()}


def test_a_whole_run_is_written_by_the_first_process_alone(tmp_path):
    adamw = ["train.optimizer.kind=adamw", "train.steps=6", "train.reports=2"]
    zero, one = at_once(2, whole_run, tmp_path, adamw)
    made = load_file(tmp_path / "run" / "model.safetensors")
    made = {k.removeprefix("denoiser.network."): v for k, v in made.items()}
    assert all(torch.equal(zero[k], v) and torch.equal(one[k], v) for k, v in made.items())
    kinds = [row["kind"] for row in lines(tmp_path / "run")]
    assert kinds.count("start") == kinds.count("end") == 1
    assert kinds.count("levels") == 2


@pytest.mark.parametrize("rank", [0, 1])
def test_a_signal_to_either_process_stops_both_at_the_same_update(rank, tmp_path):
    adamw = ["train.optimizer.kind=adamw", "train.steps=6"]
    said = at_once(2, whole_run, tmp_path, adamw, False, (rank, 4))
    assert [s["stopped"].split(";")[0] for s in said] == ["interrupted after update 4"] * 2
    assert Checkpoints(tmp_path / "run").load()[0]["step"] == 4
    zero, one = at_once(2, whole_run, tmp_path, adamw, True)
    straight = at_once(2, whole_run, tmp_path / "straight", adamw)[0]
    assert all(torch.equal(zero[k], v) and torch.equal(one[k], v) for k, v in straight.items())


def timed(rank, folder):
    """Clocks that disagree: rank 1 is ten times slower."""
    training = training_of(tiny("train.budget=1s", "train.batch=4"))
    clock = iter(range(10**6))
    loop.time.perf_counter = lambda: next(clock) * (0.1 if rank == 0 else 1.0)
    rates = [u.rate for u in training.updates()]
    return {"steps": training.step, "elapsed": training.elapsed, "rates": rates}


def test_a_budget_of_time_is_the_first_process_s(tmp_path):
    zero, one = at_once(2, timed, tmp_path)
    assert zero == one
    assert zero["steps"] == 10


HISTORY = [
    "path.kind=chain", "path.steps=4", "model.predicts=v", "model.learned_variance=true",
    "objective.kind=vlb", "objective.times={kind: loss_history, keep: 1}",
]  # fmt: skip


def refused(rank, folder, recipes):
    training_of(tiny(*recipes[rank]))


@pytest.mark.parametrize(
    ("recipes", "kind", "words"),
    [
        ([HISTORY, HISTORY], "Unsupported", "learns from its losses"),
        ([[], ["data.split.seed=1"]], "DataError", "process 1 has another fingerprint"),
        ([["train.batch=7"]] * 2, "DataError", "multiple of 2"),
    ],
)
def test_what_cannot_be_shared_is_refused(recipes, kind, words, tmp_path):
    for name, said in at_once(2, refused, tmp_path, recipes):
        assert name == kind
        assert words in said


def fails_at_first(rank, folder):
    (folder / "run").write_text("a file")
    go(tiny(), folder / "run")


def test_what_the_first_process_finds_wrong_ends_all(tmp_path):
    for name, said in at_once(2, fails_at_first, tmp_path):
        assert name == "ArtifactError"
        assert "is a file" in said


def one_goes(rank, folder):
    training = training_of(tiny())
    if rank == 1:
        return None
    return next(training.updates())


def test_a_process_that_ends_does_not_leave_the_other_waiting(tmp_path):
    (name, said), nothing = at_once(2, one_goes, tmp_path)
    assert nothing is None
    assert name == "Unsupported"
    assert "one of them has ended" in said


def taken(rank, folder):
    training = training_of(tiny("train.accumulate=2"))
    rows, order = [], training.data.order

    class Watched:
        def __getattr__(self, name):
            return getattr(data, name)

        def __len__(self):
            return len(data)

        def order(self, seed, counter, size):
            rows.append((counter, size))
            return order(seed, counter, size)

    data, training.data = training.data, Watched()
    run_steps(training, 2)
    return rows


def test_processes_take_the_samples_in_turn(tmp_path):
    # batches of 16 in parts of 4: part k of rank r is the (2k + r)th
    zero, one = at_once(2, taken, tmp_path)
    assert zero == [(0, 4), (8, 4), (16, 4), (24, 4)]
    assert one == [(4, 4), (12, 4), (20, 4), (28, 4)]


def test_a_launcher_s_signal_saves_the_state(tmp_path):
    """torchrun for real: SIGTERM to it reaches both of its processes."""
    recipe = tiny("train.steps=3000", "train.batch=4", "network.widths=[8]")
    (tmp_path / "r.yaml").write_text(dump(recipe))
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    command = [*launch, "-m", "unnoise", "train", "r.yaml", "--out", "run"]
    log = tmp_path / "run" / "log.jsonl"
    with subprocess.Popen(
        command, cwd=tmp_path, env=os.environ | {"OMP_NUM_THREADS": "1"}, text=True,
        stderr=subprocess.PIPE, stdout=subprocess.PIPE,
    ) as process:  # fmt: skip
        deadline = time.monotonic() + 90
        while not (log.exists() and '"train"' in log.read_text()):
            assert process.poll() is None, process.stderr.read()
            assert time.monotonic() < deadline
            time.sleep(0.05)
        process.send_signal(signal.SIGTERM)
        _, error = process.communicate(timeout=60)
    assert "interrupted after update" in error
    kinds = [row["kind"] for row in lines(tmp_path / "run")]
    assert (kinds.count("start"), kinds[-1]) == (1, "interrupted")
    assert 0 < Checkpoints(tmp_path / "run").load()[0]["step"] < 3000


def poisoned(rank, folder):
    """Row 11 of the third batch, which the second process holds, is no number."""
    training = training_of(tiny(*ADAMW), double=True)
    batch = training.batch

    def bad(counter, size):
        found, noise = batch(counter, size)
        if counter <= 2 * 16 + 11 < counter + size:
            found.x0[2 * 16 + 11 - counter, 0, 3, 3] = float("nan")
        return found, noise

    training.batch = bad
    faults = [u.fault for u, _ in zip(training.updates(), range(4), strict=False)]
    said = [(f.step, f.kind, f.row, f.t, f.skipped) for f in faults if f is not None]
    return {"faults": said, "after": everything(training)}


def test_a_sample_that_is_no_number_is_skipped_by_all(tmp_path):
    alone = poisoned(0, tmp_path)
    assert [(step, kind, skipped) for step, kind, *_, skipped in alone["faults"]] == [
        (3, "loss", True)
    ]
    for said in at_once(2, poisoned, tmp_path / "two"):
        assert said["faults"] == alone["faults"]
        for name, value in alone["after"].items():
            torch.testing.assert_close(said["after"][name], value, rtol=1e-6, atol=1e-6, msg=name)


def with_muon(rank, folder, double, updates):
    recipe = load_recipe(
        "digits",
        ["train.budget=null", "train.steps=400", "train.precision=fp32", "train.batch=16",
         "network.widths=[8, 16]", "network.blocks=1"],
    )  # fmt: skip
    return {"losses": torch.tensor(run_steps(training_of(recipe, double=double), updates)).double()}


@pytest.mark.parametrize(("double", "early", "late"), [(True, 1e-9, 1e-6), (False, 1e-6, 2e-5)])
def test_the_shipped_digits_recipe_with_muon_is_the_same_on_two(double, early, late, tmp_path):
    # in float32 rounding of 10⁻⁷ grows with every update, whatever is done: 2e-7 after 20 updates
    # and 2e-6 after 50; float64 shows that nothing else is there
    alone = with_muon(0, tmp_path, double, 50)["losses"]
    for said in at_once(2, with_muon, tmp_path, double, 50):
        torch.testing.assert_close(said["losses"][:15], alone[:15], rtol=early, atol=0)
        torch.testing.assert_close(said["losses"], alone, rtol=late, atol=0)
