import numpy as np
import pytest
import torch

import unnoise
from tests.training.tiny import model_of, parts_of, tiny
from unnoise.artifacts import Model
from unnoise.errors import InvalidArgument, Unsupported
from unnoise.randomness import Streams
from unnoise.sampling import CycleClasses, Precision, autocast, resolve

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def plain():
    """A model without conditions."""
    return model_of(tiny("model.conditional=false", "sample.guidance=1"))


def starts(model, **options):
    """The states at which the solver starts."""
    seen = []

    def look(step, prediction):
        if step == 0:
            seen.append(prediction.x_t.clone())

    made = model.sample(**options, on_step=look)
    return torch.cat(seen), made


@pytest.mark.parametrize("batch", [1, 7, 64])
def test_samples_do_not_depend_on_the_batch(model, batch):
    noise, made = starts(model, n=20, batch=batch, seed=5, grid="uniform")
    whole, expected = starts(model, n=20, batch=250, seed=5, grid="uniform")
    assert torch.equal(noise, whole)
    assert torch.equal(made.labels, expected.labels)
    torch.testing.assert_close(made.x, expected.x, rtol=1e-4, atol=1e-4)
    assert torch.equal(noise, Streams(5, range(20), "sample").normal(*model.spec.shape))


def test_first_goes_on_where_another_call_ended(model, plain):
    for each in (model, plain):
        whole, part = each.sample(20, seed=2), each.sample(5, seed=2, first=13)
        torch.testing.assert_close(part.x, whole.x[13:18], rtol=1e-4, atol=1e-4)
        if whole.labels is not None:
            assert torch.equal(part.labels, whole.labels[13:18])


def test_seeds_differ(model):
    a, b = (model.sample(3, seed=s).x for s in (0, 1))
    assert (a - b).abs().mean() > 0.1


def test_a_stochastic_solver_draws_from_each_samples_stream(model):
    a = model.sample(6, solver="ddpm", steps=4, seed=1, batch=6).x
    b = model.sample(6, solver="ddpm", steps=4, seed=1, batch=2).x
    torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4)


def test_labels_in_every_form(model):
    assert model.sample(12).labels.tolist() == [*range(10), 0, 1]
    assert model.sample().labels.tolist() == [*range(10), *range(6)]
    for asked, n, expected in (
        (3, 2, [3, 3]),
        ("3", 2, [3, 3]),
        (np.int64(3), 2, [3, 3]),
        (torch.tensor(3), None, [3] * 16),
        ([3], 2, [3, 3]),
        ([3, "4"], None, [3, 4]),
        ((1, 2), 2, [1, 2]),
        (range(3), 3, [0, 1, 2]),
        (torch.tensor([5, 6]), 2, [5, 6]),
        (np.array([7]), None, [7]),
    ):
        assert model.sample(n, condition={"class": asked}).labels.tolist() == expected


def test_labels_whatever_the_first_is(model):
    for condition, expected in (
        (None, [3, 4, 5]),
        ({"class": [7, 8, 9]}, [7, 8, 9]),  # one a sample
        ({"class": CycleClasses((7, "8"))}, [8, 7, 8]),
        ({"class": 4}, [4, 4, 4]),
    ):
        stream = model.stream(3, first=13, batch=2, condition=condition)
        assert stream.whole().labels.tolist() == expected
        assert torch.cat([block.labels for block in stream]).tolist() == expected
    with pytest.raises(InvalidArgument, match="no class is given"):
        model.stream(3, condition={"class": CycleClasses(())})
    many = model.stream(5000, condition={"class": [*range(10)] * 500}, batch=3)
    assert many.draw(1).labels.tolist() == [3, 4, 5]


def test_blocks_are_cut_at_multiples_of_the_batch(model):
    for first, n, batch in ((0, 10, 4), (3, 1, 4), (2, 6, 4), (7, 20, 5), (5, 5, 5), (4, 3, 10)):
        stream = model.stream(n, first=first, batch=batch)
        rows = [stream.rows(block) for block in stream.blocks]
        assert [i for each in rows for i in each] == [*range(first, first + n)]
        for block, each in zip(stream.blocks, rows, strict=True):
            assert {i // batch for i in each} == {block}
        assert len(stream) == len(rows)


def test_a_block_is_the_same_wherever_the_stream_begins(model):
    whole = model.sample(12, seed=1, batch=4)
    for first in (0, 4, 8):
        for block in model.stream(12 - first, seed=1, batch=4, first=first):
            rows = slice(block.first, block.first + 4)
            assert torch.equal(block.x, whole.x[rows])
            assert torch.equal(block.values, whole.values[rows])
            assert torch.equal(block.labels, whole.labels[rows])


def test_labels_reach_the_network(model):
    zero, one, listed = (
        model.sample(2, condition={"class": c}, seed=0, steps=4).x for c in (0, 1, [0, 1])
    )
    assert (zero - one).abs().max() > 1e-3
    torch.testing.assert_close(listed[0], zero[0], rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(listed[1], one[1], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"n": 0}, "n is 0"),
        ({"n": -3}, "n is -3"),
        ({"n": 2.0}, "n is 2.0"),
        ({"n": 10**12}, "GiB"),
        ({"batch": 0}, "batch is 0"),
        ({"first": -1}, "first is -1"),
        ({"seed": -1}, "seed is -1"),
        ({"seed": 2**64}, "seed"),
        ({"steps": 0}, "steps is 0"),
        ({"steps": -5}, "steps is -5"),
        ({"steps": 2.5}, "steps is 2.5"),
        ({"steps": 10**10}, "steps"),
        ({"guidance": float("nan")}, "guidance is nan"),
        ({"guidance": float("inf")}, "guidance is inf"),
        ({"interval": (0.8, 0.2)}, "interval"),
        ({"interval": (0.1, 0.2), "guidance": 1}, "nothing is guided"),
        ({"rescale": 0.5, "guidance": 1}, "nothing is guided"),
        ({"rescale": 2}, "rescale"),
        ({"solver": "dpmp_2m"}, "did you mean 'dpmpp_2m'"),
        ({"solver": "lms", "grid": "uniform"}, "t = 1|start"),
        ({"grid": "karas"}, "did you mean 'karras'"),
        ({"grid": "trailing"}, "chain"),
        ({"grid": {"kind": "uniform", "rho": 3}}, "rho"),
        ({"condition": {"clas": 3}}, "unknown condition 'clas'; did you mean 'class'"),
        ({"condition": {"class": 10}}, "number from 0 to 9"),
        ({"condition": {"class": -1}}, "number from 0 to 9"),
        ({"condition": {"class": "cat"}}, "number from 0 to 9"),
        ({"condition": {"class": 1.5}}, "class 1.5"),
        ({"condition": {"class": True}}, "class True"),
        ({"condition": {"class": []}}, "0 classes"),
        ({"condition": {"class": [1, 2, 3]}, "n": 5}, "3 classes for 5 samples"),
        ({"condition": 3}, "condition is 3"),
    ],
)
def test_what_cannot_be_sampled_is_refused_before_work(model, monkeypatch, options, words):
    def never(*_, **__):
        raise AssertionError("the network was asked")

    monkeypatch.setattr(type(model.denoiser), "forward", never)
    with pytest.raises(InvalidArgument, match=words):
        model.sample(**options)


def test_guidance_without_a_condition_or_a_null_is_refused(plain):
    for options in ({"guidance": 1.5}, {"interval": (0.1, 0.5)}, {"rescale": 0.5}):
        with pytest.raises(InvalidArgument, match="no condition"):
            plain.sample(2, **options)
    with pytest.raises(InvalidArgument, match="unconditional"):
        plain.sample(2, condition={"class": 3})
    assert plain.sample(2, guidance=1).labels is None
    never_null = model_of(tiny("objective.drop=0", "sample.guidance=1"))
    assert never_null.sample(2).labels.tolist() == [0, 1]
    with pytest.raises(InvalidArgument, match=r"condition_dropout=0\.1"):
        never_null.sample(2, guidance=1.5)


def test_passes_are_counted_and_guidance_changes_the_result(model):
    none, guided = (model.sample(4, steps=6, guidance=g) for g in (1, 1.5))
    assert (none.nfe, guided.nfe) == (6, 12)
    part = model.sample(4, steps=6, guidance=1.5, interval=(0.0, 0.4))
    assert 6 < part.nfe < 12
    assert model.sample(4, steps=6).nfe == 12  # as the recipe says
    assert model.sample(4, steps=6, solver="heun", guidance=1).nfe == 11
    scaled = model.sample(4, steps=6, guidance=1.5, rescale=0.7)
    for a, b in ((none, guided), (guided, part), (guided, scaled)):
        assert (a.x - b.x).abs().max() > 1e-4


@pytest.mark.parametrize(
    "change", [{"steps": 5}, {"solver": "ddim"}, {"grid": "uniform"}, {"seed": 1}]
)
def test_every_option_changes_the_result(model, change):
    a, b = (model.sample(4, **{"steps": 4, **o}).x for o in ({}, change))
    assert (a - b).abs().max() > 1e-4


def test_values_are_in_the_datas_units(model):
    made = model.sample(30)
    assert made.values.dtype == torch.uint8
    assert made.values.shape == (30, 1, 8, 8)
    assert int(made.values.max()) <= 16  # the digits' declared range
    assert torch.equal(made.values, model.spec.restore(made.x))
    assert torch.equal(unnoise.sample(model, 30), made.values)


def test_float_data_come_back_as_floats_in_their_range(tmp_path):
    g = np.random.default_rng(0)
    np.save(tmp_path / "v.npy", (100 + 5 * g.normal(size=(60, 4))).astype(np.float32))
    data = ["data.source=arrays", f"data.path={tmp_path / 'v.npy'}", "data.split={}"]
    recipe = tiny(*data, "network.kind=mlp", "network.width=16", "sample.guidance=1")
    made = model_of(recipe).sample(50, steps=4)
    low, high = parts_of(recipe)["train"].spec.value_range
    assert made.values.dtype == torch.float32
    assert low <= float(made.values.min()) <= float(made.values.max()) <= high
    assert 90 < float(made.values.mean()) < 110


def test_precision_says_what_it_chose_and_keeps_weights_in_float32(model, saved):
    chosen = resolve("auto", CPU)
    assert chosen.name in ("fp32", "bf16")
    assert chosen.reason
    assert resolve("fp32", CPU) == Precision("fp32", "asked for")
    with pytest.raises(InvalidArgument, match="known: auto, bf16, fp16, fp32"):
        resolve("half", CPU)
    assert Model.load(saved).precision == chosen.name
    if chosen.name == "fp32":
        with pytest.raises(Unsupported, match="use fp32"):
            resolve("bf16", CPU)
        return
    low, full = Model.load(saved, "bf16"), Model.load(saved, "fp32")
    a, b = low.sample(4).x, full.sample(4).x
    assert {p.dtype for p in low.denoiser.parameters()} == {torch.float32}
    assert a.dtype == torch.float32
    assert 0 < (a - b).abs().max() < 0.2


def test_autocast_is_nothing_in_fp32():
    layer = torch.nn.Linear(2, 2)
    with autocast("fp32", CPU):
        assert layer(torch.ones(1, 2)).dtype == torch.float32
    with autocast("bf16", CPU):
        assert layer(torch.ones(1, 2)).dtype == torch.bfloat16


def test_sampling_leaves_the_global_generator_alone(model):
    before = torch.get_rng_state()
    model.sample(3, solver="ddpm")
    assert torch.equal(torch.get_rng_state(), before)


def test_on_step_can_stop_the_walk(model):
    seen = []
    model.sample(2, steps=6, on_step=lambda step, _: seen.append(step) or step < 2)
    assert seen == [0, 1, 2]
