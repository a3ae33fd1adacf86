"""Time to quality: peers are driven right, all pay alike, runs are known by what they do."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from benchmarks.quality import learning, plan, report
from benchmarks.quality.contestants import DOCUMENTED, KINDS, TRIES, Contestant, tuned
from benchmarks.quality.learning import Settings, batches, train
from benchmarks.quality.runs import Kept, run_of_peer
from benchmarks.quality.task import EVALUATIONS, Task

SHAPE, CLASSES, POINT = (1, 8, 8), 10, 0.4
# diffusers hands tensors to numpy
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
SMALL = {
    "diffusers": {"widths": (32, 32), "conditional": True},
    "torchcfm": {"mult": (1, 1)},
    "azula": {"widths": (8, 8), "blocks": (1, 1)},
}
NEEDS = {"diffusers": "diffusers", "torchcfm": "torchcfm", "azula": "azula"}


@pytest.fixture(params=sorted(KINDS))
def peer(request: pytest.FixtureRequest):
    pytest.importorskip(NEEDS[request.param])
    torch.manual_seed(0)
    return KINDS[request.param](SHAPE, CLASSES, **SMALL[request.param])


def exactly(peer, counted: list[int]):
    """Its network's place taken by the exact answer for data that are all POINT."""
    kind = type(peer).__name__

    def answer(x: Tensor, t: Tensor) -> Tensor:
        t = torch.as_tensor(t, dtype=torch.float32).reshape(-1, *[1] * 3)
        if kind == "Torchcfm":
            return (POINT - x) / (1 - t).clamp(min=1e-9)
        alpha = peer.scheduler.alphas_cumprod[t.long()].sqrt()
        sigma = (1 - alpha.square()).sqrt()
        eps = (x - alpha * POINT) / sigma
        velocity = peer.scheduler.config.prediction_type == "v_prediction"
        return alpha * eps - sigma * POINT if velocity else eps

    def called(*given, **_):
        counted.append(1)
        if kind == "Azula":
            return SimpleNamespace(mean=torch.full_like(given[0], POINT))
        if kind == "Torchcfm":
            return answer(given[1], given[0])
        return SimpleNamespace(sample=answer(*given))

    peer.module.forward = called


def test_every_sampler_asks_the_network_fifty_times_and_ends_where_it_says(peer) -> None:
    for sampler in peer.samplers:
        counted: list[int] = []
        exactly(peer, counted)
        made = peer.sample(torch.randn(3, *SHAPE), torch.zeros(3, dtype=torch.long), sampler)
        assert len(counted) == EVALUATIONS, sampler
        # torchcfm's second-order step would look at t = 1, where the exact velocity is infinite
        if sampler != "heun":
            torch.testing.assert_close(made, torch.full_like(made, POINT), atol=5e-3, rtol=0)


def test_the_tuned_chain_of_diffusers_ends_where_it_says_too() -> None:
    pytest.importorskip("diffusers")
    options = {**SMALL["diffusers"], "betas": "squaredcos_cap_v2", "predicts": "v_prediction"}
    peer = KINDS["diffusers"](SHAPE, CLASSES, **options)
    x, zeros = torch.full((64, *SHAPE), POINT), torch.zeros(64, dtype=torch.long)
    exactly(peer, [])
    assert float(peer.loss(x, zeros)) < 1e-9
    for sampler in peer.samplers:
        made = peer.sample(torch.randn(3, *SHAPE), zeros[:3], sampler)
        torch.testing.assert_close(made, torch.full_like(made, POINT), atol=5e-3, rtol=0)


def test_heun_walks_a_known_field_to_its_end() -> None:
    pytest.importorskip("torchcfm")
    peer = KINDS["torchcfm"](SHAPE, CLASSES, **SMALL["torchcfm"])
    peer.module.forward = lambda t, x, y: t.reshape(-1, 1, 1, 1) * torch.ones_like(x)
    noise = torch.randn(2, *SHAPE)
    made = peer.sample(noise, torch.zeros(2, dtype=torch.long), "heun")
    torch.testing.assert_close(made - noise, torch.full_like(noise, 0.5))  # ∫ t dt, exactly


def test_labels_matter_where_a_peer_is_conditional(peer) -> None:
    noise, zeros = torch.randn(2, *SHAPE), torch.zeros(2, dtype=torch.long)
    for parameter in peer.module.parameters():
        nn.init.normal_(parameter, std=0.1)
    one, other = (peer.sample(noise, labels, peer.samplers[0]) for labels in (zeros, zeros + 7))
    assert peer.conditional
    assert not torch.equal(one, other)


def test_a_peer_learns(peer) -> None:
    torch.manual_seed(0)
    x, labels = torch.full((64, *SHAPE), POINT), torch.zeros(64, dtype=torch.long)
    settings = Settings(3e-3, 16, loader=False)
    fixed = torch.Generator().get_state()

    def loss() -> float:
        torch.random.set_rng_state(fixed)
        with torch.no_grad():
            return float(peer.loss(x, labels))

    before = loss()
    train(peer, x, labels, settings, 0.5)
    assert loss() < 0.7 * before


class Line:
    """A peer of one number, whose steps are recorded."""

    conditional, samplers = False, ()

    def __init__(self) -> None:
        self.module = nn.Linear(1, 1, bias=False)
        self.seen: list[int] = []

    def loss(self, x: Tensor, labels: Tensor) -> Tensor:
        self.seen.append(len(x))
        return self.module(x).mean()


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """A second passes with every look at the clock."""
    now = [0.0]

    def look() -> float:
        now[0] += 1
        return now[0]

    monkeypatch.setattr(learning, "spent", look)
    return now


def rates(monkeypatch: pytest.MonkeyPatch, settings: Settings, seconds: float) -> list[float]:
    found: list[float] = []

    def noted(module: nn.Module, settings: Settings) -> torch.optim.Optimizer:
        made = torch.optim.SGD(module.parameters(), lr=1.0)
        made.register_step_pre_hook(lambda o, *_: found.append(o.param_groups[0]["lr"]))
        return made

    monkeypatch.setattr(learning, "optimizer_of", noted)
    x = torch.ones(8, 1)
    train(Line(), x, torch.zeros(8, dtype=torch.long), settings, seconds)
    return found


def test_a_schedule_goes_by_the_time_that_is_spent(clock, monkeypatch) -> None:
    found = rates(monkeypatch, Settings(1.0, 4, cosine=True, loader=False), 10.0)
    share = torch.arange(1, 10) / 10
    torch.testing.assert_close(torch.tensor(found), 0.5 * (1 + (torch.pi * share).cos()))


@pytest.mark.parametrize(("warmup", "expected"), [(4, [0.25, 0.5, 0.75, 1, 1]), (0.4, None)])
def test_a_warm_up_is_of_updates_or_of_a_share_of_the_time(
    clock, monkeypatch, warmup, expected
) -> None:
    found = rates(monkeypatch, Settings(1.0, 4, warmup=warmup, loader=False), 10.0)
    expected = expected or [0.2525, 0.5025, 0.7525, 1, 1]
    assert found[:5] == pytest.approx(expected)


@pytest.mark.parametrize("loader", [True, False])
def test_batches_are_whole_epochs_in_new_orders(loader: bool) -> None:
    torch.manual_seed(0)
    x = torch.arange(10.0)[:, None]
    drawn = batches(x, torch.arange(10), Settings(1.0, 5, loader=loader))
    epochs = [torch.cat([next(drawn)[1] for _ in range(2)]).tolist() for _ in range(2)]
    assert epochs[0] != epochs[1]
    assert all(sorted(epoch) == list(range(10)) for epoch in epochs)


@pytest.mark.parametrize(
    ("ema", "expected"),
    [(None, 4.0), ({"decay": 0.5}, None), ({"gamma": 1.0}, None)],
)
def test_an_average_of_the_weights_is_what_is_left(clock, ema, expected) -> None:
    module = nn.Linear(1, 1, bias=False)
    module.weight.data.fill_(0.0)
    averages = learning.Averages(module, ema)
    kept = 0.0
    for k in range(1, 5):
        module.weight.data.fill_(float(k))
        averages.update()
        decay = 0.0 if ema is None else ema.get("decay", (1 - 1 / k) ** 2)
        kept = decay * kept + (1 - decay) * k
    averages.apply()
    assert module.weight.item() == pytest.approx(expected or kept)


def test_a_run_is_known_by_all_that_decides_it(tmp_path) -> None:
    who = DOCUMENTED["azula documented"]
    run = run_of_peer("azula documented", who, "digits", 120.0, 0)
    others = [
        replace(run, seconds=60.0),
        replace(run, seed=1),
        replace(run, task="mnist5k"),
        run_of_peer(run.name, replace(who, settings=replace(who.settings, rate=1e-3)), "digits",
                    120.0, 0),
        run_of_peer(run.name, who.with_options(widths=(8, 8)), "digits", 120.0, 0),
    ]  # fmt: skip
    assert len({run.key, *(other.key for other in others)}) == 6
    assert type(run)(**json.loads(json.dumps(asdict(run)))).key == run.key  # as a worker gets it
    for who in (*DOCUMENTED.values(), *(tuned(peer, 0) for peer in TRIES)):
        assert Contestant.from_plain(json.loads(json.dumps(who.plain()))).settings == replace(
            who.settings, options=json.loads(json.dumps(who.settings.options))
        )


def test_the_best_try_is_tuned_and_the_best_tuned_peer_found(tmp_path) -> None:
    digits, kept = SimpleNamespace(name="digits"), Kept(tmp_path)
    for k, run in enumerate(plan.tries(digits)["azula"][:3]):
        (tmp_path / f"{run.key}.json").write_text(json.dumps({"fd": [5.0, 3.0, 4.0][k]}))
    peers = plan.Peers.known(digits, kept)
    assert list(peers.tuned) == ["azula tuned"]
    assert peers.tuned["azula tuned"].settings == TRIES["azula"][1].settings
    assert peers.best is None
    for name, fd in (("azula tuned", 2.0),):
        run = run_of_peer(name, peers.tuned[name], "digits", plan.MAIN, 0)
        (tmp_path / f"{run.key}.json").write_text(json.dumps({"fd": fd}))
    assert plan.Peers.known(digits, kept).best == "azula tuned"


def result(name: str, seconds: float, fd: float, c2st: float = 0.6) -> dict[str, object]:
    return {"name": name, "seconds": seconds, "fd": fd, "c2st": c2st}


def test_the_targets_are_judged_by_the_runs_they_name() -> None:
    bounds = {"floor": {"fd": 2.0}}
    runs = [
        result(plan.OURS, 120.0, 2.4), result(plan.OURS, 120.0, 2.6),
        result(plan.OURS, 60.0, 3.1), result("x tuned", 120.0, 3.0), result("y tuned", 120.0, 4.0),
        result("x tuned", 240.0, 1.0), result("z documented", 120.0, 1.0),
    ]  # fmt: skip
    said = list(report.verdict(runs, bounds).values())
    assert [(s["value"], s["target"], s["met"]) for s in said] == [
        (1.25, 1.31, True), (0.6, 0.64, True), (1.55, 1.5, False),
    ]  # fmt: skip
    assert said[2]["peer"] == "x tuned"
    assert report.verdict([], bounds) == {}


def test_a_row_is_the_mean_of_its_seeds_between_the_floor_and_noise() -> None:
    one = {"parameters": 7, "updates": 10, "seen": 60, "cpu_seconds": 2.0, "sliced_w2": 0.1,
           "nearer_training": 0.5, "sampler": "equal", "conditional": True, "accuracy": 0.9,
           "samplers": {"own": {"fd": 6.0}}, "passes": {"own": 20}}  # fmt: skip
    other = {**one, "updates": 20, "seen": 120, "accuracy": 0.7}
    peer = {**one, "samplers": {"ddim": {}}, "conditional": False}
    del peer["accuracy"]
    floor = {"fd": 2.0, "c2st": 0.5, "sliced_w2": 0.05, "accuracy": 1.0}
    noise = {"fd": 100.0, "c2st": 1.0, "sliced_w2": 0.9}
    found = report.rows(
        [
            result("peer", 120.0, 5.0) | peer,
            result("mine", 120.0, 3.0) | one,
            result("mine", 120.0, 5.0, 0.7) | other,
            result("mine", 60.0, 9.0) | one,
        ],
        {"floor": floor, "noise": noise},
    )
    assert [(r["contestant"], r.get("CPU s")) for r in found] == [
        ("training values (floor)", None), ("mine", 60), ("mine", 120), ("peer", 120),
        ("noise", None),
    ]  # fmt: skip
    mine = found[2]
    wanted = {"seeds": 2, "updates": 15, "images/s": 45, "FD": 4.0, "from": 3.0, "to": 5.0,
              "× floor": 2.0, report.OWN: 3.0, "own passes": 20}  # fmt: skip
    assert {key: mine[key] for key in wanted} == wanted
    assert (mine["C2ST"], mine["named right"]) == pytest.approx((0.65, 0.8))
    assert (found[3]["labels"], found[3]["named right"]) == ("no", None)


def test_the_picture_shows_the_samples_it_is_given(tmp_path) -> None:
    from PIL import Image

    values = np.zeros((2, 1, 4, 4), np.uint8)
    values[1, 0, 0, 3] = 16
    report.picture({"a": values, "b": values[::-1]}, 16, tmp_path / "p.png", 4)
    sheet = np.asarray(Image.open(tmp_path / "p.png"))
    tiles = sheet[:, sheet.shape[1] - 2 * 18 :]  # beside the names
    rows = [tiles[2:18], tiles[24:40]]
    for row, which in zip(rows, (1, 0), strict=True):
        tile = row[:, which * 18 : which * 18 + 16]
        assert (tile[:4, 12:] == 255).all()
        assert not tile[4:].any()


def test_a_figure_is_the_mean_over_sets_of_samples_and_a_try_has_one_set() -> None:
    values = {0: 1.0, 1: 3.0, 2: 8.0}
    task = object.__new__(Task)
    task.figures = lambda draw, labels: {"fd": values[int(draw)], "c2st": 0.5 + int(draw) / 10}
    row = task.mean_figures([torch.tensor(k) for k in range(3)], None)
    assert row["fd"] == pytest.approx(4)
    assert row["c2st"] == pytest.approx(0.6)
    assert row["fds"] == [1.0, 3.0, 8.0]
    short = run_of_peer("a", TRIES["azula"][0], "digits", 30.0, 0)
    assert short.draws == 1 < run_of_peer("a", tuned("azula", 0), "digits", 30.0, 0).draws
