"""The doctor's checks one by one, on data, samples and histories made for them."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from tests.pipelines.broken import groups, waves
from tests.training.tiny import model_of, tiny
from unnoise.data.arrays import from_arrays
from unnoise.pipelines.doctor.data_checks import (
    check_data_range,
    check_data_scale,
    check_data_structure,
)
from unnoise.pipelines.doctor.examined_run import PART, RunSnapshot, evenly_spaced_rows
from unnoise.pipelines.doctor.finding import CHECKS, Finding, Report, name_causes
from unnoise.pipelines.doctor.history_checks import (
    check_gradients,
    check_learning_rate,
    check_length,
    check_skipped_updates,
)
from unnoise.pipelines.doctor.learning_checks import check_average
from unnoise.pipelines.doctor.sample_checks import check_memorisation, check_samples
from unnoise.sampling import SampleReport


def snapshot_of(x, y=None, recipe=None, **options):
    """A snapshot that has data and nothing else; a fifth of them is held out."""
    data = from_arrays(x, y, **options)
    parts = data.split({"train": None, "validation": max(1, len(x) // 5)}, 0)
    return RunSnapshot(None, recipe or tiny(), 128, 0, parts=parts)


NOISE = {
    "normal pairs": lambda g: g.normal(size=(1000, 2)).astype("float32"),
    "normal rows": lambda g: (7 + 3 * g.normal(size=(400, 30))).astype("float32"),
    "few normal rows": lambda g: g.normal(size=(60, 12)).astype("float32"),
    "bytes": lambda g: g.integers(0, 256, (300, 12, 12, 3)).astype("uint8"),
    "black and white": lambda g: g.integers(0, 2, (300, 16, 16, 1)).astype("uint8") * 255,
    "static": lambda g: g.normal(size=(200, 1, 400)).astype("float32"),
    "speckle": lambda g: (255 * (g.random((300, 10, 10, 1)) < 0.05)).astype("uint8"),
}
LAYOUT = {"bytes": "NHWC", "black and white": "NHWC", "static": "NCL", "speckle": "NHWC"}


def _digits(g):
    from sklearn.datasets import load_digits

    return g.permutation(15 * load_digits().images[..., None].astype("uint8"))[:400]


def _tone(g):
    at = np.arange(300)
    wave = np.sin(0.7 * at * (1 + g.random((200, 1))) + 6 * g.random((200, 1)))
    return (wave + 0.5 * g.normal(size=wave.shape)).astype("float32")[:, None]


def _hiss(g):
    """Noise whose neighbours alone are alike."""
    x = g.normal(size=(60, 4001))
    return (x[:, 1:] + x[:, :-1]).astype("float32")[:, None]


def _dials(g):
    """Ten angles, each as its cosine and sine: uncorrelated, with tied squares."""
    angle = 2 * np.pi * g.random((400, 10))
    return np.stack([np.cos(angle), np.sin(angle)], 2).reshape(400, 20).astype("float32")


def _ring(g):
    angle = 2 * np.pi * g.random(600)
    x = np.stack([np.cos(angle), np.sin(angle)], 1)
    return (x + 0.05 * g.normal(size=x.shape)).astype("float32")


def _moons(g):
    from sklearn.datasets import make_moons

    return make_moons(600, noise=0.1, random_state=int(g.integers(1000)))[0].astype("float32")


def _board(g):
    """A checkerboard: white to second and fourth order."""
    corner = g.integers(0, 4, (600, 2))
    corner[:, 1] = 2 * (corner[:, 1] // 2) + (corner[:, 0] % 2)
    return (corner + g.random((600, 2))).astype("float32")


STRUCTURE = {
    "digits": (_digits, "NHWC"),
    "a tone in noise": (_tone, "NCL"),
    "a ring": (_ring, None),
    "moons": (_moons, None),
    "a checkerboard": (_board, None),
    "groups": (lambda g: groups(int(g.integers(1000)))[0], None),
    "waves": (lambda g: waves(int(g.integers(1000)))[0], "NCL"),
    "few pictures": (lambda g: _digits(g)[:12], "NHWC"),
    "a table": (
        lambda g: (g.normal(size=(300, 20)) @ g.normal(size=(20, 20))).astype("float32"),
        None,
    ),
    "hiss": (lambda g: _hiss(g), "NCL"),
    "dials": (lambda g: _dials(g), None),
    "one column": (lambda g: g.exponential(size=(500, 1)).astype("float32"), None),
}


@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize("kind", NOISE)
def test_noise_is_seen_to_be_noise(kind, seed):
    x = NOISE[kind](np.random.default_rng(seed))
    found = check_data_structure(snapshot_of(x, layout=LAYOUT.get(kind)))
    assert found.severity == "fault", found.measured


@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize("kind", STRUCTURE)
def test_data_of_any_kind_are_not_taken_for_noise(kind, seed):
    make, layout = STRUCTURE[kind]
    snapshot = snapshot_of(make(np.random.default_rng(seed)), layout=layout)
    assert check_data_structure(snapshot).severity == "fine"
    assert check_data_scale(snapshot).severity == "fine"
    assert check_data_range(snapshot).severity == "fine"


def test_scale_and_range_against_what_was_declared():
    g = np.random.default_rng(0)
    x = g.random((300, 6, 6, 1)).astype("float32")
    options = {"layout": "NHWC", "normalisation": "range"}
    for top, in_range, in_scale in ((1, "fine", "fine"), (4, "warning", "warning"),
                                    (255, "fault", "fault")):  # fmt: skip
        snapshot = snapshot_of(x, value_range=(0, top), **options)
        assert check_data_range(snapshot).severity == in_range
        assert check_data_scale(snapshot).severity == in_scale
        assert check_data_range(snapshot).numbers["used"] == pytest.approx(1 / top, rel=0.01)
    # masks of 0 and 1 kept as bytes: standardised well, and shown all black
    masks = snapshot_of((x > 0.5).astype("uint8"), layout="NHWC")
    assert (check_data_range(masks).severity, check_data_scale(masks).severity) == ("fault", "fine")


def test_a_channel_that_never_changes_is_named():
    x = np.random.default_rng(0).normal(size=(200, 5)).astype("float32")
    x[:, 3] = 2.0
    found = check_data_scale(snapshot_of(x))
    assert found.severity == "warning"
    assert found.measured.endswith("never change: 3")


def test_of_large_samples_fewer_are_held():
    """2,000 pictures of 256² in colour would be 3 GB as float64, and 20,000 of them 31."""

    class Huge:
        spec = SimpleNamespace(shape=(3, 256, 256))

        def __len__(self):
            return 60_000

    rows = evenly_spaced_rows(Huge(), PART)
    assert 64 <= len(rows) <= 200
    assert (int(rows[0]), int(rows[-1])) == (0, 59_999)
    Huge.spec = SimpleNamespace(shape=(3, 4096, 4096))
    assert len(evenly_spaced_rows(Huge(), PART)) == 64
    Huge.spec = SimpleNamespace(shape=(3, 32, 32))
    assert len(evenly_spaced_rows(Huge(), PART)) == PART


def test_no_check_asks_for_more_rows_than_are_held(pictured, monkeypatch):
    from unnoise.pipelines.doctor import examined_run, sample_checks

    make, x = pictured
    fresh = make(x)
    asked, data = [], fresh.parts["train"]
    batch = type(data).batch

    def counted(self, rows):
        asked.append(len(rows))
        return batch(self, rows)

    monkeypatch.setattr(type(data), "batch", counted)
    monkeypatch.setattr(examined_run.evenly_spaced_rows, "__defaults__", (100 * 64,))
    monkeypatch.setattr(sample_checks, "NUMBERS", 25 * 64)
    for name in ("data range", "data scale", "data structure", "samples", "memorisation"):
        CHECKS[name].run(fresh)
    assert max(asked) == 100


# ── samples ──────────────────────────────────────────────────────────────────────────────────
@pytest.fixture(scope="module")
def pictured():
    """A snapshot with an untrained model of the digits, whose samples are put in by hand."""
    from tests.training.tiny import parts_of

    recipe = tiny()
    model = model_of(recipe)

    def make(x):
        snapshot = RunSnapshot(None, recipe, len(x), 0, average=model, parts=parts_of(recipe))
        labels = torch.arange(len(x)) % 10
        snapshot.__dict__["samples"] = SampleReport(model.spec.restore(x), {"class": labels}, 1, x)
        snapshot.__dict__["average_failed"] = False
        return snapshot

    data = parts_of(recipe)["test"]
    order = torch.stack([(data.labels == c).nonzero().flatten()[:8] for c in range(10)], 1)
    return make, data.batch(order.flatten()).x0


def test_data_themselves_are_good_samples(pictured):
    make, x = pictured
    found = check_samples(make(x))
    assert found.severity == "fine", found.measured
    assert abs(found.numbers["noise"]) < 0.05


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda x: torch.randn(x.shape, generator=torch.Generator().manual_seed(0)), "noise"),
        (lambda x: x + 1.2, "tint"),
        (lambda x: 0.3 * x, "deviation off"),
        (lambda x: torch.where(x > 0, 4.0, -4.0), "more at the ends"),
    ],
)
def test_samples_that_are_no_data_are_told_by_what_is_wrong(pictured, spoil, words):
    make, x = pictured
    found = check_samples(make(spoil(x)))
    assert found.severity == "fault"
    assert words in found.measured


def test_a_slight_tint_is_warned_of(pictured):
    make, x = pictured
    assert check_samples(make(x + 0.55)).severity == "warning"


def test_other_classes_in_other_shares_are_no_tint():
    """Samples spread over the classes, of data that are nearly all of one class."""
    g = np.random.default_rng(0)
    y = np.repeat([0, 1], [380, 20])
    x = (4.0 * y[:, None] + g.normal(size=(400, 3))).astype("float32")
    snapshot = snapshot_of(x, y)
    labels = torch.arange(100) % 2
    made = (4.0 * labels.numpy()[:, None] + g.normal(size=(100, 3))).astype("float32")
    x = snapshot.spec.normalise(torch.from_numpy(made))
    snapshot.__dict__["samples"] = SampleReport(torch.from_numpy(made), {"class": labels}, 1, x)
    assert check_samples(snapshot).severity == "fine"
    snapshot.__dict__["samples"] = SampleReport(torch.from_numpy(made), {}, 1, x)
    assert check_samples(snapshot).severity == "fault"


def test_copies_of_training_data_are_found_and_near_ones_by_chance_are_not(pictured):
    make, x = pictured
    snapshot = make(x)
    assert check_memorisation(snapshot).severity == "fine"
    train = snapshot.parts["train"].batch(torch.arange(80)).x0
    assert check_memorisation(make(train)).severity == "fault"
    assert check_memorisation(make(torch.cat([train[:8], x[:72]]))).severity == "warning"
    plane = groups(0)[0][:, :2].copy()  # in two dimensions every ninth is near by chance
    low = snapshot_of(plane)
    fresh = torch.from_numpy(groups(7, 1000)[0][:, :2].copy())
    low.__dict__["samples"] = SampleReport(fresh, {}, 1, low.spec.normalise(fresh))
    found = check_memorisation(low)
    assert found.numbers["copies"] > 0.05
    assert found.severity == "fine"


# ── history ──────────────────────────────────────────────────────────────────────────────────
def told(losses, norms=None, recipe=None, **state):
    """A snapshot with a log, one line each 20 updates."""
    norms = norms or [0.5] * len(losses)
    rows = [
        {"kind": "train", "step": 20 * (i + 1), "loss": loss, "gradient_norm": norm}
        for i, (loss, norm) in enumerate(zip(losses, norms, strict=True))
    ]
    updates = 20 * len(losses)
    state = {"step": updates, "players": {"denoiser": {"ema_updates": updates}}} | state
    return RunSnapshot(None, recipe or tiny(), 128, 0, rows=rows, state=state)


GOOD = [1.5 / (1 + 0.3 * i) + 0.3 for i in range(40)]


@pytest.mark.parametrize(
    ("losses", "severity"),
    [
        (GOOD, "fine"),
        ([loss * (1 + 0.1 * (-1) ** i) for i, loss in enumerate(GOOD)], "fine"),
        ([*GOOD[:20], 9.0, *GOOD[21:]], "warning"),  # one spike, and it came back
        ([*GOOD[:20], *[0.5 + 0.05 * i for i in range(40)]], "fault"),
        ([1.8, 30.0, *[1.6] * 20], "fault"),
        ([-1 - loss for loss in GOOD], "fine"),  # a likelihood: no ratios
        ([*[-loss for loss in GOOD], *[40.0] * 10], "fault"),  # and yet it can break down
        (["nan", *GOOD], "fine"),
        (GOOD[:3], "not done"),
    ],
)
def test_the_course_of_the_loss(losses, severity):
    assert check_learning_rate(told(losses)).severity == severity


def test_a_likelihood_on_its_way_through_zero_has_not_diverged():
    """It is known up to a constant: 0.02 is not twenty times as bad as 0.001."""
    losses = [3 * 0.8**k + 0.001 for k in range(40)] + [0.02] * 5
    assert check_learning_rate(told(losses)).severity == "fault"
    likelihood = tiny("objective={kind: maximum_likelihood}")
    snapshot = told(losses)
    snapshot.recipe = likelihood
    assert check_learning_rate(snapshot).severity == "fine"
    broken = told([*losses, *[60.0] * 5])
    broken.recipe = likelihood
    assert check_learning_rate(broken).severity == "fault"


def test_what_was_undone_is_no_part_of_the_course():
    snapshot = told([*GOOD[:10], 80.0, 90.0, *GOOD[10:]])
    snapshot.rows.insert(12, {"kind": "rollback", "step": 240, "to": 200})
    found = check_learning_rate(snapshot)
    assert found.numbers["highest"] < 2
    snapshot.state["guard"] = {"rollbacks": 1}
    assert check_learning_rate(snapshot).severity == "warning"


@pytest.mark.parametrize(
    ("norms", "severity"),
    [
        ([0.5] * 20, "fine"),
        ([5.0] * 20, "fine"),  # clipped at every update, which does no harm
        ([100.0] * 20, "warning"),
        ([1e-9] * 20, "fault"),
        ([0.1] * 17 + [50.0] * 3, "warning"),
    ],
)
def test_gradients(norms, severity):
    assert check_gradients(told([1.0] * 20, norms)).severity == severity


def test_skipped_updates_by_share_and_by_sample():
    assert check_skipped_updates(told(GOOD)).severity == "fine"
    for count, severity in ((1, "fine"), (20, "warning"), (200, "fault")):
        found = check_skipped_updates(told(GOOD, guard={"skipped": count}))
        assert (found.severity, found.numbers["skipped"]) == (severity, count)
    snapshot = told(GOOD, guard={"skipped": 4})
    snapshot.rows += [{"kind": "skipped", "step": s, "row": 17, "t": 0.1} for s in (3, 9, 15, 21)]
    found = check_skipped_updates(snapshot)
    assert found.severity == "warning"
    assert "samples 17 of" in found.measured
    assert "data check" in found.remedy


def test_length_by_updates_and_by_the_last_fall():
    assert check_length(told(GOOD)).severity == "fine"
    assert check_length(told(GOOD[:1])).severity == "fault"
    assert check_length(told(GOOD[:3])).severity == "warning"
    falling = [2.0 * 0.95**i for i in range(40)]
    assert check_length(told(falling)).severity == "warning"


@pytest.mark.parametrize(
    ("ema", "updates", "severity", "share"),
    [
        ("{kind: power, gamma: 9}", 2000, "fine", 0.0),
        ("{kind: power, gamma: 9}", 300, "warning", 0.0),
        ("{kind: constant, decay: 0.99, warmup: 1}", 2000, "fine", 0.99**2000),
        ("{kind: constant, decay: 0.9999, warmup: 1}", 2000, "fault", 0.9999**2000),
        ("{kind: constant, decay: 0.9999, warmup: 10}", 2000, "warning", 0.0),
    ],
)
def test_the_average_by_its_length_alone(ema, updates, severity, share):
    state = {"players": {"denoiser": {"ema_updates": updates}}}
    snapshot = RunSnapshot(None, tiny(f"train.ema={ema}"), 128, 0, state=state)
    found = check_average(snapshot)
    assert found.severity == severity
    assert found.numbers["initial_share"] == pytest.approx(share, abs=1e-6)


def test_a_sign_is_a_warning_where_its_cause_is_a_fault():
    sign, cause = Finding("samples", "fault", "x"), Finding("data range", "fault", "y")
    assert [f.severity for f in name_causes([cause, sign])] == ["fault", "warning"]
    assert [f.severity for f in name_causes([sign])] == ["fault"]
    weak = Finding("samples", "warning", "x", remedy="train longer")
    assert "data range" in name_causes([cause, weak])[1].remedy
    assert name_causes([weak])[0].remedy == "train longer"
    warned = Finding("data range", "warning", "y")
    assert [f.severity for f in name_causes([warned, sign])] == ["warning", "fault"]
    for check in CHECKS.values():
        assert set(check.sign_of) <= set(CHECKS)


def test_a_report_is_json_whatever_was_measured():
    import json

    bad = Finding("samples", "fault", "x", numbers={"a": float("nan"), "b": [float("inf"), 1.0]})
    tree = Report("run", "tiny", "average", (bad,)).to_dict()
    assert json.loads(json.dumps(tree, allow_nan=False))["findings"][0]["numbers"] == {
        "a": None,
        "b": [None, 1.0],
    }
    assert tree["faults"] == ["samples"]
