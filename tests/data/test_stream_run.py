"""Streamed data through the whole of it: train, resume, sample, evaluate, likelihood."""

import importlib

import pytest
import torch

from tests.data.shards import parquet_shards, pictures, tar_shards
from unnoise.artifacts import Model
from unnoise.data.rows import Rows
from unnoise.pipelines.likelihood import measure_likelihood
from unnoise.pipelines.measure import measure
from unnoise.recipes import load_recipe
from unnoise.training.run import train


def recipe(source, path, *overrides):
    tree = {
        "name": "streamed",
        "data": {"source": source, "path": str(path), "split": {"validation": 20}},
        "path": {"kind": "flow"},
        "network": {"kind": "unet", "widths": [4], "blocks": 1},
        "model": {"predicts": "velocity"},
        "train": {"steps": 9, "batch": 8, "reports": 1, "precision": "fp32"},
        "sample": {"steps": 2},
    }
    return load_recipe(tree, overrides)


def weights(model):
    return torch.cat([p.detach().flatten() for p in model.denoiser.network.parameters()])


@pytest.mark.parametrize("source", ["parquet", "webdataset"])
def test_a_streamed_run_is_the_run_in_memory(source, tmp_path, cache, monkeypatch):
    monkeypatch.setattr(importlib.import_module("unnoise.data.order"), "WINDOW_BYTES", 700)
    x, y = pictures(60, 8, 8)
    if source == "parquet":
        pytest.importorskip("pyarrow", reason="parquet is read by pyarrow")
        path = parquet_shards(tmp_path / "p", x, y)
    else:
        path = tar_shards(tmp_path / "t", x, y)
    held = train(recipe(source, path), tmp_path / "held", quiet=True, tensorboard=False)

    whole = Rows.whole
    with monkeypatch.context() as patch:
        patch.setattr(
            Rows,
            "whole",
            lambda self: whole(self) if len(self) <= 20 else pytest.fail("read whole"),
        )
        asked = recipe(source, path, "data.stream=true")
        out = tmp_path / "streamed"
        made = train(asked, out, quiet=True, tensorboard=False)
    assert torch.equal(weights(made), weights(held))  # the same batches in the same order

    model = Model.load(out)
    assert model.sample(3, seed=0).values.shape == (3, 3, 8, 8)
    if source == "webdataset":  # one kind is enough for what no longer asks where values are
        assert measure(out, n=20, features="pca").samples == 20
    bound = measure_likelihood(
        out, n=4, bound=True, conditional=False, strata=2, repeats=1, continuous=True
    )
    assert "4 of 20" in str(bound)
