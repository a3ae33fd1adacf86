"""Throughput: pairs are equal, arithmetic and memory are counted, an update is an update."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))

import scaling
import throughput
from speed.memory import peak_bytes
from speed.networks import (
    EQUAL,
    PAIRS,
    Contestant,
    Pair,
    cost,
    diffusers_dit,
    diffusers_unet,
    equal,
    our_dit,
    our_unet,
    torchcfm_unet,
)
from speed.steps import inference, inputs, training

from tools.docs import benchmarks as document

ROOT = Path(__file__).parents[2]
EVENT = (1, 8, 8)
TINY = {
    "diffusers": diffusers_unet(EVENT, (8, 8), groups=8),
    "dit": diffusers_dit(EVENT, 2, 8, 1),
    "torchcfm": torchcfm_unet(EVENT, 32, 1, channel_mult=(1,)),
    "ours": our_unet(EVENT, (8, 8), blocks=1),
    "our dit": our_dit(EVENT, width=16, depth=1, head=8),
}


@pytest.mark.parametrize("pair", PAIRS, ids=lambda pair: pair.name)
def test_pairs_are_equal_in_parameters_and_arithmetic(pair):
    parameters, arithmetic = equal(pair)
    assert abs(parameters - 1) <= EQUAL
    assert abs(arithmetic - 1) <= EQUAL


class Known(nn.Module):
    """A 3×3 convolution, then attention of the positions over themselves."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(1, 16, 3, padding=1)

    def forward(self, x):
        rows = self.conv(x).flatten(2).transpose(1, 2).contiguous()[:, None]
        return nn.functional.scaled_dot_product_attention(rows, rows, rows)


def test_arithmetic_is_counted_inside_fused_attention_too():
    known = Contestant("unnoise", "", Known, lambda network, x, t: network(x))
    tokens = 8 * 8
    assert cost(known, EVENT) == (160, 2 * 9 * 16 * tokens + 4 * tokens**2 * 16)


def test_memory_is_that_of_the_worst_moment():
    x = torch.zeros(1 << 18)

    def run():
        a = x + 1
        b = a * 2
        del a
        c = b + b
        return c.exp_()

    assert peak_bytes(run) == pytest.approx(2 * x.nbytes, rel=1e-3)
    assert peak_bytes(lambda: x.mul_(2)) < 100

    def backward():
        w = x.clone().requires_grad_()
        w.exp().sum().backward()

    # w, exp(w) that is kept, and in the backward pass their gradient
    assert peak_bytes(backward) == pytest.approx(3 * x.nbytes, rel=1e-3)


@pytest.mark.parametrize("name", TINY)
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_an_update_learns(name, precision):
    kept = []
    update = training(TINY[name], EVENT, 4, precision, kept.append)
    before = [p.detach().clone() for p in kept[0].parameters()]
    losses = [float(update()) for _ in range(12)]
    after = list(kept[0].parameters())
    changed = [not torch.equal(a, b) for a, b in zip(after, before, strict=True)]
    assert sum(changed) >= 0.8 * len(changed)  # not a class that was not asked for
    assert losses[-1] < losses[0]
    assert all(p.grad is None for p in after)  # forgotten, not added up


@pytest.mark.parametrize("name", ["diffusers", "torchcfm", "ours"])
def test_an_update_is_the_same_in_kind_for_all(name, monkeypatch):
    """One clipping at norm 1, one step of an optimizer, one average; ours through the library."""
    from diffusers.training_utils import EMAModel

    from unnoise.training.ema import Ema

    done = []

    def counted(place, what):
        before = getattr(place, what)

        def call(*args, **kwargs):
            done.append(what if what != "clip_grad_norm_" else (what, args[1]))
            return before(*args, **kwargs)

        monkeypatch.setattr(place, what, call)

    counted(torch.nn.utils, "clip_grad_norm_")
    counted(Ema, "update")
    counted(EMAModel, "step")
    update = training(TINY[name], EVENT, 2, "fp32")
    done.clear()
    update()
    average = {"ours": ["update"], "diffusers": ["step"], "torchcfm": []}[name]
    assert done == [("clip_grad_norm_", 1.0), *average]


@pytest.mark.parametrize("name", TINY)
def test_inference_is_the_network_at_a_new_level_every_time(name):
    who, kept = TINY[name], []
    look = inference(who, EVENT, 3, "fp32", kept.append)
    x = inputs(EVENT, 3)[0]
    answers = [look() for _ in range(3)]
    assert not torch.equal(answers[0], answers[1])
    with torch.no_grad():
        wanted = who.call(kept[0], x, torch.tensor(2 * 0.618034 % 1).expand(3).clone())
    torch.testing.assert_close(answers[1], wanted, rtol=1e-4, atol=1e-5)
    coarse = inference(who, EVENT, 3, "bf16")()
    torch.testing.assert_close(coarse.float(), answers[0], rtol=0.1, atol=0.1)
    assert not torch.equal(coarse.float(), answers[0])  # bf16 was really asked for


def run_quick(module, folder, monkeypatch, *more):
    monkeypatch.setattr(sys, "argv", ["x", "--quick", "--out", str(folder), *more])
    threads = torch.get_num_threads()
    try:
        module.main()
    finally:
        torch.set_num_threads(threads)


def test_throughput_from_pairs_to_page(tmp_path, monkeypatch, capsys):
    pair = Pair("U-Net 8×8, tiny", EVENT, TINY["diffusers"], TINY["diffusers"])
    monkeypatch.setattr(throughput, "PAIRS", (pair,))
    monkeypatch.setattr(throughput, "SMALL", EVENT)
    monkeypatch.setattr(throughput, "BATCHES", (8, 16))
    run_quick(throughput, tmp_path, monkeypatch)
    found = json.loads((tmp_path / "throughput.json").read_text("utf-8"))
    rows = {(row["work"], row["who"]): row for row in found["rows"]}
    assert len(rows) == 8
    flops = cost(pair.peer, EVENT)[1]
    for (work, _), row in rows.items():
        seconds = row["milliseconds"] / 1e3
        assert row["images a second"] == pytest.approx(8 / seconds, rel=1e-2)
        rate = flops * 8 * {"training": 3, "inference": 1}[work] / seconds / 1e9
        assert row["GFLOP/s"] == pytest.approx(rate, abs=0.051, rel=1e-2)
        top = found["peaks"]["convolution"][row["who"].split()[1]]
        assert row["share"] == pytest.approx(rate / top, abs=1e-3, rel=2e-2)
        assert row["MB"] > 0
    fast, slow = rows["training", "ours bf16"], rows["training", "peer fp32"]
    ratio = slow["milliseconds"] / fast["milliseconds"]
    assert fast["speed"][0] == pytest.approx(ratio, rel=1e-2)
    assert [t["wanted"] for t in found["targets"]] == [1.1, 3.5, 1.1, 5.0]
    page = document.page(tmp_path)
    for row in found["rows"]:
        assert document.cell(row["speed"]) in page
    assert "not been measured" not in page
    assert "## Import" not in page  # there is none in that folder


def test_unequal_pairs_are_refused(monkeypatch):
    pair = Pair("unequal", EVENT, TINY["diffusers"], our_unet(EVENT, (16, 16), blocks=1))
    monkeypatch.setattr(throughput, "PAIRS", (pair,))
    with pytest.raises(SystemExit, match="unequal: ours has"):
        throughput.sizes()


def test_scaling_varies_one_thing_along_an_axis():
    points = list(scaling.points(False))
    varied = {
        "batch": lambda p: (p.event, cost(p.ours, p.event)),
        "side": lambda p: (p.batch, p.event[0], cost(p.ours, p.event)[0]),
        "parameters": lambda p: (p.batch, p.event),
    }
    for axis, fixed in varied.items():
        mine = [p for p in points if p.axis == axis]
        if axis == "parameters":  # 0.1 … 10 million, ours and the peer's alike
            mine = [p for p in mine if p.size < 5]
        assert len({fixed(p) for p in mine}) == 1
        assert [p.size for p in mine] == sorted(p.size for p in mine)
    sizes = [p.size for p in points if p.axis == "parameters"]
    assert sizes[0] < 0.15
    assert 9 < sizes[-1] < 12


def test_scaling_finds_the_exponents_of_what_it_measured():
    rows = [
        {"axis": axis, "work": work, "size": n, "peer ms": 2 * n**power, "our ms": 5 * n**0.5}
        for axis, power in (("batch", 1.0), ("side", 2.0))
        for work in ("training", "inference")
        for n in (1, 4, 16)
    ]
    found = {(row["axis"], row["work"]): row for row in scaling.fits(rows)}
    assert len(found) == 4
    assert found["side", "training"]["peer exponent"] == 2.0
    assert found["batch", "inference"]["peer exponent"] == 1.0
    assert found["batch", "inference"]["our exponent"] == 0.5


def test_the_page_shows_what_was_measured():
    page = (ROOT / "docs" / "benchmarks.md").read_text("utf-8")
    assert page == document.page(), "run: python tools/docs/benchmarks.py"
