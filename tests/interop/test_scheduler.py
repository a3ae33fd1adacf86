"""Our solvers in a pipeline's own loop: every sample is what the solver itself makes."""

from __future__ import annotations

import copy

import pytest
import torch

from tests.exact import F64, Seen, gaussian_elementwise
from unnoise.errors import InvalidArgument, NonFinite, Unsupported
from unnoise.paths import EDM, VE, Chain, Flow, VPLinear, grids
from unnoise.randomness import Streams
from unnoise.solvers import PRESETS, Multistep, Parallel, get

diffusers = pytest.importorskip("diffusers", reason="compares with diffusers")

from unnoise.interop.diffusers import DiffusersField, UnnoiseScheduler  # noqa: E402


@pytest.fixture(scope="module")
def unet():
    with torch.random.fork_rng():
        torch.default_generator.manual_seed(0)
        return diffusers.UNet2DModel(
            sample_size=8,
            block_out_channels=(8, 8),
            down_block_types=("DownBlock2D", "AttnDownBlock2D"),
            up_block_types=("AttnUpBlock2D", "UpBlock2D"),
            layers_per_block=1,
            norm_num_groups=4,
            attention_head_dim=4,
        ).eval()


def in_pipeline(unet, scheduler, steps: int, seed: int = 0, **options):
    """(the picture DDPMPipeline returns, the state its loop began with, and its last)."""
    pipeline = diffusers.DDPMPipeline(unet, scheduler)
    pipeline.set_progress_bar_config(disable=True)
    states = []
    step = scheduler.step

    def watched(output, t, sample, **rest):
        made = step(output, t, sample, **rest)
        states.extend([sample, made.prev_sample])
        return made

    scheduler.step = watched
    generator = torch.Generator().manual_seed(seed)
    picture = pipeline(2, generator, steps, output_type="pt", **options).images
    del scheduler.step
    return picture, states[0], states[-1]


FIXED = [
    name
    for name in ("ddim", "euler", "heun", "rk4", "dpmpp_2m", "dpmpp_3m", "unipc", "lms", "deis")
    if name in PRESETS
]


@pytest.mark.parametrize("name", FIXED)
def test_ddpm_pipeline_makes_what_the_solver_makes(unet, name):
    scheduler = UnnoiseScheduler(name)
    picture, first, last = in_pipeline(unet, scheduler, 4)
    field = DiffusersField(unet, scheduler.convention)
    with torch.no_grad():
        ours = get(name).solve(field, first, grids.uniform(4)).x
    torch.testing.assert_close(last, ours, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(picture, (ours / 2 + 0.5).clamp(0, 1), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", ["dpmpp_2m", "heun", "unipc"])
def test_in_float64_to_1e_10(unet, name):
    double = copy.deepcopy(unet).double()
    scheduler = UnnoiseScheduler(name)
    _, first, last = in_pipeline(double, scheduler, 5)
    assert first.dtype == F64
    with torch.no_grad():
        ours = (
            get(name).solve(DiffusersField(double, scheduler.convention), first, grids.uniform(5)).x
        )
    torch.testing.assert_close(last, ours, rtol=1e-10, atol=1e-10)


def test_ddim_pipeline_runs_it_too(unet):
    pipeline = diffusers.DDIMPipeline(unet, diffusers.DDIMScheduler(clip_sample=False))
    pipeline.set_progress_bar_config(disable=True)
    pipeline.scheduler = UnnoiseScheduler.from_config(pipeline.scheduler.config, solver="unipc")
    made = pipeline(2, torch.Generator().manual_seed(1), num_inference_steps=3, output_type="np")
    x = torch.randn((2, 3, 8, 8), generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        field = DiffusersField(unet, pipeline.scheduler.convention)
        ours = get("unipc").solve(field, x, grids.uniform(3)).x
    ours = (ours / 2 + 0.5).clamp(0, 1).permute(0, 2, 3, 1).numpy()
    assert abs(made.images - ours).max() < 1e-5


def test_the_pipelines_own_ddim_is_ours(unet):
    """Their scheduler and ours in one pipeline: float32 tables, on the same timesteps."""
    peer = diffusers.DDIMScheduler(clip_sample=False, timestep_spacing="trailing")
    ours = UnnoiseScheduler.from_config(peer.config, solver="ddim", grid="trailing")
    theirs, made = in_pipeline(unet, peer, 8), in_pipeline(unet, ours, 8)
    assert peer.timesteps.tolist() == ours.timesteps.tolist()
    torch.testing.assert_close(made[2], theirs[2], rtol=1e-4, atol=1e-4)


def test_the_pipelines_own_ddpm_is_ours_with_its_generator(unet):
    peer = diffusers.DDPMScheduler(clip_sample=False, timestep_spacing="trailing")
    ours = UnnoiseScheduler.from_config(peer.config, solver="ddpm", grid="trailing")
    theirs, made = in_pipeline(unet, peer, 8), in_pipeline(unet, ours, 8)
    assert torch.equal(made[1], theirs[1])
    torch.testing.assert_close(made[2], theirs[2], rtol=1e-4, atol=1e-4)


def drive(scheduler, field, x, steps=5, generator=None, **options):
    """A pipeline's loop in float64, the network an exact field that predicts as configured."""
    scheduler.set_timesteps(steps, **options)
    convention = scheduler.convention
    for number in scheduler.timesteps:
        shown, t = scheduler.scale_model_input(x, number), convention.time(number)
        if convention.sigma_data is None:
            assert shown is x
            output = Seen(field, convention.predicts)(shown, t).value
            if convention.clock == "flow":
                said = field(shown, t)
                output = said.eps - said.x0
        else:  # EDM's F that makes D = x0
            sigma, data = float(convention.path.sigma(t)), convention.sigma_data
            size = (sigma**2 + data**2) ** 0.5
            back = shown * size
            torch.testing.assert_close(back, x)
            output = (field(back, t).x0 - data**2 / size**2 * back) / (sigma * data / size)
        x = scheduler.step(output, number, x, generator=generator).prev_sample
    return x


def start(path, n=3):
    return Streams(3, range(n)).normal(3).double() * float(path.sigma(1.0))


OTHERS = {
    "flow": UnnoiseScheduler("rk4", path=Flow(), prediction_type="flow_prediction", clock="flow"),
    "shifted flow": UnnoiseScheduler(
        "adams", path=Flow().shifted(1 / 9), prediction_type="flow_prediction", clock="flow"
    ),
    "edm": UnnoiseScheduler(
        "heun:coordinate=sigma", "karras", EDM(), clock="edm", sigma_data=0.5
    ),
    "v": UnnoiseScheduler(
        "dpmpp_2m", path=Chain.linear().with_zero_terminal_snr().as_path(),
        prediction_type="v_prediction",
    ),
    "x0": UnnoiseScheduler("unipc", path=VPLinear(), prediction_type="sample"),
    "ve, one last denoising": UnnoiseScheduler("dpmpp_2m", "log_snr", VE()),
}  # fmt: skip


@pytest.mark.parametrize("name", OTHERS)
def test_other_paths_lenses_and_clocks(name):
    scheduler = copy.deepcopy(OTHERS[name])
    path = scheduler.convention.path
    field, x = gaussian_elementwise(path), start(path)
    made = drive(scheduler, field, x)
    kind = scheduler.config["grid"]
    grid = grids.uniform(5) if kind == "uniform" else getattr(grids, kind)(path, 5)
    wanted = scheduler.solver.solve(field, x, grid).x
    if path == VE():
        wanted = field(wanted, grid[-1]).x0
    torch.testing.assert_close(made, wanted, rtol=1e-9, atol=1e-9)


def test_the_numbers_a_network_is_given():
    scheduler = UnnoiseScheduler("ddim", "trailing")
    scheduler.set_timesteps(4)
    assert scheduler.timesteps.tolist() == [999, 749, 499, 249]
    assert scheduler.timesteps.dtype == torch.int64
    flow = copy.deepcopy(OTHERS["shifted flow"])
    flow.set_timesteps(4)
    # diffusers: shift·σ/(1 + (shift − 1)·σ), shift 3
    wanted = [1000 * 3 * s / (1 + 2 * s) for s in (1, 0.75, 0.5, 0.25)]
    torch.testing.assert_close(flow.timesteps, torch.tensor(wanted, dtype=F64))
    edm = copy.deepcopy(OTHERS["edm"])
    edm.set_timesteps(2)
    assert float(edm.timesteps[0]) == pytest.approx(0.25 * torch.tensor(80.0).log().item())
    assert edm.init_noise_sigma == pytest.approx((80**2 + 1) ** 0.5)


def test_streams_are_its_noise_too():
    path = VPLinear()
    scheduler, field, x = UnnoiseScheduler("ddpm", path=path), gaussian_elementwise(path), None
    x = start(path)
    made = drive(scheduler, field, x, noise=Streams(5, range(3)))
    wanted = get("ddpm").solve(field, x, grids.uniform(5), Streams(5, range(3))).x
    torch.testing.assert_close(made, wanted, rtol=1e-11, atol=1e-11)
    with pytest.raises(InvalidArgument, match="generator="):
        drive(scheduler, field, x)
    generator = torch.Generator().manual_seed(0)
    torch.testing.assert_close(
        drive(scheduler, field, x, generator=generator),
        drive(scheduler, field, x, generator=torch.Generator().manual_seed(0)),
    )


def test_beginning_later_is_a_walk_from_there():
    path = Chain.linear().as_path()
    field, x = gaussian_elementwise(path), start(path)
    scheduler = UnnoiseScheduler("heun", "trailing", path)
    scheduler.set_timesteps(5)
    everything, k = scheduler.timesteps.tolist(), 4
    scheduler.set_begin_index(k)
    assert scheduler.timesteps.tolist() == everything
    t = scheduler.convention.time(scheduler.timesteps[k])
    noised = scheduler.add_noise(x, torch.ones_like(x), scheduler.timesteps[k : k + 1])
    torch.testing.assert_close(noised, path.alpha(t) * x + path.sigma(t))
    y = noised
    for number in scheduler.timesteps[k:]:
        said = Seen(field, "eps")(y, scheduler.convention.time(number))
        y = scheduler.step(said.value, number, y).prev_sample
    wanted = get("heun").solve(field, noised, grids.trailing(path, 5)[2:]).x
    torch.testing.assert_close(y, wanted, rtol=1e-10, atol=1e-10)
    scheduler.set_timesteps(5)
    with pytest.raises(InvalidArgument, match="does not begin a step"):
        scheduler.set_begin_index(3)


def test_training_targets_are_those_of_diffusers():
    theirs = diffusers.DDPMScheduler(1000)
    ours = UnnoiseScheduler.from_config(theirs.config)
    x, eps = Streams(0, range(3)).normal(2, 5).double().unbind(1)
    steps = torch.tensor([0, 500, 999])
    for method in ("add_noise", "get_velocity"):
        made = getattr(ours, method)(x, eps, steps)
        wanted = getattr(theirs, method)(x, eps, steps)  # its table is float32
        torch.testing.assert_close(made, wanted, rtol=2e-5, atol=2e-6, msg=method)


def test_saved_and_read_again(tmp_path):
    scheduler = UnnoiseScheduler(
        "unipc:order=3", {"kind": "karras", "rho": 5.0}, Chain.cosine(50).as_path().shifted(0.5)
    )
    scheduler.save_pretrained(tmp_path)
    again = UnnoiseScheduler.from_pretrained(tmp_path)
    assert (again.solver, again.convention) == (scheduler.solver, scheduler.convention)
    for one in (scheduler, again):
        one.set_timesteps(6)
    assert again.timesteps.tolist() == scheduler.timesteps.tolist()
    with pytest.raises(InvalidArgument, match="by name"):
        UnnoiseScheduler(Multistep(3)).save_pretrained(tmp_path)


def test_what_it_refuses():
    path = Chain.linear().as_path()
    field, x = gaussian_elementwise(path), start(path)
    scheduler = UnnoiseScheduler("dpmpp_2m", "trailing", path)
    with pytest.raises(InvalidArgument, match="set_timesteps first"):
        scheduler.step(x, 999, x)
    scheduler.set_timesteps(4)
    with pytest.raises(InvalidArgument, match="in order"):
        scheduler.step(x, 500, x)
    made = scheduler.step(x, 999, x).prev_sample
    with pytest.raises(Unsupported, match="changed the sample"):
        scheduler.step(x, 749, made + 1)
    with pytest.raises(InvalidArgument, match="ddim:eta"):
        scheduler.step(x, 749, made, eta=0.5)
    scheduler.step(x, 749, made.clone())
    with pytest.raises(InvalidArgument, match="did you mean 'unipc'"):
        UnnoiseScheduler("unipcc")
    with pytest.raises(Unsupported, match="predict v"):
        UnnoiseScheduler(path=Flow())
    flow = UnnoiseScheduler("lms", path=Flow(), prediction_type="flow_prediction", clock="flow")
    with pytest.raises(Unsupported, match="cannot start where α = 0"):
        flow.set_timesteps(4)
    with pytest.raises(NonFinite, match="last of 3 passes"):
        drive(UnnoiseScheduler("ddim", path=path), field, x * torch.nan, 3)


def test_a_loop_left_early_begins_anew_in_a_copy_and_after_set_timesteps():
    path = VPLinear()
    field, scheduler, x = gaussian_elementwise(path), UnnoiseScheduler("dpmpp_2m", path=path), None
    x = start(path)
    wanted = drive(copy.deepcopy(scheduler), field, x)
    scheduler.set_timesteps(5)
    scheduler.step(x, scheduler.timesteps[0], x)
    assert torch.equal(drive(copy.deepcopy(scheduler), field, x), wanted)
    assert torch.equal(drive(scheduler, field, x), wanted)
    assert torch.equal(drive(scheduler, field, x), wanted)


@pytest.mark.parametrize("name", ["ddim", "dpmpp_3m", "unipc", "heun", "ddpm", "dpmpp_sde", "lms"])
def test_states_that_were_handed_out_stay_as_they_are(name):
    path, kept = VPLinear(), []
    scheduler = UnnoiseScheduler(name, path=path)
    step = scheduler.step

    def watched(output, t, sample, **rest):
        made = step(output, t, sample, **rest)
        kept.extend((x, x.clone()) for x in (output, sample, made.prev_sample))
        return made

    scheduler.step = watched
    drive(scheduler, gaussian_elementwise(path), start(path), noise=Streams(5, range(3)))
    assert len(kept) >= 15
    assert all(torch.equal(x, then) for x, then in kept)


@pytest.mark.parametrize("name", ["rk12", "rk45", "dop853", "dpm_adaptive"])
@pytest.mark.parametrize("kind", ["epsilon", "v_prediction"])
def test_solvers_whose_times_depend_on_the_network_are_refused(name, kind):
    scheduler = UnnoiseScheduler(name, path=VPLinear(), prediction_type=kind)
    with pytest.raises(Unsupported, match="times that each sample chooses"):
        scheduler.set_timesteps(times=[0.999, 0.5, 0.001])


def test_a_parallel_solver_is_refused():
    scheduler = UnnoiseScheduler(Parallel(), path=VPLinear())
    with pytest.raises(Unsupported, match="several at once"):
        scheduler.set_timesteps(4)


def test_the_times_are_those_of_the_solve():
    path = VPLinear()
    for name in ("heun", "dpmpp_2s", "unipc", "restart", "predictor_corrector", "pndm", "auto"):
        scheduler, seen = UnnoiseScheduler(name, path=path), []
        scheduler.set_timesteps(times=grids.uniform(6, 1.0, 0.01))
        get(name).solve(
            gaussian_elementwise(path), start(path), grids.uniform(6, 1.0, 0.01),
            Streams(1, range(3)), lambda _, said, seen=seen: seen.append(float(said.t)),
        )  # fmt: skip
        asked = scheduler.convention.time(scheduler.timesteps)
        torch.testing.assert_close(asked, torch.tensor(seen, dtype=F64), rtol=1e-12, atol=1e-12)


def test_clipping_is_taken_from_a_config_and_saved(tmp_path):
    thresholds = {"thresholding": True, "sample_max_value": 1.5, "dynamic_thresholding_ratio": 0.9}
    for given, clip, threshold in (
        ({"clip_sample": False}, None, None),
        ({"clip_sample_range": 0.7}, 0.7, None),
        (thresholds, None, (0.9, 1.5)),
    ):
        peer = diffusers.DDPMScheduler(**given)
        scheduler = UnnoiseScheduler.from_config(peer.config)
        scheduler.save_pretrained(tmp_path)
        for one in (scheduler, UnnoiseScheduler.from_pretrained(tmp_path)):
            assert (one.convention.clip, one.convention.threshold) == (clip, threshold)
    with pytest.raises(InvalidArgument, match="give one of them"):
        UnnoiseScheduler(clip=1.0, threshold=(0.9, 1.5))
    with pytest.raises(InvalidArgument, match="limit is -1"):
        UnnoiseScheduler(clip=-1.0)


@pytest.mark.parametrize("options", [{"clip_sample_range": 0.5}, {"thresholding": True}])
def test_the_pipelines_own_clipped_ddpm_is_ours(unet, options):
    peer = diffusers.DDPMScheduler(timestep_spacing="trailing", **options)
    ours = UnnoiseScheduler.from_config(peer.config, solver="ddpm", grid="trailing")
    theirs, made = in_pipeline(unet, peer, 8), in_pipeline(unet, ours, 8)
    torch.testing.assert_close(made[2], theirs[2], rtol=1e-4, atol=1e-4)


def test_gradients_flow_through_the_loop():
    path = VPLinear()
    scheduler, field = UnnoiseScheduler("dpmpp_2m", path=path), gaussian_elementwise(path)
    x = start(path).requires_grad_()
    made = drive(scheduler, field, x, 3)
    wanted = get("dpmpp_2m").solve(field, x, grids.uniform(3)).x
    ours, theirs = (torch.autograd.grad(y.sum(), x)[0] for y in (made, wanted))
    torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-9)
    with torch.no_grad():
        assert not drive(scheduler, field, x, 3).requires_grad
    with torch.inference_mode():
        torch.testing.assert_close(drive(scheduler, field, x, 3), made.detach())
