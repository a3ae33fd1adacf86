"""Bugs in lenses, fields, guidance and the streams of random numbers."""

import torch

from unnoise import randomness
from unnoise.fields import Denoiser, denoiser, exact, field, lenses, plain
from unnoise.paths import expand

from .planting import module, mutation

# the room has a function of the file's name
guidance = module("guidance.classifier_free")

LENSES, EXACT = "tests/fields/test_lenses.py", "tests/fields/test_exact_fields.py"
DENOISER, REMEMBERED = "tests/fields/test_denoiser.py", "tests/fields/test_remembered.py"
GUIDED, STREAMS = "tests/guidance/test_classifier_free.py", "tests/test_randomness.py"


@mutation(
    "score of the wrong sign",
    f"{EXACT}::test_the_score_is_the_gradient_of_the_log_density",
    f"{LENSES}::test_every_lens_from_every_lens",
)
def _(patch):
    right = lenses.LENSES["score"]
    patch.item(lenses.LENSES, "score", lambda p, t: (right(p, t)[0], -right(p, t)[1]))


@mutation("v of the wrong sign", f"{LENSES}::test_every_lens_from_every_lens")
def _(patch):
    patch.item(lenses.LENSES, "v", lambda p, t: (p.sigma(t), -p.alpha(t)))


@mutation("velocity returned under the name eps", f"{LENSES}::test_every_lens_from_every_lens")
def _(patch):
    patch.attribute(field.Prediction, "eps", field.Prediction.velocity)


@mutation("a determinant of the wrong sign", f"{LENSES}::test_determinants")
def _(patch):
    patch.result(lenses, "determinant", lambda det, *_: -det)


@mutation(
    "lens: coefficients in the dtype of the value",
    f"{LENSES}::test_low_precision_values_keep_their_dtype_and_float64_coefficients",
)
def _(patch):
    def wrong(path, source, target, value, x_t, t):
        if source == target:
            return value
        on_x, on_value = lenses.conversion(path, source, target, t.to(value.dtype))
        return on_x.to(value.dtype) * x_t + on_value.to(value.dtype) * value

    patch.attribute(lenses, "convert", wrong)


@mutation("mix: the weight on the wrong side", f"{LENSES}::test_mixing_is_affine_in_every_lens")
def _(patch):
    patch.around(field, "mix", lambda right: lambda a, b, weight: right(a, b, 1 - weight))


@mutation(
    "along: log-SNR matched, x not rescaled",
    "tests/fields/test_along.py::test_whatever_lens_the_model_predicts",
)
def _(patch):
    def wrap(right):
        def wrong(self, x_t, t, condition=None):
            own, inner = self.field.path, self.field
            log_snr = self.path.log_snr(torch.as_tensor(t).double())
            own_t = own.time(log_snr)
            scale = torch.hypot(own.alpha(own_t), own.sigma(own_t)) / torch.hypot(
                self.path.alpha(t), self.path.sigma(t)
            )
            self.field = _Unscaled(inner, scale)
            try:
                return right(self, x_t, t, condition)
            finally:
                self.field = inner

        return wrong

    patch.around(field.Along, "__call__", wrap)


class _Unscaled:
    """A field that is given scale·x and answers for x."""

    def __init__(self, inner, scale):
        self.inner, self.scale, self.path = inner, scale, inner.path

    def __call__(self, x, t, condition=None):
        return self.inner(x / expand(self.scale, x), t, condition)


@mutation(
    "exact: a mixture without its weights", f"{EXACT}::test_a_2d_mixture_is_its_components_weighed"
)
def _(patch):
    patch.around(
        exact.Mixture,
        "__init__",
        lambda right: (
            lambda self, weights, *given: right(
                self, torch.ones_like(weights) / len(weights), *given
            )
        ),
    )


@mutation(
    "preconditioning: the data's deviation is taken for 1",
    f"{DENOISER}::test_edm_preconditioning_as_published",
    f"{DENOISER}::test_the_target_of_a_preconditioned_network_has_unit_variance",
)
def _(patch):
    def wrong(self, times, x_t):
        std, self.data_std = self.data_std, 1.0
        try:
            return right(self, times, x_t)
        finally:
            self.data_std = std

    right = Denoiser._compute
    patch.attribute(Denoiser, "_compute", wrong)


@mutation(
    "noise level: log-SNR is not bounded", f"{DENOISER}::test_what_the_network_is_told_of_the_noise"
)
def _(patch):
    def wrong(found, self, times, x_t):
        shrink, level, skip, scale = found
        if self.noise_input == "log_snr":
            level = (self.path.log_snr(times) / 4).float().expand(len(x_t))
        return shrink, level, skip, scale

    patch.result(Denoiser, "_compute", wrong)


class Forgetful(dict):
    """What a denoiser remembers, under keys of which a part is left out."""

    def __init__(self, key):
        self.of = key

    def get(self, key):
        return super().get(self.of(key))

    def __setitem__(self, key, value):
        super().__setitem__(self.of(key), value)


def remember_by(patch, key):
    """Let denoisers remember coefficients by key(time, its dtype, x's dtype, device, batch)."""

    def wrap(right):
        def wrong(self, x_t, t):
            if not isinstance(self._kept, Forgetful):
                self._kept = Forgetful(key)
            found = right(self, x_t, t)
            if not isinstance(self._kept, Forgetful):
                kept, self._kept = self._kept, Forgetful(key)
                for old, value in kept.items():
                    self._kept[old] = value
            return found

        return wrong

    patch.around(Denoiser, "_coefficients", wrap)


ANOTHER = f"{REMEMBERED}::test_another_setting_batch_or_time_is_not_taken_for_the_last"


@mutation("denoiser: a time is remembered without its precision", REMEMBERED)
def _(patch):
    remember_by(patch, lambda key: (round(key[0], 6), *key[2:]))


@mutation("denoiser: coefficients of a float32 state for any", REMEMBERED)
def _(patch):
    remember_by(patch, lambda key: (key[0], key[1], *key[3:]))


@mutation("denoiser: levels of another batch", ANOTHER)
def _(patch):
    remember_by(patch, lambda key: key[:4])


@mutation("denoiser: settings changed are not seen", ANOTHER)
def _(patch):
    def wrap(right):
        def wrong(self, x_t, t):
            if self._kept:
                self._kept_for = (
                    self.path, self.predicts, self.preconditioned, self.data_std, self.noise_input
                )  # fmt: skip
            return right(self, x_t, t)

        return wrong

    patch.around(Denoiser, "_coefficients", wrap)


@mutation(
    "denoiser: times with tangents are remembered",
    f"{REMEMBERED}::test_derivatives_in_the_time_are_not_cut",
    crashes=True,
)
def _(patch):
    patch.attribute(
        plain, "plain", lambda t: t.device.type == "cpu" and not t.requires_grad
        and not torch._C._functorch.is_functorch_wrapped_tensor(t)
    )  # fmt: skip


@mutation(
    "denoiser: times with gradients are remembered",
    f"{REMEMBERED}::test_derivatives_in_the_time_are_not_cut",
)
def _(patch):
    right = plain.plain
    patch.attribute(plain, "plain", lambda t: right(t.detach()))


@mutation(
    "denoiser: coefficients made in inference mode stay its own",
    f"{REMEMBERED}::test_remembered_in_inference_mode_used_with_gradients",
)
def _(patch):
    patch.attribute(denoiser.torch, "inference_mode", _inference_mode)


class _inference_mode(torch.inference_mode):
    def __new__(cls, mode=True):
        return torch.no_grad() if mode is False else torch.inference_mode.__new__(cls, mode)


@mutation(
    "denoiser: the dtype of a network that was replaced",
    f"{REMEMBERED}::test_the_networks_dtype_is_followed",
)
def _(patch):
    def wrong(self, without):
        if self._first is None:
            return right(self, without)
        return self._first[1][self._first[2]].dtype

    right = Denoiser._dtype
    patch.attribute(Denoiser, "_dtype", wrong)


@mutation(
    "denoiser: copies share what is remembered",
    f"{REMEMBERED}::test_a_copy_remembers_nothing_of_its_own_network",
)
def _(patch):
    patch.attribute(Denoiser, "__getstate__", lambda self: self.__dict__)


@mutation("guidance: scale w for 1 + w", f"{GUIDED}::test_affine_in_every_lens")
def _(patch):
    right = guidance.mix
    patch.attribute(guidance, "mix", lambda a, b, weight: right(a, b, 1 + weight))


@mutation(
    "guidance: both halves have the condition",
    f"{GUIDED}::test_affine_in_every_lens",
    f"{REMEMBERED}::test_guidance_sees_every_change_of_the_condition",
)
def _(patch):
    patch.attribute(guidance.Condition, "null", lambda self: self)


@mutation(
    "guidance: an interval without its ends",
    f"{GUIDED}::test_outside_the_interval_is_the_conditional_model",
)
def _(patch):
    def wrong(self, t):
        if self.interval is None:
            return True
        inside = (t > self.interval[0]) & (t < self.interval[1])
        return bool(inside) if inside.ndim == 0 else inside

    patch.attribute(guidance.ClassifierFree, "_inside", wrong)


@mutation(
    "guidance: rescale by the deviation of the batch",
    f"{GUIDED}::test_rescale_sets_the_deviation_of_x0",
)
def _(patch):
    def wrong(self, guided, given):
        ratio = given.x0.std() / guided.x0.std()
        return guided.with_value("x0", guided.x0 * (self.rescale * ratio + 1 - self.rescale))

    patch.attribute(guidance.ClassifierFree, "_rescaled", wrong)


@mutation(
    "streams keyed by the row of the batch",
    f"{STREAMS}::test_bitwise_the_same_at_any_batch_and_order",
)
def _(patch):
    def wrap(right):
        def wrong(self):
            return right(randomness.Streams(self.seed, range(len(self)), self._purpose))

        return wrong

    patch.around(randomness.Streams, "_one_after_another", wrap)


@mutation(
    "streams: the second draw starts again",
    f"{STREAMS}::test_every_number_is_that_of_a_generator_of_its_own",
    f"{STREAMS}::test_draws_continue_and_are_not_slices_of_longer_ones",
)
def _(patch):
    def wrap(right):
        def wrong(self, kind, event, high=0):
            before, self._draws = self._draws, []
            try:
                return right(self, kind, event, high)
            finally:
                self._draws = before + self._draws

        return wrong

    patch.around(randomness.Streams, "_draw", wrap)


@mutation(
    "streams: every purpose draws the same numbers",
    f"{STREAMS}::test_purposes_are_independent_and_do_not_shift_each_other",
)
def _(patch):
    patch.attribute(randomness.Streams, "_word", property(lambda self: 0))


@mutation("streams: rewound to the beginning", f"{STREAMS}::test_rewound_stands_where_the_mark_was")
def _(patch):
    patch.around(randomness.Streams, "rewound", lambda right: lambda self, mark=0: right(self, 0))
