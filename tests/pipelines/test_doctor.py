"""`unnoise doctor`: each broken run gets its own diagnosis and no other, a healthy one none."""

import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch

import unnoise
from tests.pipelines.broken import Runs
from unnoise.errors import ArtifactError
from unnoise.pipelines.doctor import CHECKS, doctor
from unnoise.pipelines.doctor.examined_run import open_run
from unnoise.randomness import Streams
from unnoise.recipes import load_recipe


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    return Runs(tmp_path_factory.mktemp("doctor"))


@pytest.fixture
def copied(runs, tmp_path):
    """A copy of a run, to be spoiled."""
    return lambda kind: shutil.copytree(runs.get(kind), tmp_path / "run")


@pytest.mark.parametrize(
    ("kind", "faults"),
    [
        ("wrong range", ["data range"]),
        ("label ignored", ["condition"]),
        ("labels say nothing", ["condition"]),
        ("dead average", ["average"]),
        ("rate too high", ["learning rate"]),
        ("rate far too high", ["learning rate"]),
        ("rate too low", ["learning rate"]),
        ("noise", ["data structure"]),
        ("too short", ["length"]),
    ],
)
def test_a_broken_run_gets_its_own_diagnosis_and_no_other(runs, kind, faults):
    report = doctor(runs.get(kind))
    assert report.faults == faults
    for finding in report.findings:
        assert finding.remedy or finding.severity in ("fine", "not done")
    assert report[faults[0]].remedy


@pytest.mark.parametrize(
    ("kind", "seed"), [("groups", 0), ("groups", 1), ("groups", 2), ("signals", 0), ("pictures", 0)]
)
def test_a_healthy_run_gets_a_clean_bill(runs, kind, seed):
    report = doctor(runs.get(kind, seed), seed=seed)
    assert report.faults == []
    assert report.warnings == []
    assert [f.check for f in report.findings if f.severity == "not done"] == []
    assert {f.check for f in report.findings} == set(CHECKS)


def test_what_a_label_ignored_does_is_measured_too(runs):
    """Weights of classes that were never trained answer at random: different, and of no help."""
    numbers = doctor(runs.get("label ignored"))["condition"].numbers
    assert max(numbers["effect"]) > 0.05
    assert numbers["gain_over_none_in_errors"] < 3
    healthy = doctor(runs.get("groups"))["condition"].numbers
    assert healthy["gain_over_none_in_errors"] > 10
    told = doctor(runs.get("labels say nothing"))["condition"].numbers
    assert abs(told["told_by_labels"]) < 0.005 < healthy["told_by_labels"]


def test_what_follows_from_a_fault_says_so(runs):
    report = doctor(runs.get("wrong range"))
    assert "data range" in report["samples"].remedy
    assert report["samples"].severity == "warning"


def test_a_dead_average_is_not_what_the_rest_is_judged_by(runs):
    report = doctor(runs.get("dead average"))
    assert report.weights.startswith("raw")
    healthy = doctor(runs.get("groups"))["loss by level"].numbers["loss"]
    assert report["loss by level"].numbers["loss"] == pytest.approx(healthy, rel=0.01)
    assert report["average"].numbers["initial_share"] == pytest.approx(0.9999**300)


def test_the_loss_by_level_is_that_of_the_predictors_it_names(runs):
    """The trivial and the linear predictor, written out for one level."""
    snapshot = open_run(runs.get("groups"), 20, 0)
    found = doctor(runs.get("groups"))["loss by level"].numbers
    path, x0 = snapshot.model.denoiser.path, snapshot.unseen[0].double()
    train = snapshot.train[0].double()
    k = 4
    t = torch.tensor(found["t"][k], dtype=torch.float64)
    alpha, sigma = path.alpha(t), path.sigma(t)
    eps = Streams(0, range(len(x0)), "doctor").purpose(f"level {k}").normal(8).double()
    x_t = alpha * x0 + sigma * eps
    mean, variance = train.mean(0), (train - train.mean(0)).square().mean()
    blind = mean + alpha * variance / (alpha**2 * variance + sigma**2) * (x_t - alpha * mean)
    trivial = (blind - x0).square().mean()
    condition = snapshot.unseen[1]
    with torch.no_grad():
        said = snapshot.model.denoiser(x_t.float(), t, condition).x0.double()
    assert found["loss"][k] == pytest.approx(float((said - x0).square().mean() / trivial), rel=1e-4)
    cov = torch.cov(train.T)
    gain = alpha * cov @ torch.linalg.inv(alpha**2 * cov + sigma**2 * torch.eye(8).double())
    known = ((x_t - alpha * mean) @ gain.T + mean - x0).square().mean()
    assert found["linear"][k] == pytest.approx(float(known / trivial), rel=0.05)


def test_weights_that_ignore_the_class_are_found_whatever_the_recipe_says(copied):
    run = copied("groups")
    shutil.rmtree(run / "checkpoints")
    model = unnoise.load(run, "fp32")
    (table,) = [p for n, p in model.denoiser.network.named_parameters() if "class" in n]
    table.copy_(table[-1:].clone().expand_as(table))  # every class is told as none is
    model.save(run)
    report = doctor(run)
    assert report.faults == ["condition"]
    assert report["condition"].numbers["effect"] == [0.0] * 8


def test_a_run_that_has_only_checkpoints(copied):
    run = copied("groups")
    whole = doctor(run)
    (run / "model.json").unlink()
    (run / "model.safetensors").unlink()
    report = doctor(run)
    assert report.faults == []
    assert report["loss by level"].numbers == whole["loss by level"].numbers
    assert report["average"].numbers == whole["average"].numbers


def test_without_its_data_the_rest_is_done(copied):
    run = copied("rate too high")
    data = unnoise.load(run).recipe.data.path
    data.rename(data.with_suffix(".away"))
    try:
        report = doctor(run)
    finally:
        data.with_suffix(".away").rename(data)
    assert report.faults == ["learning rate"]
    undone = {f.check: f.measured for f in report.findings if f.severity == "not done"}
    assert set(undone) == {c.name for c in CHECKS.values() if "data" in c.needs}
    assert all("data.npz" in said for said in undone.values())


def test_a_damaged_model_is_said_and_its_checkpoint_examined(copied):
    run = copied("groups")
    weights = run / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-7])
    report = doctor(run)
    assert report.faults == ["files"]
    assert "model.safetensors" in report["files"].measured
    assert report["files"].remedy.endswith(f"unnoise train --resume --out {run}")
    assert report["samples"].severity == "fine"


def test_damaged_checkpoints_leave_what_the_model_tells(copied):
    run = copied("dead average")
    for state in (run / "checkpoints").glob("step-*/state.json"):
        state.write_text("{")
    report = doctor(run)
    assert report["files"].severity == "warning"
    assert "checkpoint" in report["files"].measured
    average = report["average"]
    assert (average.severity, average.numbers["initial_share"]) == (
        "fault",
        pytest.approx(0.9999**300),
    )
    assert "ratio" not in average.numbers


def test_without_a_log_the_course_of_training_is_not_told(copied):
    run = copied("groups")
    (run / "log.jsonl").unlink()
    report = doctor(run)
    assert report["learning rate"].severity == "not done"
    assert report["gradients"].severity == "not done"
    assert report.faults == []


def test_other_data_than_those_trained_on_are_noticed(copied, tmp_path):
    run = copied("groups")
    shutil.rmtree(run / "checkpoints")
    model = unnoise.load(run)
    found = np.load(model.recipe.data.path)
    np.savez(tmp_path / "other.npz", x=50 * found["x"], y=found["y"])
    other = [f"data.path={tmp_path / 'other.npz'}"]
    recipe = load_recipe(model.recipe.model_dump(mode="json"), other)
    replace(model, recipe=recipe).save(run)
    report = doctor(run)
    assert {"data range", "data scale"} & set(report.faults)


@pytest.mark.parametrize("finished", [True, False])
@pytest.mark.parametrize("change", ["more numbers", "more classes"])
def test_data_that_the_model_cannot_take_in_are_said_and_the_rest_is_done(copied, change, finished):
    run = copied("groups")
    if not finished:
        (run / "model.json").unlink()
        (run / "model.safetensors").unlink()
    data = load_recipe(run / "recipe.yaml").data.path
    kept, found = data.read_bytes(), dict(np.load(data))
    if change == "more numbers":
        found["x"] = np.repeat(found["x"], 2, 1)
    else:
        found["y"] = np.arange(len(found["y"])) % 6
    np.savez(data, **found)
    try:
        report = doctor(run)
    finally:
        data.write_bytes(kept)
    undone = {f.check: f.measured for f in report.findings if f.severity == "not done"}
    assert {"loss by level", "condition", "samples", "memorisation"} <= set(undone)
    said = "not those trained on" if finished else "does not fit the data"
    assert said in undone["samples"]
    assert {"learning rate", "gradients", "length", "files"}.isdisjoint(undone)
    assert report.faults == []
    if not finished:
        assert "not those trained on" in report["data range"].measured


def test_a_sound_checkpoint_whose_data_are_gone_is_not_called_unreadable(copied):
    run = copied("groups")
    (run / "model.json").unlink()
    (run / "model.safetensors").unlink()
    data = load_recipe(run / "recipe.yaml").data.path
    data.rename(data.with_suffix(".away"))
    try:
        report = doctor(run)
    finally:
        data.with_suffix(".away").rename(data)
    assert report["files"].severity == "fine"
    assert "its data, which are gone" in report["average"].measured


def test_an_average_of_initial_weights_is_not_called_warm(runs):
    numbers = doctor(runs.get("dead average"))["average"].numbers
    assert numbers["warm"] is False


def test_nothing_is_written_and_nothing_is_left_to_chance(runs):
    run = runs.get("groups")
    before = {p: p.stat().st_mtime_ns for p in run.rglob("*")}
    one, two = doctor(run), doctor(run)
    assert one == two
    assert {p: p.stat().st_mtime_ns for p in run.rglob("*")} == before


def test_a_save_that_is_under_way_is_left_alone(copied):
    run = copied("groups")
    newest = max((run / "checkpoints").glob("step-*"))
    newest.rename(newest.with_name(f".{newest.name}.old"))
    before = sorted(run.rglob("*"))
    doctor(run)
    assert sorted(run.rglob("*")) == before


@pytest.mark.parametrize("what", ["missing", "empty", "file"])
def test_where_there_is_no_run(tmp_path, what):
    at = tmp_path / what
    if what == "empty":
        at.mkdir()
    if what == "file":
        at.write_text("")
    with pytest.raises(ArtifactError, match="give the folder of a run"):
        doctor(at)
