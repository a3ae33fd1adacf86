"""`unnoise likelihood` and the pipeline behind it."""

import json
import math

import numpy as np
import pytest
import torch

from tests.training.tiny import model_of, parts_of, tiny
from unnoise.errors import DataError
from unnoise.fields import Condition
from unnoise.likelihood import discrete_log_likelihood, log_likelihood, variational_bound
from unnoise.pipelines import measure_likelihood
from unnoise.randomness import Streams
from unnoise.recipes import levels_of

CHAIN = [
    "path.kind=chain", "path.steps=6", "path.betas=cosine", "model.predicts=v",
    "sample.solver=ddpm", "sample.grid={kind: trailing}", "sample.steps=3",
]  # fmt: skip


@pytest.fixture(scope="module")
def chain(tmp_path_factory):
    """A class-conditional model on a chain, with a learned variance; never trained."""
    recipe = tiny(*CHAIN, "model.learned_variance=true", "objective.kind=hybrid")
    return model_of(recipe).save(tmp_path_factory.mktemp("chain") / "m")


@pytest.fixture(scope="module")
def flow(tmp_path_factory):
    """An unconditional model of vectors on the straight path."""
    folder = tmp_path_factory.mktemp("flow")
    rows = np.random.default_rng(0).normal(3.0, 2.0, (60, 2)).astype(np.float32)
    np.save(folder / "rows.npy", rows)
    recipe = tiny(
        f"data={{source: arrays, path: {folder / 'rows.npy'}, split: {{test: 20}}}}",
        "network={kind: mlp, width: 8, depth: 1}", "sample.guidance=1",
    )  # fmt: skip
    return model_of(recipe).save(folder / "m")


def loaded(folder):
    import unnoise

    model = unnoise.load(folder, "fp32")
    return model, parts_of(model.recipe)["test"]


def test_the_bound_is_that_of_the_held_out_part_given_its_labels(run, chain):
    said = run("likelihood", chain, "--bound", "-n", 6, "--batch", 4, "--json")
    made = json.loads(said.out)
    model, test = loaded(chain)
    x, labels = test.batch(torch.arange(6)).x0, test.labels[:6]
    wanted = variational_bound(
        model.denoiser.conditioned(Condition.of({"class": labels}, 6)),
        x,
        Streams(0, range(6), "likelihood"),
        variance="learned",
        levels=levels_of(model.spec),
    )
    mean, error = wanted.likelihood.mean()
    assert made["nats"]["mean"] == pytest.approx(mean, rel=1e-5)
    assert made["nats"]["high"] - mean == pytest.approx(1.96 * error, rel=1e-3)
    assert made["bits_per_dim"]["mean"] == pytest.approx(-mean / 64 / math.log(2), rel=1e-5)
    assert made["bits_per_dim"]["low"] < made["bits_per_dim"]["mean"] < made["bits_per_dim"]["high"]
    assert (made["kind"], made["n"], made["passes"], made["dimensions"]) == ("bound", 6, 6, 64)
    assert (made["given"], made["dequantisation"]) == ("the class", "none")
    assert made["settings"]["variance"] == "learned"
    terms = {row["term"]: row["nats"] for row in made["terms"]}
    assert sum(terms.values()) == pytest.approx(-mean, rel=1e-5)
    assert next(iter(terms)) == "prior"
    assert list(terms)[-1] == "reconstruction"
    assert terms["prior"] == pytest.approx(float(wanted.prior.mean()), rel=1e-5)
    assert len(terms) == 12


def test_every_option_of_the_bound_counts(run, chain):
    def value(*options):
        said = run("likelihood", chain, "--bound", "-n", 4, "--json", *options)
        assert said.code == 0, said.err
        return json.loads(said.out)

    plain = value()
    for options in (
        ["--variance", "posterior"], ["--variance", "transition"], ["--steps", 3],
        ["--strata", 2], ["--repeats", 2], ["--continuous"], ["--seed", 1], ["--unconditional"],
        ["--part", "validation"], ["-n", 5],
    ):  # fmt: skip
        assert value(*options)["nats"]["mean"] != plain["nats"]["mean"], options
    assert value("--steps", 3)["passes"] == 3
    assert value("--strata", 2)["passes"] == 6
    assert value("--unconditional")["given"] == "nothing"
    assert value("--batch", 1)["nats"]["mean"] == pytest.approx(plain["nats"]["mean"], rel=1e-4)


def test_the_text_says_what_was_computed(run, chain):
    said = run("likelihood", chain, "--bound", "-n", 3)
    for words in (
        "given the class", "variational bound of 6 steps, variance learned", "a lower bound",
        "17 levels", "bits/dim", "nats", "6 a sample", "prior", "reconstruction", "t 0.9 to 1.0",
    ):  # fmt: skip
        assert words in said.out, words
    assert len(said.out.splitlines()) == 19


def test_the_flow_dequantises_levels(run, chain):
    options = ["--method", "rk4", "--solver-steps", 4]
    made = json.loads(run("likelihood", chain, "-n", 3, "--json", *options).out)
    assert (made["kind"], made["dequantisation"]) == ("bound", "uniform")
    assert "terms" not in made
    model, test = loaded(chain)
    x, labels = test.batch(torch.arange(3)).x0, test.labels[:3]
    noise = Streams(0, range(3), "likelihood")
    field = model.denoiser.conditioned(Condition.of({"class": labels}, 3))
    wanted = discrete_log_likelihood(
        lambda x: log_likelihood(field, x, method="rk4", steps=4),
        x,
        levels_of(model.spec),
        noise.purpose("dequantise"),
    )
    assert made["nats"]["mean"] == pytest.approx(wanted.mean()[0], rel=1e-5)


def test_a_density_is_that_of_the_datas_own_units(run, flow):
    """Standardised by deviations of about 2: −Σ log std nats from that of the network's units."""
    made = json.loads(run("likelihood", flow, "-n", 7, "--json").out)
    model, test = loaded(flow)
    x = test.batch(torch.arange(7)).x0
    wanted = log_likelihood(model.denoiser, x).nats.mean() - sum(map(math.log, model.spec.std))
    assert sum(map(math.log, model.spec.std)) > 1
    assert made["nats"]["mean"] == pytest.approx(float(wanted), rel=1e-5)
    assert (made["kind"], made["dequantisation"], made["given"]) == ("exact", "none", "nothing")
    assert made["units"] == "density in the data's own units"
    # the bound in the same units, below it but for its noise
    report = measure_likelihood(flow, n=20, bound=True, strata=32)
    exact = measure_likelihood(flow, n=20)
    assert "continuous time" in report.computed
    gap = exact.likelihood.nats - report.likelihood.nats
    assert float(gap.mean()) > -3 * float(gap.std()) / math.sqrt(20)
    total = sum(nats for _, nats in report.terms())
    assert total == pytest.approx(-report.interval()[0], rel=1e-6)


def test_hutchinson_is_an_estimate_of_the_exact_one(flow):
    exact = measure_likelihood(flow, n=20, exact=True)
    guess = measure_likelihood(flow, n=20, exact=False, probes=8)
    assert guess.likelihood.kind == "estimate"
    gap = guess.likelihood.nats - exact.likelihood.nats
    assert float((gap.abs() / guess.likelihood.error.clamp(min=1e-6)).median()) < 3


def test_other_data_can_be_given(run, flow, chain, tmp_path):
    _, test = loaded(flow)
    np.save(tmp_path / "same.npy", test.values[:5].numpy())
    made = json.loads(run("likelihood", flow, "--data", tmp_path / "same.npy", "--json").out)
    assert made["n"] == 5
    own = measure_likelihood(flow, n=5)
    assert made["nats"]["mean"] == pytest.approx(own.interval()[0], rel=1e-5)
    with pytest.raises(DataError, match="bring them to the same"):
        measure_likelihood(chain, data=str(tmp_path / "same.npy"))


REFUSED = [
    (["--steps", 3], "the probability flow has no such option"),
    (["--bound", "--tol", "1e-3"], "the bound has no such option"),
    (["--bound", "--steps", 3, "--continuous"], "leave them out"),
    (["--bound", "--variance", "posterier"], "did you mean 'posterior'"),
    (["--bound", "--steps", 7], "7 steps on a chain of 6"),
    (["--bound", "--strata", 6], "6 strata of 5 steps"),
    (["--exact", "--probes", 3], "draws none"),
    (["-n", 0], "n is 0"),
    (["--part", "train"], "give 'test' or 'validation'"),
    (["--part", "test", "--data", "digits"], "is other data"),
    (["--method", "rk44"], "rk4"),
]


@pytest.mark.parametrize(("options", "words"), REFUSED)
def test_what_cannot_be_is_refused(refused, chain, options, words):
    assert words in refused("likelihood", chain, *options)


def test_what_a_model_does_not_have_is_refused(refused, flow, tmp_path):
    assert "this model has none" in refused("likelihood", flow, "--conditional")
    assert "learned_variance" in refused(
        "likelihood", flow, "--bound", "--steps", 4, "--variance", "learned"
    )
    assert "there is no model" in refused("likelihood", tmp_path / "none")


def test_no_null_condition_no_unconditional_likelihood(refused, tmp_path):
    made = model_of(tiny("objective.drop=0", "sample.guidance=1")).save(tmp_path / "m")
    assert "needs the null condition" in refused("likelihood", made, "--unconditional")


def test_a_model_without_a_learned_variance_cannot_sample_with_one(refused, flow):
    said = refused("sample", flow, "--solver", "ddpm:variance=learned", "--out", "a.npy")
    assert "learned no variance" in said
    assert "use ddpm" in said
