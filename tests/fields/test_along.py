"""One model on other paths: exact inside the shared log-SNR range, refused outside."""

import pytest
import torch

from tests.exact import F64, FIELDS, IDS, PATHS, Seen, inner_times, mixture_2d
from unnoise.errors import Unsupported
from unnoise.fields import LENSES, Denoiser
from unnoise.paths import EDM, VE, Cosine, Flow, Trigonometric, VPLinear

every_path = pytest.mark.parametrize("path", [case.path for case in PATHS], ids=IDS)


def shared_times(own, path, count=13):
    """Times of `path` whose log-SNR lies in the range of `own`."""
    t = inner_times(path, least=1e-2, count=60)
    low, high = own.log_snr_range()
    t = t[(path.log_snr(t) > low) & (path.log_snr(t) < high)]
    return t[torch.linspace(0, len(t) - 1, count).long()]


@every_path
@pytest.mark.parametrize("own", [VPLinear(), Flow(), EDM(), VE(1e-3, 500.0)], ids=str)
@pytest.mark.parametrize("name", ["mixture_2d", "gaussian_elementwise"])
def test_a_field_along_a_path_is_the_field_built_on_it(name, own, path):
    t = shared_times(own, path)
    native = FIELDS[name](path)
    generator = torch.Generator().manual_seed(0)
    size = (path.alpha(t) ** 2 + path.sigma(t) ** 2).sqrt()[:, None]
    event = 2 if name == "mixture_2d" else 3
    x = size * torch.randn(len(t), event, generator=generator, dtype=F64)
    wanted, got = native(x, t), FIELDS[name](own).on_path(path)(x, t)
    assert got.path == path
    assert torch.equal(got.x_t, x)
    assert torch.equal(got.t, t)
    for lens in ("x0", "eps", "v"):
        torch.testing.assert_close(got.as_lens(lens), wanted.as_lens(lens), rtol=1e-7, atol=1e-8)
    for lens in ("score", "velocity"):
        error = (got.as_lens(lens) - wanted.as_lens(lens)).abs()
        assert float((error / (1 + wanted.as_lens(lens).abs())).max()) < 1e-7


@pytest.mark.parametrize("lens", LENSES)
@pytest.mark.parametrize("path", [Flow(), EDM(), Cosine(), VPLinear().shifted(4.0)], ids=str)
def test_whatever_lens_the_model_predicts(lens, path):
    own = VPLinear()
    t = shared_times(own, path)
    x = torch.randn(len(t), 2, generator=torch.Generator().manual_seed(0), dtype=F64)
    got, wanted = Seen(mixture_2d(own), lens).on_path(path)(x, t), mixture_2d(path)(x, t)
    for through in ("x0", "eps"):
        torch.testing.assert_close(
            got.as_lens(through), wanted.as_lens(through), rtol=1e-7, atol=1e-8
        )


def test_one_time_for_the_batch_and_float32():
    x = torch.randn(4, 2, generator=torch.Generator().manual_seed(0), dtype=F64)
    seen, native = mixture_2d(VPLinear()).on_path(Flow()), mixture_2d(Flow())
    t = torch.tensor(0.4, dtype=F64)
    torch.testing.assert_close(seen(x, t).x0, native(x, t).x0)
    torch.testing.assert_close(seen(x, t.float()).x0, native(x, t).x0, rtol=1e-5, atol=1e-5)
    half = torch.tensor(0.375, dtype=torch.bfloat16)
    torch.testing.assert_close(seen(x, half).x0, native(x, half).x0, rtol=1e-5, atol=1e-5)


def test_both_ends_where_they_are_shared():
    x = torch.randn(3, 2, generator=torch.Generator().manual_seed(0), dtype=F64)
    for own in (Flow(), Cosine(), Trigonometric(), Cosine(0.0)):
        for path in (Flow(), Cosine(), Trigonometric(), Cosine(0.0)):
            for lens in ("x0", "v"):
                seen = Seen(mixture_2d(own), lens).on_path(path)
                one = seen(x, torch.tensor(1.0, dtype=F64))
                mean = mixture_2d(Flow())(x, torch.tensor(1.0, dtype=F64)).x0
                torch.testing.assert_close(one.as_lens("x0"), mean)
                torch.testing.assert_close(one.as_lens("eps"), x)
            zero = mixture_2d(own).on_path(path)(x, torch.tensor(0.0, dtype=F64))
            torch.testing.assert_close(zero.x0, x)


def test_times_outside_the_models_range_are_refused():
    x = torch.zeros(2, 2, dtype=F64)
    for own, path, t in [
        (VPLinear(), Flow(), 1.0),
        (VPLinear(), EDM(500.0), 1.0),
        (VE(), Flow(), 0.0),
        (VE(), VPLinear(), 1e-8),
        (Flow().restricted(0.01, 0.9), Flow(), 0.95),
        (Flow().restricted(0.01, 0.9), Flow(), 0.005),
    ]:
        seen = mixture_2d(own).on_path(path)
        with pytest.raises(Unsupported, match=f"t = {t}.*outside"):
            seen(x, torch.tensor(t, dtype=F64))
        with pytest.raises(Unsupported, match=f"t = {t}"):
            seen(x, torch.tensor([t, t], dtype=F64))


def test_the_same_path_is_the_same_field():
    field = mixture_2d(VPLinear())
    assert field.on_path(VPLinear(0.1, 20.0)) is field
    assert field.on_path(Flow()).on_path(VPLinear()) is not field


def test_conditions_and_passes_go_through():
    class Network(torch.nn.Module):
        def forward(self, x, noise_level, condition):
            self.seen = noise_level, condition
            return x

    network = Network()
    seen = Denoiser(network, VPLinear(), "v").on_path(Flow())
    said = seen.conditioned({"class": 3})(
        torch.zeros(2, 2, dtype=F64), torch.tensor(0.5, dtype=F64)
    )
    assert said.nfe == 1
    assert network.seen[1].values["class"].tolist() == [3, 3]
    wanted = VPLinear().time(Flow().log_snr(0.5)).expand(2)
    torch.testing.assert_close(network.seen[0].double(), wanted, rtol=1e-6, atol=0)
