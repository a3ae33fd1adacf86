"""A trained model as a diffusers folder, and back: the same outputs."""

from __future__ import annotations

import json

import pytest
import torch

from tests.training.tiny import model_of, tiny
from unnoise.errors import ArtifactError, Unsupported
from unnoise.randomness import Streams
from unnoise.recipes import build_grid
from unnoise.solvers import get

diffusers = pytest.importorskip("diffusers", reason="compares with diffusers")

from unnoise.interop.diffusers import DiffusersField, load, save  # noqa: E402

RECIPES = {
    "flow": (),
    "shifted flow": ("path.snr_factor=0.2",),
    "chain eps": ("path={kind: chain}", "model.predicts=eps", "sample.solver=ddim"),
    "vp, preconditioned x0": (
        "path={kind: vp}",
        "model.predicts=x0",
        "model.preconditioned=true",
        "sample.solver=unipc:order=3",
    ),
    "cosine score": ("path={kind: cosine, last: 0.99}", "model.predicts=score"),
    "plain": ("model.conditional=false", "sample.guidance=1"),
}


@pytest.fixture(scope="module", params=RECIPES)
def model(request):
    return model_of(tiny(*RECIPES[request.param]))


@pytest.fixture
def folder(model, tmp_path):
    return save(model, tmp_path / "pipeline")


def some(model, n=2):
    return Streams(1, range(n)).normal(*model.spec.shape)


def test_the_pipeline_reads_it_and_makes_the_same_samples(model, folder):
    pipeline = diffusers.DDPMPipeline.from_pretrained(folder)
    pipeline.set_progress_bar_config(disable=True)
    shape = tuple(pipeline.unet.config.sample_size)
    assert (pipeline.unet.config.in_channels, *shape) == model.spec.shape
    made = pipeline(2, torch.Generator().manual_seed(0), 3, output_type="pt").images
    x = torch.randn((2, *model.spec.shape), generator=torch.Generator().manual_seed(0))
    sample = model.recipe.sample
    with torch.no_grad():
        grid = build_grid(sample.grid, model.denoiser.path, 3)
        ours = get(sample.solver).solve(model.denoiser, x, grid).x
    torch.testing.assert_close(made, (ours / 2 + 0.5).clamp(0, 1), rtol=1e-5, atol=1e-5)
    assert float(made.std()) > 0.05


def test_back_again(model, folder):
    again, x = load(folder), some(model)
    assert again.recipe == model.recipe
    assert again.spec == model.spec
    assert again.training == model.training
    for t in (0.9, 0.3):
        a, b = (m.denoiser(x, torch.tensor(t)).value for m in (model, again))
        assert torch.equal(a, b)
    if model.classes:
        a, b = (m.sample(4, seed=3, condition={"class": 1}).x for m in (model, again))
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-5)


def test_it_is_a_field_like_any_diffusers_model(model, folder):
    pipeline = diffusers.DDPMPipeline.from_pretrained(folder)
    field, x, t = DiffusersField(pipeline.unet, pipeline.scheduler.convention), some(model), 0.4
    time = torch.tensor(t, dtype=torch.float64)
    with torch.no_grad():
        torch.testing.assert_close(
            field(x, time).x0, model.denoiser(x, time).x0, rtol=1e-5, atol=1e-5
        )
        if model.classes:
            given = {"class": torch.tensor([1, 2])}
            a, b = field(x, time, given).x0, model.denoiser(x, time, given).x0
            torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-5)
            assert not torch.allclose(a, field(x, time).x0)


def test_what_is_refused(tmp_path):
    model = model_of(tiny())
    with pytest.raises(Unsupported, match=r"no UNet2DModel.*before a block's first convolution"):
        save(model, tmp_path / "native", native=True)
    folder = save(model, tmp_path / "made")
    with pytest.raises(ArtifactError, match="exists already"):
        save(model, folder)
    with pytest.raises(ArtifactError, match="holds no unet/config"):
        load(tmp_path)
    config = folder / "unet" / "config.json"
    tree = json.loads(config.read_text())
    config.write_text(json.dumps(tree | {"_class_name": "UNet2DModel"}))
    with pytest.raises(ArtifactError, match="DiffusersField"):
        load(folder)
    config.write_text(json.dumps({k: v for k, v in tree.items() if k != "data"}))
    with pytest.raises(ArtifactError, match="lacks data"):
        load(folder)
    config.write_text(json.dumps(tree))
    weights = folder / "unet" / "diffusion_pytorch_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-40])
    with pytest.raises(ArtifactError, match="safetensors"):
        load(folder)
