import numpy as np
import pytest
import torch

from benchmarks import judge_power as faults
from unnoise.errors import DataError, InvalidArgument
from unnoise.evaluation import Judge, Part, ValuePCA, evaluate, learned_test
from unnoise.evaluation.canonical import Standard, coarser_lattice

QUICK = Judge(seen=2400, width=8)
VECTORS = Judge(seen=8000)


@pytest.fixture(scope="module")
def sides(mnist):
    """Training values, unseen real values in the place of samples, their labels, reference."""
    rows = torch.from_numpy(rng().permutation(4000))  # the data are sorted by class
    fresh = mnist.train.subset(rows[2800:3600])
    return mnist.train.values[rows[:2800]], fresh.values, fresh.labels, mnist.test.values


def rng():
    return np.random.default_rng(0)


@pytest.fixture(scope="module")
def real(sides):
    train, fresh, _, held = sides
    return learned_test(train, fresh, held, judge=QUICK)


def test_real_pictures_are_not_told_from_real_ones(real):
    found = real.accuracy
    assert found.low <= 0.5 <= found.high
    assert found.floor_low <= 0.5 <= found.floor_high
    assert found.high - found.low < 0.12  # the interval is no excuse
    for share in (real.flawed, real.missed):
        assert share.value < 0.035
        assert share.floor < 0.035


@pytest.mark.parametrize(
    "fault",
    [
        lambda x: faults.phase_scrambled(x, rng()),
        lambda x: faults.patch_shuffled(x, rng()),
        lambda x: faults.blotches(x, rng()),
        lambda x: faults.contrast(x, 0.9),
        faults.clamped,
        faults.blurred,
        lambda x: faults.repeated(x, 20, rng()),
    ],
    ids=["phases", "patches", "blotches", "contrast", "clamped", "blur", "repeated"],
)
def test_faulty_pictures_are_told_from_real_ones(sides, fault):
    train, fresh, _, held = sides
    found = learned_test(train, fault(fresh), held, judge=QUICK).accuracy
    assert found.value >= 0.75
    assert found.low > found.floor_high


def test_the_shape_leaves_out_levels_and_sees_shuffled_patches(sides):
    train, fresh, _, held = sides
    softer = faults.contrast(fresh, 0.99)  # every value changes, hardly one crosses the middle
    found = learned_test(train, softer, held, judge=QUICK, shape=True).accuracy
    assert found.low <= 0.5 <= found.high
    mixed = faults.patch_shuffled(fresh, rng())
    assert learned_test(train, mixed, held, judge=QUICK, shape=True).accuracy.value >= 0.75


@pytest.mark.parametrize("kind", ["2-D", "64-D"])
def test_vectors(kind):
    cases = faults.vectors(rng())
    found = learned_test(*cases[f"{kind}: real against real"], judge=VECTORS).accuracy
    assert found.low <= 0.5 <= found.high
    if kind == "2-D":
        scaled = learned_test(*cases["2-D: scale 10 % too large"], judge=VECTORS).accuracy
        assert scaled.value >= 0.75
        assert scaled.value <= faults.best(1.1) + 0.02


def test_copies_of_training_values_are_not_rewarded_and_repeats_are_seen():
    generator = rng()
    train, held = (torch.from_numpy(generator.normal(size=(n, 8))).float() for n in (1200, 400))
    copies = learned_test(train, train[:400], held, judge=VECTORS).accuracy
    assert copies.low < 0.53  # copies win nothing against values that no network has seen
    few = torch.from_numpy(generator.normal(size=(10, 8))).float()
    assert learned_test(train, few.repeat(40, 1), held, judge=VECTORS).accuracy.value >= 0.75


def test_order_and_file_format_change_nothing(digits):
    judge = Judge(seen=600, width=4)
    train, made, held = digits.train.values, digits.test.values[:200], digits.test.values[200:]
    first = learned_test(train, made, held, judge=judge, replicates=40)
    mixed = torch.from_numpy(rng().permutation(len(made)))
    state = torch.get_rng_state()
    again = learned_test(
        train.double(), made[mixed].float(), held.flip(0).numpy(), judge=judge, replicates=40
    )
    assert torch.equal(state, torch.get_rng_state())
    assert again.accuracy == first.accuracy
    assert again.flawed == first.flawed
    assert np.array_equal(again.scores, first.scores[mixed])
    other = learned_test(train, made, held, judge=judge, replicates=40, seed=1)
    assert other.accuracy != first.accuracy


def test_rounding_of_one_side_is_undone_on_all():
    values = rng().uniform(0, 255, (3, 900, 4))
    train, made, held = values
    found = learned_test(train, made.round().astype(np.uint8), held, judge=VECTORS)
    assert found.lattice == 1
    as_bytes = learned_test(*(v.round() for v in values), judge=VECTORS)
    assert as_bytes.lattice is None
    assert as_bytes.accuracy == found.accuracy
    scaled = [v / 127.5 - 1 for v in values]
    scaled[0] = np.round(values[0]) / 127.5 - 1
    assert coarser_lattice(scaled) == (2 / 255, -1.0)
    assert coarser_lattice([train, np.zeros((900, 4)), held]) is None  # a fault, no file format
    # the deviation of whole numbers is that of the data, at any offset
    assert Standard.of(train + 1e9, False)(train + 1e9)[:, :4].std() == pytest.approx(1, rel=1e-3)


def test_a_class_that_is_missing_shows_in_the_missed_share(sides):
    """A tenth of the data missing moves the best accuracy to 0.55 only, and 10 % is missed."""
    train, fresh, labels, held = sides
    seven = faults.without(fresh, labels, [7], rng())
    found = learned_test(train, seven, held, judge=Judge(seen=6000))
    assert found.missed.value > 3 * found.missed.floor
    assert found.accuracy.value < 0.62


def test_the_card_has_the_test_first_and_a_picture_of_the_worst(digits, tmp_path):
    train, held = Part(digits.train.values), Part(digits.test.values[:150])
    values = digits.test.values[150:350].clone()
    values[:20] = torch.from_numpy(rng().integers(0, 17, (20, 1, 8, 8))).to(values.dtype)
    features = ValuePCA(train.values)
    judge = Judge(seen=2000, width=4, shape=True)
    card = evaluate(Part(values), train, held, features, replicates=20, judge=judge)
    assert list(card.metrics)[:4] == ["learned", "learned_shape", "flawed", "missed"]
    assert card.metrics["flawed"].value > 3 * card.metrics["flawed"].floor
    assert card.judge["values"] == 100
    assert "Learned two-sample test: 4 small networks" in card.protocol
    card.save(tmp_path)
    assert (tmp_path / "flawed.png").read_bytes()[1:4] == b"PNG"
    without = evaluate(Part(values), train, held, features, replicates=20)
    assert without.judge is without.flawed is None
    assert "learned" not in without.metrics
    few = evaluate(Part(values[:20]), Part(values[:25]), held, features, replicates=20, judge=judge)
    assert "learned" not in few.metrics


def test_bad_input_is_named():
    x = rng().normal(size=(100, 3))
    with pytest.raises(DataError, match="leave 5 for one half"):
        learned_test(x, x[:11], x)
    with pytest.raises(DataError, match="samples hold NaN"):
        learned_test(x, x * np.nan, x)
    with pytest.raises(InvalidArgument, match="networks is 5; give an even number"):
        Judge(networks=5)
