"""The script of `make gpu`, in tiny sizes on the CPU: parts, their limits, what they write."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))

import on_gpu as gpu
from quality import on_device as quality
from speed import on_device
from speed.networks import EQUAL, cost, equal

from tools.docs import benchmarks as document

CPU = torch.device("cpu")


def start(monkeypatch, *options):
    """Run the script in this process."""
    monkeypatch.setattr(sys, "argv", ["on_gpu.py", *map(str, options)])
    gpu.main()


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_without_a_gpu_it_states_that_and_is_content(monkeypatch, capsys, tmp_path):
    start(monkeypatch, "--out", tmp_path)
    assert "no CUDA device here" in capsys.readouterr().out
    assert not list(tmp_path.iterdir())
    with pytest.raises(SystemExit, match="--device cpu --quick"):
        start(monkeypatch, "--device", "cpu", "--out", tmp_path)


def test_a_part_that_fails_costs_no_other(monkeypatch, tmp_path):
    for name in gpu.PARTS:
        (tmp_path / f"{name}.json").write_text("{}")
    monkeypatch.setattr(gpu, "QUICK", 0.2)
    asked = SimpleNamespace(out=tmp_path, device="cpu", quick=True)
    late = gpu.run("throughput", asked, 0.2)
    assert (late["went"], late["why"]) == ("failed", "ended at its limit of 0.2 s")
    assert not (tmp_path / "throughput.json").exists()  # nothing of an earlier run stays
    went = {"tests": None, "throughput": "it broke", "quality": None, "compiled": None}
    monkeypatch.setattr(gpu, "run", lambda part, asked, limit: {"part": part, "why": went[part]})
    with pytest.raises(SystemExit) as stopped:
        start(monkeypatch, "--device", "cpu", "--quick", "--out", tmp_path)
    assert stopped.value.code == 1
    found = json.loads((tmp_path / "summary.json").read_text("utf-8"))
    assert [row["part"] for row in found["parts"]] == list(gpu.PARTS)
    assert found["quick"] is True
    assert found["gpu"]["device"] == "cpu"
    assert found["gpu"]["torch"] == torch.__version__
    went["throughput"] = None
    start(monkeypatch, "--device", "cpu", "--quick", "--out", tmp_path)


def test_limits_are_six_minutes_in_all():
    assert sum(gpu.PARTS.values()) <= 360
    assert list(gpu.PARTS) == list(gpu.MEASURES)
    assert next(iter(gpu.PARTS)) == "tests"


REPORT = """<testsuites><testsuite>
<testcase classname="a" name="x"/>
<testcase classname="a" name="y">{}</testcase>
<testcase classname="a" name="z"><skipped message="no device"/></testcase>
</testsuite></testsuites>"""


def test_a_report_is_counted(tmp_path):
    path = tmp_path / "report.xml"
    path.write_text(REPORT.format(""))
    found = gpu.counted(path, True)
    assert (found["passed"], found["skipped"], found["failed"]) == (2, 1, None)
    for kind in ("failure", "error"):
        path.write_text(REPORT.format(f'<{kind} message="wrong"/>'))
        found = gpu.counted(path, True)
        assert (found["passed"], found["failures"]) == (1, ["a::y"])
        assert found["failed"] == "1 of 3 tests failed: a::y"
    path.write_text('<testsuite><testcase><skipped message="why"/></testcase></testsuite>')
    assert gpu.counted(path, True)["failed"] == "no test ran: why"
    assert gpu.counted(path, False)["failed"] is None


@pytest.mark.parametrize("pair", on_device.WIDE, ids=lambda pair: pair.name)
def test_wide_pairs_are_equal(pair):
    assert max(abs(ratio - 1) for ratio in equal(pair)) <= EQUAL


def test_throughput_from_pairs_to_page(tmp_path):
    found = on_device.throughput(CPU, True, 1e9)
    assert not found["left_out"]
    assert [row["who"] for row in found["rows"]] == ["peer bf16", "ours bf16"] * 4
    flops = {pair.name: cost(pair.ours, pair.event)[1] for pair in on_device.TINY}
    for row in found["rows"][1::2]:
        seconds = row["milliseconds"] / 1e3
        assert row["images a second"] == pytest.approx(row["batch"] / seconds, rel=2e-2)
        count = {"training": 3, "inference": 1}[row["work"]] * row["batch"] * flops[row["pair"]]
        assert row["TFLOP/s"] == pytest.approx(count / seconds / 1e12, abs=6e-4)
        assert row["MB"] > 0
    (tmp_path / "gpu").mkdir()
    made = {"gpu": gpu.device_facts("cpu"), **found}
    (tmp_path / "gpu" / "throughput.json").write_text(json.dumps(made))
    page = document.page(tmp_path)
    assert "## On a GPU: networks" in page
    for row in found["rows"]:
        assert document.cell(row["speed"]) in page
    assert on_device.throughput(CPU, True, 0.0)["rows"] == []  # no time: named, not measured
    assert len(on_device.throughput(CPU, True, 0.0)["left_out"]) == 4


def test_compiled_blocks_are_timed_beside_eager_ones():
    rows = on_device.compiled(CPU, True)["rows"]
    assert [row["who"] for row in rows] == ["ours bf16", "ours bf16 compiled"] * 2
    assert all(row["compiling s"] >= 0 for row in rows[1::2])


def test_time_to_quality_of_a_tiny_run():
    found = quality.quality("cpu", True)
    (row,) = found["rows"]
    assert row["updates"] == 30
    assert row["frechet_ratio"] == pytest.approx(row["frechet"] / row["frechet floor"], rel=2e-2)
    assert row["samples a second"] > 0
