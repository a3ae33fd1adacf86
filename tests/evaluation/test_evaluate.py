import pytest
import torch

from unnoise.errors import DataError, InvalidArgument
from unnoise.evaluation import Part, evaluate
from unnoise.evaluation.pixels import ValuePCA


def card(mnist, values, labels, **options):
    options = {"replicates": 40, "data": "mnist5k", **options}
    return evaluate(Part(values, labels), mnist.train, mnist.test, mnist.features, **options)


@pytest.fixture(scope="module")
def fresh(mnist):
    """The card of unseen real digits in the place of samples."""
    return card(mnist, mnist.validation.values, mnist.validation.labels)


def test_unseen_real_digits_reach_the_floor(fresh):
    m = fresh.metrics
    assert (fresh.compared, fresh.parts, fresh.per_class) == (500, 1, 50)
    assert m["frechet"].value == pytest.approx(m["frechet"].floor, rel=0.4)
    assert m["frechet_ratio"].value == pytest.approx(m["frechet"].value / m["frechet"].floor)
    assert m["frechet_ratio"].error == pytest.approx(m["frechet"].error / m["frechet"].floor)
    assert m["c2st"].floor == pytest.approx(0.5, abs=0.03)
    assert m["c2st"].value == pytest.approx(0.5, abs=0.08)
    assert min(m[n].value for n in ("precision", "recall", "coverage", "accuracy")) > 0.9
    assert m["memorisation"].low <= 0.5 <= m["memorisation"].high
    assert m["copies"].value == m["copies"].floor == 0
    for metric in m.values():
        assert metric.low <= metric.value <= metric.high
        assert metric.floor_low <= metric.floor <= metric.floor_high


def test_a_shift_of_two_pixels_is_seen(mnist, fresh):
    got = card(mnist, torch.roll(mnist.validation.values, 2, -1), mnist.validation.labels).metrics
    assert got["frechet"].low > fresh.metrics["frechet"].high
    assert got["frechet_ratio"].value > 2.5
    assert got["c2st"].low > max(0.65, fresh.metrics["c2st"].high)


def test_a_missing_class_lowers_recall_and_coverage_but_not_precision(mnist, fresh):
    values, labels = mnist.validation.values.clone(), mnist.validation.labels
    values[labels == 7] = values[labels == 1]  # asked for sevens, gave ones
    got = card(mnist, values, labels).metrics
    assert got["recall"].high < fresh.metrics["recall"].low
    assert got["coverage"].high < fresh.metrics["coverage"].low
    assert got["precision"].value > 0.9
    assert got["accuracy"].value == pytest.approx(fresh.metrics["accuracy"].value - 0.1, abs=0.01)


def test_training_digits_are_caught_as_copies(mnist):
    rows = torch.cat([torch.nonzero(mnist.train.labels == c)[:100, 0] for c in range(10)])
    got = card(mnist, mnist.train.values[rows], mnist.train.labels[rows])
    assert (got.samples, got.compared, got.parts) == (1000, 500, 2)
    assert got.metrics["copies"].value == 1
    assert got.metrics["memorisation"].value > 0.53


def test_a_small_training_set_given_back_is_memorised(mnist):
    small = mnist.train.subset(torch.arange(500))
    got = evaluate(
        Part(small.values), small, mnist.test, ValuePCA(small.values), replicates=20
    ).metrics
    assert got["memorisation"].value > 0.99
    assert got["memorisation"].low > 0.6


def test_the_seed_chooses_and_torch_is_left_alone(mnist, fresh):
    state = torch.get_rng_state()
    other = card(mnist, mnist.validation.values, mnist.validation.labels, seed=1)
    assert torch.equal(state, torch.get_rng_state())
    assert other.metrics["c2st"] != fresh.metrics["c2st"]
    assert other.metrics["frechet"].value == pytest.approx(fresh.metrics["frechet"].value)


def test_arrays_serve_as_well_as_tensors(mnist, fresh):
    values, labels = mnist.validation.values.numpy(), mnist.validation.labels.numpy()
    again = card(mnist, values, labels)
    assert again.samples_hash == fresh.samples_hash
    assert again.to_json() == fresh.to_json()


def test_without_labels_and_with_few_values(digits):
    train, test = Part(digits.train.values), Part(digits.test.values[:45])
    got = evaluate(
        Part(digits.test.values[100:200]), train, test, ValuePCA(train.values), replicates=20
    )
    assert (got.compared, got.parts, got.per_class) == (45, 2, None)
    assert "accuracy" not in got.metrics
    assert "principal components" in got.features
    assert "at random" in got.protocol


def test_bad_input_is_refused_before_work(mnist):
    values, labels = mnist.validation.values, mnist.validation.labels
    keep = labels != 3
    with pytest.raises(DataError, match=r"samples have none of the classes \[3\]"):
        card(mnist, values[keep], labels[keep])
    few = torch.stack([torch.nonzero(labels == c)[0, 0] for c in range(10)])
    with pytest.raises(DataError, match="only 10 values"):
        card(mnist, values[few], labels[few])
    with pytest.raises(InvalidArgument, match="raw units"):
        card(mnist, values.float() / 255, labels)
    with pytest.raises(DataError, match="shapes of one value differ"):
        card(mnist, values[..., :20], labels)
    with pytest.raises(DataError, match="500 samples with 3 labels"):
        card(mnist, values, labels[:3])
    with pytest.raises(InvalidArgument, match="size is 5"):
        card(mnist, values, labels, size=5)
    with pytest.raises(DataError, match="training values have none"):
        evaluate(Part(values, labels), Part(mnist.train.values), mnist.test, ValuePCA(values))
    floats = [Part(p.values.float(), p.labels) for p in (mnist.validation, mnist.train, mnist.test)]
    floats[0].values[3, 0, 1, 1] = float("nan")
    with pytest.raises(DataError, match="samples hold NaN"):
        evaluate(*floats, mnist.features)
