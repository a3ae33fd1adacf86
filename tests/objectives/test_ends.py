"""Weights where the path has no signal left."""

import pytest
import torch

from tests.exact import PATHS
from unnoise.fields import LENSES, refusal
from unnoise.objectives import WEIGHTS, weight

F64 = torch.float64


@pytest.mark.parametrize("case", PATHS, ids=[case.name for case in PATHS])
@pytest.mark.parametrize("name", WEIGHTS)
def test_weights_are_finite_and_continuous_at_the_noise_end(case, name):
    near, end = torch.tensor(1 - 1e-9, dtype=F64), torch.tensor(1.0, dtype=F64)
    for lens in LENSES:
        if refusal(case.path, lens) is None:
            at_end = float(weight(name).on(lens, case.path, end))
            # chains bend at whole steps, and sigma falls fast on the last pieces of others
            before = float(weight(name).on(lens, case.path, near))
            assert at_end == pytest.approx(before, rel=1e-4, abs=1e-7)


@pytest.mark.parametrize("lens", LENSES)
def test_likelihood_is_the_rate_of_log_snr_in_every_lens(lens):
    from unnoise.fields import determinant

    t = torch.linspace(0.05, 0.95, 7, dtype=F64)
    for case in PATHS:
        factor = (determinant(case.path, "eps", t) / determinant(case.path, lens, t)) ** 2
        wanted = -case.path.log_snr_rate(t) * factor
        torch.testing.assert_close(
            weight("likelihood").on(lens, case.path, t), wanted, rtol=1e-9, atol=0
        )
