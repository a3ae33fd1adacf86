"""The table of lenses: 25 conversions on every path, determinants, refusals, mixing."""

import math

import pytest
import torch

from tests.exact import BY_NAME, F64, IDS, PATHS, gaussian_elementwise, inner_times
from unnoise.errors import InvalidArgument, Unsupported
from unnoise.fields import (
    LENSES,
    Prediction,
    conversion,
    convert,
    determinant,
    lens_row,
    mix,
    refusal,
)
from unnoise.paths import EDM, VE, Cosine, Flow, Trigonometric, VPLinear

every_path = pytest.mark.parametrize("path", [case.path for case in PATHS], ids=IDS)
EPS_LIMIT = 1e-10


def truth(path, t, seed=0):
    """x0, ε and every lens of them at times t, by the definitions of the lenses."""
    generator = torch.Generator().manual_seed(seed)
    x0, eps = torch.randn(2, len(t), 3, generator=generator, dtype=F64)
    a, s, da, ds = (
        getattr(path, part)(t)[:, None] for part in ("alpha", "sigma", "alpha_rate", "sigma_rate")
    )
    x = a * x0 + s * eps
    lenses = {
        "x0": x0,
        "eps": eps,
        "score": -eps / s,
        "v": a * eps - s * x0,
        "velocity": da * x0 + ds * eps,
    }
    return x, lenses


def relative(got, wanted):
    return float(((got - wanted).abs() / (1 + wanted.abs())).max())


@every_path
@pytest.mark.parametrize("source", LENSES)
def test_every_lens_from_every_lens(path, source):
    t = inner_times(path, least=1e-2)
    x, lenses = truth(path, t)
    said = Prediction.of(source, lenses[source], x, t, path)
    for target in LENSES:
        assert relative(getattr(said, target), lenses[target]) < 1e-10, target


@every_path
def test_25_cycles_close_to_both_ends(path):
    t = inner_times(path, least=1e-4)
    x, lenses = truth(path, t)
    for source in LENSES:
        value = lenses[source]
        for target in LENSES:
            there = convert(path, source, target, value, x, t)
            back = convert(path, target, source, there, x, t)
            error = (back - value).abs() / (1 + value.abs())
            assert float(error.max()) < EPS_LIMIT, (source, target)


@every_path
def test_determinants(path):
    t = inner_times(path, least=1e-3)
    a, s = path.alpha(t), path.sigma(t)
    table = {
        "x0": -s,
        "eps": a,
        "score": -a / s,
        "v": a**2 + s**2,
        "velocity": a * path.sigma_rate(t) - s * path.alpha_rate(t),
    }
    for lens, wanted in table.items():
        torch.testing.assert_close(determinant(path, lens, t), wanted, rtol=1e-12, atol=0)
        row_a, row_b = lens_row(path, lens, t)
        torch.testing.assert_close(a * row_b - s * row_a, wanted, rtol=1e-9, atol=0)


@pytest.mark.parametrize("lens", LENSES)
def test_the_own_lens_is_the_same_object(lens):
    value, x = torch.randn(2, 3), torch.zeros(2, 3)
    for t in (0.0, 0.5, 1.0):  # even where nothing else could be said
        said = Prediction.of(lens, value, x, torch.tensor(t, dtype=F64), Cosine())
        assert said.as_lens(lens) is value
        assert getattr(said, lens) is value


NOWHERE = [
    (Cosine(), 1.0, "eps", "x0"),
    (Cosine(), 1.0, "score", "x0"),
    (Flow(), 1.0, "eps", "v"),
    (Flow(), 1.0, "eps", "velocity"),
    (Trigonometric(), 1.0, "score", "velocity"),
    (BY_NAME["chain_zero_terminal"].path, 1.0, "eps", "x0"),
    (VPLinear(), 0.0, "x0", "eps"),
    (EDM(), 0.0, "x0", "score"),
    (Flow(), 0.0, "x0", "velocity"),
    (Flow(), 0.0, "v", "score"),
    (VPLinear(), 0.0, "velocity", "x0"),
    (VPLinear(), 0.0, "v", "velocity"),
    (Cosine(), 0.0, "eps", "velocity"),
]


@pytest.mark.parametrize(("path", "t", "source", "target"), NOWHERE)
def test_conversions_without_an_answer_are_refused(path, t, source, target):
    x = torch.ones(2, 3, dtype=F64)
    said = Prediction.of(source, x, x, torch.tensor(t, dtype=F64), path)
    with pytest.raises(Unsupported, match=f"{source} does not determine {target} at t = {t}"):
        getattr(said, target)
    several = torch.tensor([0.5, t], dtype=F64)
    with pytest.raises(Unsupported, match=f"at t = {t}"):
        conversion(path, source, target, several)


ANSWERS = [
    (Flow(), 0.0, "velocity", "x0", (1.0, 0.0)),
    (Flow(), 1.0, "velocity", "x0", (1.0, -1.0)),
    (Flow(), 1.0, "velocity", "eps", (1.0, 0.0)),
    (Flow(), 0.0, "velocity", "eps", (1.0, 1.0)),
    (Cosine(), 1.0, "v", "x0", (0.0, -1.0)),
    (Cosine(), 1.0, "v", "eps", (1.0, 0.0)),
    (Cosine(), 0.0, "v", "x0", (1.0, 0.0)),
    (Cosine(), 1.0, "x0", "eps", (1.0, 0.0)),
    (VPLinear(), 0.0, "eps", "x0", (1.0, 0.0)),
    (VPLinear(), 0.0, "score", "x0", (1.0, 0.0)),
    (Trigonometric(), 0.0, "velocity", "x0", (1.0, 0.0)),
]


@pytest.mark.parametrize(("path", "t", "source", "target", "wanted"), ANSWERS)
def test_conversions_with_an_answer_at_the_ends(path, t, source, target, wanted):
    got = conversion(path, source, target, t)
    assert tuple(map(float, got)) == pytest.approx(wanted, abs=1e-15)


def test_what_a_network_cannot_predict_has_a_reason_and_a_remedy():
    for path in (Cosine(), Flow(), BY_NAME["chain_zero_terminal"].path):
        for lens in ("eps", "score"):
            assert "path.restricted(last=0.999)" in refusal(path, lens)
            assert refusal(path.restricted(last=0.999), lens) is None
        for lens in ("x0", "v", "velocity"):
            assert refusal(path, lens) is None
    for path in (VPLinear(), VE(), EDM()):
        assert all(refusal(path, lens) is None for lens in LENSES)


def test_unknown_lenses_and_shapes_are_refused():
    x = torch.zeros(2, 3)
    with pytest.raises(InvalidArgument, match="unknown lens 'epsilon'; did you mean 'eps'"):
        Prediction.of("epsilon", x, x, torch.tensor(0.5), Flow())
    with pytest.raises(InvalidArgument, match=r"\(2, 4\) for x_t of shape \(2, 3\)"):
        Prediction.of("eps", torch.zeros(2, 4), x, torch.tensor(0.5), Flow())
    with pytest.raises(InvalidArgument, match="unknown lens"):
        Prediction.of("eps", x, x, torch.tensor(0.5), Flow()).as_lens("noise")


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_low_precision_values_keep_their_dtype_and_float64_coefficients(dtype):
    t = torch.tensor([0.1, 0.5, 0.752], dtype=F64)
    x, lenses = truth(VPLinear(), t)
    for source in LENSES:
        said = Prediction.of(source, lenses[source].to(dtype), x.to(dtype), t, VPLinear())
        for target in LENSES:
            out = said.as_lens(target)
            assert out.dtype == dtype
            c, d = conversion(VPLinear(), source, target, t)
            wanted = c[:, None] * x.to(dtype).double()
            wanted = wanted + d[:, None] * lenses[source].to(dtype).double()
            scale = (c[:, None] * x).abs() + (d[:, None] * lenses[source]).abs()
            error = (out.double() - wanted).abs() / (scale + 1e-3)
            assert float(error.max()) < 4 * torch.finfo(dtype).eps


def test_one_time_and_a_batch_of_times_agree():
    x, lenses = truth(VPLinear(), torch.full((4,), 0.3, dtype=F64))
    for source in LENSES:
        one = Prediction.of(source, lenses[source], x, torch.tensor(0.3, dtype=F64), VPLinear())
        many = Prediction.of(
            source, lenses[source], x, torch.full((4,), 0.3, dtype=F64), VPLinear()
        )
        for target in LENSES:
            assert torch.equal(one.as_lens(target), many.as_lens(target))


@every_path
def test_mixing_is_affine_in_every_lens(path):
    t = inner_times(path, least=1e-2, count=9)
    x, first = truth(path, t)
    other = gaussian_elementwise(path)(x, t)
    for lens_a in LENSES:
        for lens_b in LENSES:
            a = Prediction.of(lens_a, first[lens_a], x, t, path, nfe=2)
            b = Prediction.of(lens_b, other.as_lens(lens_b), x, t, path, nfe=3)
            mixed = mix(a, b, 1.7)
            assert mixed.lens == lens_b
            assert mixed.nfe == 5
            for lens in LENSES:
                wanted = -0.7 * first[lens] + 1.7 * other.as_lens(lens)
                assert relative(mixed.as_lens(lens), wanted) < 1e-10


def test_mixing_what_does_not_belong_together_is_refused():
    x, t = torch.zeros(2, 3), torch.tensor(0.5, dtype=F64)
    a = Prediction.of("eps", x + 1, x, t, Flow())
    assert torch.equal(mix(a, a, 3.0).value, a.value)
    for b, said in [
        (Prediction.of("eps", x, x + 1, t, Flow()), "different x_t"),
        (Prediction.of("eps", x, x, t + 0.1, Flow()), "different times"),
        (Prediction.of("eps", x, x, t, Trigonometric()), "different times or paths"),
    ]:
        with pytest.raises(InvalidArgument, match=said):
            mix(a, b, 0.5)


@pytest.mark.parametrize("weight", [-1.0, 0.3, 1.5, 7.5, math.pi])
@pytest.mark.parametrize("size", [1, 3, 7, 17, 784])
def test_mixing_and_converting_are_bitwise_at_any_batch(size, weight):
    x, a, b = torch.randn(3, 64, size, generator=torch.Generator().manual_seed(1))
    t = torch.tensor(0.37, dtype=F64)

    def run(rows):
        left = Prediction.of("v", a[rows], x[rows], t, VPLinear())
        right = Prediction.of("eps", b[rows], x[rows], t, VPLinear())
        return mix(left, right, weight).x0

    whole = run(slice(None))
    for step in (1, 8):
        parts = [run(slice(i, i + step)) for i in range(0, 64, step)]
        assert torch.equal(torch.cat(parts), whole)
