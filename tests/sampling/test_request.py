"""One request: every spelling, what is given and what is the recipe's, and what is refused."""

import json

import numpy as np
import pytest
import torch

from tests.training.tiny import model_of, tiny
from unnoise.errors import InvalidArgument, RecipeError
from unnoise.guidance import classifier_free
from unnoise.recipes import SampleConfig, dump, load_recipe, resolved
from unnoise.sampling import CycleClasses, SampleRequest, guide, make_plan
from unnoise.solvers import get

SECTION = {"kind": "classifier_free", "scale": 2.0, "interval": [0.1, 0.9], "rescale": 0.3}
FLAT = {"guidance": 2.0, "interval": [0.1, 0.9], "rescale": 0.3}


def in_force(own, **given):
    """(scale, interval, rescale) of the only guidance in force, or None."""
    sections = SampleRequest.of(**given).section(SampleConfig(**own)).guidance
    assert len(sections) <= 1
    return next(((s.scale, s.interval, s.rescale) for s in sections), None)


@pytest.mark.parametrize(
    ("own", "given", "expected"),
    [
        ({}, {}, None),
        ({"guidance": 1.0, "rescale": 0.0}, {}, None),
        ({"guidance": 1.5}, {}, (1.5, None, 0.0)),
        (FLAT, {}, (2.0, (0.1, 0.9), 0.3)),
        ({"guidance": [SECTION]}, {}, (2.0, (0.1, 0.9), 0.3)),
        (FLAT, {"guidance": 3}, (3.0, (0.1, 0.9), 0.3)),
        (FLAT, {"interval": (0.2, 0.4)}, (2.0, (0.2, 0.4), 0.3)),
        (FLAT, {"rescale": 0.0}, (2.0, (0.1, 0.9), 0.0)),
        (FLAT, {"guidance": 1}, None),
        (FLAT, {"guidance": 1, "interval": (0.2, 0.4)}, (1.0, (0.2, 0.4), 0.3)),
        (FLAT, {"guidance": []}, None),
        (FLAT, {"guidance": [SECTION | {"scale": 4}]}, (4.0, (0.1, 0.9), 0.3)),
        (FLAT, {"guidance": [SECTION], "rescale": 0.7}, (2.0, (0.1, 0.9), 0.7)),
        ({}, {"guidance": 0}, (0.0, None, 0.0)),
        ({"interval": [0.2, 0.4]}, {}, (1.0, (0.2, 0.4), 0.0)),
    ],
)
def test_guidance_in_every_spelling(own, given, expected):
    assert in_force(own, **given) == expected
    plain = resolved(SampleConfig(**own))  # as files have it
    assert in_force(json.loads(json.dumps(plain)), **given) == expected


def test_a_recipe_reads_both_spellings_and_writes_sections():
    flat = tiny("sample.guidance=2", "sample.interval=[0.1, 0.9]", "sample.rescale=0.3")
    listed = load_recipe(
        resolved(tiny("sample.steps=3")) | {"sample": {"steps": 3, "guidance": [SECTION]}}
    )
    assert flat.sample == listed.sample
    assert resolved(flat)["sample"]["guidance"] == [SECTION]
    assert load_recipe(resolved(flat)) == flat
    assert "kind: classifier_free" in dump(flat)
    for change, scale in (("sample.guidance=3", 3), ("sample.rescale=0.5", 2)):
        (section,) = load_recipe(resolved(flat), [change]).sample.guidance
        assert (section.scale, section.interval) == (scale, (0.1, 0.9))
    assert load_recipe(resolved(flat), ["sample.guidance=1"]).sample.guidance == ()
    for wrong, words in (
        ("sample.guidance=[{kind: classifier, scale: 2}]", "known: classifier_free"),
        ("sample.guidance=[{scale: 2}]", "needs the key 'kind'"),
        ("sample.guidance=[2]", r"guidance\.0"),
        ("sample.guidance={kind: classifier_free, scale: 2}", "guidance is"),
        ("sample.guidance=.inf", "give finite numbers"),
        ("sample.guidance=true", "true and false mean nothing"),
        ("sample.rescale=1.5", "rescale is 1.5"),
    ):
        with pytest.raises(RecipeError, match=words):
            tiny(wrong)


def test_sections_nest_the_first_innermost():
    field = model_of(tiny()).denoiser
    inner, outer = (SampleConfig(guidance=g).guidance[0] for g in (2.0, 0.5))
    x, t = torch.full((2, 1, 8, 8), 0.3), torch.tensor(0.5)
    condition = {"class": torch.tensor([3, 4])}
    got = guide(field, (inner, outer))(x, t, condition)
    wanted = classifier_free(classifier_free(field, 2.0), 0.5)(x, t, condition)
    assert torch.equal(got.value, wanted.value)
    assert guide(field, ()) is field


def test_an_old_spelling_and_sections_draw_the_same_bits():
    model = model_of(tiny())
    listed = model.sample(3, seed=1, guidance=[SECTION])
    flat = model.sample(3, seed=1, guidance=2.0, interval=(0.1, 0.9), rescale=0.3)
    of_recipe = model_of(tiny(*(f"sample.{k}={v}" for k, v in FLAT.items()))).sample(3, seed=1)
    assert torch.equal(listed.x, flat.x)
    assert torch.equal(listed.x, of_recipe.x)
    assert not torch.equal(listed.x, model.sample(3, seed=1, guidance=2.0).x)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"n": 3, "seed": 4, "first": 2, "batch": 7, "precision": "fp32"},
        {"solver": "ddim:eta=0.5", "steps": 4, "grid": "uniform"},
        {"solver": "DPM++ 2M Karras", "grid": {"kind": "karras", "rho": 5.0}},
        {"grid": torch.tensor([1.0, 0.5, 0.0], dtype=torch.float64)},
        {"guidance": 2.0, "interval": (0.2, 0.4), "rescale": 0.5},
        {"guidance": [SECTION]},
        {"classes": ["3", "seven"]},
        {"condition": {"class": CycleClasses((3, "4"))}},
        {"condition": {"class": np.array([1, 2])}},
    ],
)
def test_it_comes_back_from_json(options):
    request = SampleRequest.of(**options)
    tree = json.loads(json.dumps(request.to_dict()))
    again = SampleRequest.of(**tree)
    assert again.to_dict() == tree
    assert again.model_fields_set == request.model_fields_set
    own = SampleConfig(guidance=1.5)
    assert again.section(own) == request.section(own)
    assert request.but(n=None) is request
    assert request.but(n=9).n == 9
    assert request.but(n=9).but(**options).to_dict() == {"n": 9} | tree


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"stepz": 3}, "did you mean 'steps'"),
        ({"cls": 3}, "unknown key 'cls'"),
        ({"solver": 3}, "give the name of a solver"),
        ({"guidance": "2"}, "guidance is '2'"),
        ({"guidance": True}, "true and false mean nothing"),
        ({"guidance": [3]}, "guidance"),
        ({"guidance": {"kind": "classifier_free", "scale": 2}}, "guidance is"),
        ({"n": True}, "true and false mean nothing"),
        ({"precision": "fp8"}, "known: auto, fp32, bf16 or fp16"),
        ({"seed": 2**63}, "seed"),
        ({"grid": [1.0, 0.5, 0.0], "steps": 3}, "leave steps out"),
    ],
)
def test_what_no_model_could_do_is_refused(options, words):
    with pytest.raises(InvalidArgument, match=words):
        SampleRequest.of(**options)


def test_a_request_for_another_precision_or_device_than_the_model_s_is_refused():
    model = model_of(tiny())
    assert model.stream(2, precision="fp32", device="cpu").n == 2
    with pytest.raises(InvalidArgument, match="loaded in fp32; load it with precision='bf16'"):
        model.stream(2, precision="bf16")
    with pytest.raises(InvalidArgument, match="loaded on cpu; load it with device='meta'"):
        model.stream(2, device="meta")


def test_a_solver_object_has_no_place_in_a_file():
    request = SampleRequest.of(solver=get("ddim", eta=0.5))
    assert make_plan(model_of(tiny()).facts, request).solver == get("ddim", eta=0.5)
    with pytest.raises(InvalidArgument, match="give it by name"):
        request.to_dict()


def test_what_is_in_force_names_every_option_that_samples_depend_on():
    plan = make_plan(model_of(tiny()).facts, SampleRequest.of(guidance=[SECTION], steps=2))
    tree = plan.to_dict()
    assert tree.keys() == SampleConfig.model_fields.keys() | {"times_sha256"}
    assert (tree["guidance"], tree["steps"]) == ([SECTION], 2)
    other = make_plan(model_of(tiny()).facts, SampleRequest.of(grid=[1.0, 0.4, 0.0]))
    assert other.to_dict()["times_sha256"] != tree["times_sha256"]
    assert other.to_dict()["grid"] == "3 given times"
