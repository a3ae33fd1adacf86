"""Every claim that takes less than a second gives the verdict that is written down."""

import json
from pathlib import Path

import pytest
import torch

from claims import known
from claims.worlds import Disturbed, field_error, pair, ring, spectrum
from unnoise.fields import Mixture
from unnoise.paths import VPLinear, grids
from unnoise.randomness import Streams

F64 = torch.float64
WRITTEN = {
    c["name"]: c
    for c in json.loads((Path(__file__).parents[2] / "docs/claims.json").read_text())["claims"]
}
QUICK = [name for name, c in WRITTEN.items() if c["seconds"] < 1]


def test_every_claim_is_written_down():
    assert set(WRITTEN) == set(known())
    assert len(QUICK) >= 20
    verdicts = {c["verdict"] for c in WRITTEN.values()}
    assert verdicts == {"holds", "does not hold", "holds when"}
    for name, claim in known().items():
        assert WRITTEN[name]["statement"] == claim.statement


@pytest.mark.parametrize("name", QUICK)
def test_the_verdict_is_the_written_one(name):
    finding, written = known()[name].measure(), WRITTEN[name]
    assert (finding.verdict, finding.when) == (written["verdict"], written["when"])
    assert list(finding.measured) == list(written["measured"])


def test_the_ring_is_a_mixture():
    path = VPLinear()
    field = ring(path)
    slow = Mixture(
        field.log_weights.exp(), field.means, torch.full((8, 2), 0.08**2, dtype=F64), path
    )
    x = field.sample(Streams(0, range(7)), 0.3)
    for t in (torch.tensor(0.3, dtype=F64), torch.linspace(0.05, 0.95, 7, dtype=F64)):
        torch.testing.assert_close(field(x, t).value, slow(x, t).value, rtol=1e-10, atol=1e-12)
        torch.testing.assert_close(
            field.log_density(x, t), slow.log_density(x, t), rtol=1e-10, atol=1e-10
        )


def test_the_error_is_that_of_the_result():
    # one DDIM step from t to 0 ends at E[x0|x]: deviation α·v/√(α²v + σ²), exactly
    path = VPLinear()
    field = spectrum(path)
    alpha, sigma = float(path.alpha(0.4)), float(path.sigma(0.4))
    v = field.variance
    made = alpha * v / (alpha**2 * v + sigma**2).sqrt()
    wanted = float(((made - v.sqrt()) ** 2).sum() / v.sum()) ** 0.5
    assert field_error(field, "ddim", torch.tensor([0.4, 0.0], dtype=F64)) == pytest.approx(
        wanted, rel=1e-9
    )
    many = field_error(field, "unipc", grids.log_snr(path, 200, 0.9, 0.0, sigma_min=0.001))
    assert many < 2e-3


def test_a_disturbed_field_is_off_inside_its_window_only():
    field = pair(VPLinear())
    wrong = Disturbed(field, 0.2, 0.3, 0.6)
    x = torch.zeros(2, 1, dtype=F64)
    for t, by in ((0.2, 0.0), (0.3, 0.2), (0.5, 0.2), (0.6, 0.0)):
        at = torch.tensor(t, dtype=F64)
        gap = wrong(x, at).eps - field(x, at).eps
        torch.testing.assert_close(gap, torch.full_like(gap, by))
