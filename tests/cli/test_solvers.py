"""`unnoise solvers`, and solvers by the names of other programs."""

import inspect

import numpy as np
import pytest
import torch

import unnoise
from tests.training.tiny import model_of, tiny
from unnoise import solvers
from unnoise.cli.solvers import BUILT
from unnoise.errors import InvalidArgument, Unsupported
from unnoise.paths import grids
from unnoise.sampling import SampleRequest, make_plan
from unnoise.solvers import PRESETS, get, names


def test_ours_are_listed_with_a_line_each(run):
    said = run("solvers")
    assert said.code == 0
    lines = dict(line.split(maxsplit=1) for line in said.out.splitlines()[: len(PRESETS)])
    assert lines.keys() == PRESETS.keys()
    assert all(lines.values())
    assert lines["auto"].startswith("Choose order")
    for built in BUILT:  # what is built in Python is named, by a call that exists
        assert built in said.out
        name, _, options = built.removeprefix("solvers.").rstrip(")").partition("(")
        known = inspect.signature(getattr(solvers, name)).parameters
        assert {option.partition("=")[0].strip() for option in options.split(",")} <= known.keys()


def test_their_names_are_listed_with_ours(run):
    said = run("solvers", "--names")
    assert said.code == 0
    wanted = {
        "A1111 DPM++ 2M dpmpp_2m on karras",
        "k-diffusion sample_euler_ancestral euler_ancestral",
        "diffusers DDIMScheduler:eta=0.5 ddim:eta=0.5",
        "A1111 LCM none here: it walks a distilled consistency model, which is a flow map and no "
        "field",
        "ddim_uniform leading:offset=1",
    }
    assert wanted <= {" ".join(line.split()) for line in said.out.splitlines()}
    for row in names.ROWS:
        assert row.peer in said.out
        assert row.name in said.out
        assert row.note in said.out


def test_one_is_explained(run, refused):
    said = run("solvers", "dpmpp_2m_sde")
    assert "dpmpp_2m_sde(eta" in said.out
    assert "'rule'" not in said.out
    said = run("solvers", "DPM++ 2M SDE Heun")
    assert "(A1111) is dpmpp_2m_sde:rule=exact on log_snr" in said.out
    assert "note: " in run("solvers", "Restart").out
    assert "did you mean 'heun'" in refused("solvers", "huen")
    assert "flow map and no field" in refused("solvers", "LCM")
    assert "not both" in refused("solvers", "ddim", "--names")


def test_sampling_by_the_names_of_others(run, model):
    options = ["--n", 3, "--steps", 4, "--precision", "fp32", "--seed", 3]
    said = run("sample", model, *options, "--solver", "DPM++ 2M SDE", "--out", "a.npy")
    assert said.code == 0, said.err
    assert run("sample", model, *options, "--solver", "dpmpp_2m_sde", "--grid", "log_snr",
               "--out", "b.npy").code == 0  # fmt: skip
    assert run("sample", model, *options, "--solver", "dpmpp_2m_sde", "--out", "c.npy").code == 0
    a, b, c = (np.load(f"{name}.npy").astype(int) for name in "abc")
    assert np.array_equal(a, b)
    assert not np.array_equal(a, c)  # the recipe's grid is another
    said = run("sample", model, *options, "--solver", "DPM fast", "--out", "d.npy")
    assert said.code == 0, said.err
    assert "note: DPM fast: " in said.err


def test_the_name_gives_the_grid_unless_one_is_given():
    model = model_of(tiny())
    path = model.denoiser.path

    def plan(solver, grid=None, steps=7):
        request = SampleRequest.of(solver=solver, steps=steps, grid=grid)
        return make_plan(model.facts, request)

    made = plan("DPM++ 2M SDE Exponential")
    assert made.solver == get("dpmpp_2m_sde")
    assert torch.equal(made.grid, grids.log_snr(path, 7))
    assert made.spacing == "log_snr"
    assert torch.equal(plan("DPM++ 2M SDE Exponential", "uniform").grid, grids.uniform(7))
    times = [1.0, 0.4, 0.0]
    assert plan("DPM++ 2M SDE", times, None).grid.tolist() == times
    assert plan("sample_heun").solver == get("heun", coordinate="sigma")
    assert plan("heun").solver == get("heun")
    assert plan("sample_heun").spacing == "karras"  # it says none: the recipe's
    assert plan("auto").spacing == "own"
    assert plan("DDIMScheduler:eta=0.5").solver == get("ddim", eta=0.5)
    with pytest.raises(InvalidArgument, match=r"'Euler a' brings its grid: .*chain.*log_snr"):
        plan("Euler a")
    with pytest.raises(InvalidArgument, match=r"did you mean 'DPM\+\+ 2M' of A1111"):
        plan("DPM++ 2N Karras")
    with pytest.raises(InvalidArgument, match="did you mean 'dpmpp_2m' "):
        plan("dpmp_2m")
    with pytest.raises(Unsupported, match="flow map and no field"):
        plan("LCM")
    with pytest.raises(Unsupported, match="four steps"):
        plan("Euler Turbo")
    with pytest.raises(InvalidArgument, match="rows of the table have"):
        plan("DDIMScheduler:eta=0.3")


def test_a_model_whose_recipe_has_the_name_of_others(tmp_path):
    recipe = tiny("sample.solver=DPM++ 2M SDE Exponential", "sample.steps=5")
    folder = model_of(recipe).save(tmp_path / "m")
    plan = make_plan(unnoise.load(folder).facts, SampleRequest())
    assert plan.solver == get("dpmpp_2m_sde")
    assert torch.equal(plan.grid, grids.log_snr(unnoise.load(folder).denoiser.path, 5))


def test_the_text_of_a_row_builds_its_solver():
    for row in names.ROWS:
        if row.solver is not None:
            assert get(row.text) == row.build(), row
    assert get("unipc:lower_last=false") == get("unipc")
    assert get("unipc:lower_last=True") != get("unipc")
    assert names.ask(get("ddim")).solver == get("ddim")
