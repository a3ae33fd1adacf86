"""Several conditions from data to samples: trained, saved, loaded, and sampled by name."""

import numpy as np
import pytest
import torch

from tests.data.test_columns import make
from unnoise.artifacts import Model
from unnoise.data import from_arrays
from unnoise.errors import InvalidArgument, RecipeError
from unnoise.fields import Condition, Field, Prediction
from unnoise.recipes import build_denoiser, check_data, choose_for, load_recipe
from unnoise.sampling import CycleClasses, conditions_for
from unnoise.sampling.conditions import Labels
from unnoise.training.run import train

BRIEF = [
    "train.steps=3", "train.batch=8", "data.split={validation: 0, test: 0}", "sample.steps=3",
    "network={kind: mlp, width: 16, depth: 1}",
]  # fmt: skip
ASKED = ["data.conditions.age=vector", "data.conditions.kind=class"]


@pytest.mark.parametrize("source", ["folder", "npz", "parquet", "webdataset"])
def test_from_every_kind_of_file_to_samples_by_name(source, tmp_path, monkeypatch):
    monkeypatch.setenv("UNNOISE_CACHE", str(tmp_path / "cache"))
    (tmp_path / "d").mkdir()
    what = str(make(source, tmp_path / "d"))
    recipe, _ = choose_for(what, overrides=[*ASKED, *BRIEF])
    assert (recipe.sample.guidance, recipe.objective.condition_dropout) == ((), 0.2)
    made = train(recipe, tmp_path / "run", quiet=True)
    model = Model.load(tmp_path / "run", made.precision)
    assert list(model.conditions) == ["class", "age", "kind"]
    asked = {"class": 2, "age": 25.0, "kind": "bb"}
    samples = model.sample(4, condition=asked)
    assert torch.equal(samples.x, made.sample(4, condition=asked).x)
    assert {n: c.flatten().tolist() for n, c in samples.columns.items()} == {
        "class": [2] * 4, "age": [25.0] * 4, "kind": [1] * 4,
    }  # fmt: skip
    others = [
        {**asked, "age": 60.0}, {**asked, "kind": "aa"}, {**asked, "class": 1},
        {"class": 2, "kind": "bb"},
    ]  # fmt: skip
    for other in others:  # each one is used, and none is the null
        assert not torch.equal(model.sample(4, condition=other).x, samples.x)
    free = model.sample(8)
    assert free.columns["class"].tolist() == [0, 1, 2, 0, 1, 2, 0, 1]
    assert free.columns["kind"].tolist() == [0, 0, 0, 1, 1, 1, 0, 0]
    assert "age" not in free.columns
    guided = model.sample(4, condition=asked, guidance={"class": 2.0, "age": 1.5})
    assert guided.nfe == 3 * samples.nfe
    assert not torch.equal(guided.x, samples.x)


class Facts:
    """What `conditions_for` needs of a model."""

    def __init__(self, needed=()):
        x = np.random.default_rng(0).normal(size=(60, 2))
        self.spec = from_arrays(
            x, np.arange(60) % 3,
            columns={
                "age": np.linspace(20, 60, 60), "place": x, "kind": np.array(list("abcd") * 15),
            },
            conditions={"age": "vector", "place": "vector", "kind": "class"},
        ).spec  # fmt: skip
        self.conditions, self.needed = self.spec.conditions, needed


def test_rules_of_what_is_given_and_what_is_not():
    conditions, n = conditions_for(Facts(), None)
    assert n == 16
    some = conditions.columns(range(100, 124))
    pairs = list(zip(some["class"].tolist(), some["kind"].tolist(), strict=True))
    assert pairs == [(i % 3, i // 3 % 4) for i in range(100, 124)]  # all 12 combinations in turn
    assert set(some) == {"class", "kind"}
    condition = conditions.condition(range(5))
    assert {name: bool(mask.any()) for name, mask in condition.keep.items()} == {
        "class": True, "age": False, "place": False, "kind": True,
    }  # fmt: skip
    given = {"age": [20.0, 40.0, 60.0], "place": [1.0, 2.0], "class": "1"}
    conditions, n = conditions_for(Facts(), given, None, first=7)
    assert n == 3
    some = conditions.columns(range(8, 10))
    assert some["age"].tolist() == [[40.0], [60.0]]
    assert some["place"].tolist() == [[1.0, 2.0]] * 2
    assert some["class"].tolist() == [1, 1]
    standard = conditions.condition(range(7, 10)).values["age"][:, 0]
    mean, std = (getattr(Facts().spec.conditions["age"], n)[0] for n in ("mean", "std"))
    torch.testing.assert_close(standard, (torch.tensor([20.0, 40, 60]) - mean) / std)
    turn, n = conditions_for(Facts(), {"age": CycleClasses((20.0, 60.0))}, 5, first=3)
    assert n == 5
    assert turn.columns(range(3, 7))["age"].flatten().tolist() == [60.0, 20.0, 60.0, 20.0]


@pytest.mark.parametrize("first", [0, 5, 10**9])
def test_a_cycle_alone_is_that_of_before(first):
    rows = range(first, first + 40)
    assert Labels(range(7)).of(rows).tolist() == [i % 7 for i in rows]
    assert Labels((4, 2, 9), offset=first).of(rows).tolist() == [
        (4, 2, 9)[i % 3] for i in range(40)
    ]
    assert Labels(range(3), every=4).of(rows).tolist() == [i // 4 % 3 for i in rows]


@pytest.mark.parametrize(
    ("given", "n", "message"),
    [
        ({"agee": 1}, 4, "did you mean 'age'"),
        ({"age": "old"}, 4, "condition age is 'old'; give a finite number"),
        ({"age": float("nan")}, 4, "give a finite number"),
        ({"age": [1.0, 2.0]}, 3, "2 values of age for 3 samples; give one, or one per sample"),
        ({"place": 1.0}, 4, "condition place is 1.0; give 2 finite numbers"),
        ({"place": [[1.0, 2.0, 3.0]]}, 4, "give 2 finite numbers"),
        ({"kind": "e"}, 4, "kind 'e' is not one of .* a number from 0 to 3 or a name"),
        ({"kind": 4}, 4, "from 0 to 3"),
        ({"class": 3}, 4, "from 0 to 2"),
        ({"age": CycleClasses(())}, 4, "give one or more"),
        ([1], 4, "give a dict"),
    ],
)
def test_what_cannot_be_asked_for_is_refused(given, n, message):
    with pytest.raises(InvalidArgument, match=message):
        conditions_for(Facts(), given, n)


def test_a_vector_that_was_never_dropped_must_be_given():
    with pytest.raises(InvalidArgument, match="--condition age="):
        conditions_for(Facts(["age"]), {"class": 1})
    assert conditions_for(Facts(["age"]), {"age": 30.0})[1] == 16


@pytest.fixture(scope="module")
def model():
    x = np.random.default_rng(0).normal(size=(60, 2)).astype(np.float32)
    data = from_arrays(
        x, np.arange(60) % 3, columns={"age": np.linspace(20, 60, 60)},
        conditions={"age": "vector"},
    )  # fmt: skip
    recipe = load_recipe({
        "name": "aged", "data": {"source": "arrays", "path": "/nowhere"}, "path": {"kind": "flow"},
        "network": {"kind": "mlp", "width": 16, "depth": 1}, "train": {"steps": 1},
        "objective": {"condition_dropout": 0.2}, "sample": {"steps": 2, "solver": "ddim"},
    })  # fmt: skip
    denoiser = build_denoiser(recipe.path, recipe.network, recipe.model, data.spec)
    torch.manual_seed(0)
    for p in denoiser.parameters():
        torch.nn.init.normal_(p, std=0.3)
    return Model({"denoiser": denoiser}, recipe, data.spec)


class Composed(Field):
    """uncond + Σ scale·(one alone − uncond), each by an evaluation of its own."""

    def __init__(self, field, condition, scales):
        self.field, self.path, self.condition, self.scales = field, field.path, condition, scales

    def __call__(self, x_t, t, condition=None):
        null = self.field(x_t, t, self.condition.null())
        value = null.value
        for name, scale in self.scales.items():
            alone = self.field(x_t, t, self.condition.only(name)).value
            value = value + scale * (alone - null.value)
        return Prediction(x_t, t, self.path, null.lens, value)


def test_guidance_by_name_is_that_of_each_condition_alone(model):
    from unnoise.randomness import Streams
    from unnoise.solvers import sample

    scales = {"class": 2.0, "age": 0.5}
    made = model.sample(3, condition={"class": [0, 1, 2], "age": 41.0}, guidance=scales, seed=4)
    condition = model.spec.condition({"class": [0, 1, 2], "age": 41.0}, 3)
    assert isinstance(condition, Condition)
    plan = model.stream(3, condition={"class": 0, "age": 41.0}).plan
    with torch.no_grad():
        wanted = sample(
            Composed(model.denoiser.eval(), condition, scales), Streams(4, range(3), "sample"),
            (2,), plan.solver, plan.grid, model.denoiser.data_std,
        )  # fmt: skip
    torch.testing.assert_close(made.x, wanted.x, rtol=1e-5, atol=1e-5)
    assert made.nfe == 3 * 2


def test_guidance_by_what_is_not_there_or_not_given_is_refused(model):
    with pytest.raises(InvalidArgument, match=r"guidance by 'kind'.*class, age"):
        model.sample(2, guidance={"kind": 1.0})
    with pytest.raises(InvalidArgument, match="no age is given"):
        model.sample(2, guidance={"class": 2.0, "age": 1.0})
    with pytest.raises(InvalidArgument, match=r"finite|nan"):
        model.sample(2, condition={"age": 30.0}, guidance={"age": float("nan")})


def test_a_recipe_names_conditions_that_the_data_have(model):
    for change, message in (
        ({"objective": {"condition_dropout": {"agee": 0.1}}}, "did you mean 'age'"),
        ({"objective": {"condition_dropout": {"age": 0.1}}, "sample": {"guidance": 2}}, "null"),
        ({"sample": {"guidance": {"kind": 2.0}}}, "guidance by 'kind'"),
    ):
        tree = model.recipe.model_dump(mode="json") | change
        with pytest.raises(RecipeError, match=message):
            check_data(load_recipe(tree), model.spec)


def test_save_and_load_keep_every_condition(model, tmp_path):
    model.save(tmp_path / "m")
    again = Model.load(tmp_path / "m", "fp32")
    assert again.spec == model.spec
    asked = {"age": [25.0, 50.0]}
    assert torch.equal(again.sample(condition=asked).x, model.sample(condition=asked).x)
    assert "age: 1 number(s)" in (tmp_path / "m" / "README.md").read_text()


def test_the_command_line_gives_conditions_by_name():
    from unnoise.cli.request import parse_request

    asked = parse_request({
        "condition": ["age=41.5", "place=[1, 2]", "kind=bb", "kind=aa", "kind=3"], "classes": ["7"],
        "guidance": "{class: 2, age: 0.5}",
    })  # fmt: skip
    assert {name: cycle.classes for name, cycle in asked.condition.items()} == {
        "age": (41.5,), "place": ([1, 2],), "kind": ("bb", "aa", 3), "class": ("7",),
    }  # fmt: skip
    assert [section.scales for section in asked.guidance] == [{"class": 2.0, "age": 0.5}]
    again = type(asked).of(**asked.to_dict())  # as a job that is resumed reads it
    assert (again.condition, again.guidance) == (asked.condition, asked.guidance)
    rules = conditions_for(Facts(), {k: v for k, v in asked.condition.items() if k == "place"})[0]
    assert rules.columns(range(2))["place"].tolist() == [[1.0, 2.0]] * 2
    for wrong in ("age", "=3", "age="):
        with pytest.raises(InvalidArgument, match="give NAME=VALUE"):
            parse_request({"condition": [wrong]})
    with pytest.raises(InvalidArgument, match="given twice"):
        parse_request({"condition": ["class=1"], "classes": ["2"]})
