"""Bugs in divergences and in the metrics of the card."""

from dataclasses import replace

import numpy as np
from scipy.spatial.distance import cdist

from unnoise.divergences import generators, normal, value
from unnoise.evaluation import frechet, intervals, kernel, metric, slices

from .planting import module, mutation

# hidden by the functions of their names
manifold = module("evaluation.manifold")
memorisation = module("evaluation.memorisation")
fisher = module("divergences.fisher")
wasserstein = module("divergences.wasserstein")

F, FISHER = "tests/divergences/test_f_divergences.py", "tests/divergences/test_fisher_and_fits.py"
WASSERSTEIN, KERNEL = "tests/divergences/test_wasserstein.py", "tests/evaluation/test_kernel.py"
FRECHET, INTERVALS = "tests/evaluation/test_frechet.py", "tests/evaluation/test_intervals.py"
MANIFOLD, COPIES = "tests/evaluation/test_manifold.py", "tests/evaluation/test_memorisation.py"
SLICES, CARD = "tests/evaluation/test_slices.py", "tests/evaluation/test_card.py"


@mutation("KL the other way", f"{F}::test_known_values")
def _(patch):
    patch.around(normal, "_kl", lambda right: lambda p, q: right(q, p))


@mutation(
    "KL: terms that cancel where p and q are near",
    f"{F}::test_nearly_equal_laws_keep_their_digits",
)
def _(patch):
    def wrong(log_p, log_q):
        return log_p.exp() * (log_p - log_q) - log_p.exp() + log_q.exp()

    patch.attribute(generators, "_kl", wrong)
    kl = generators.GENERATORS["kl"]
    patch.item(generators.GENERATORS, "kl", replace(kl, integrand=wrong))


@mutation("JS: the sum where the mean belongs", f"{F}::test_relations")
def _(patch):
    js = generators.GENERATORS["js"]
    doubled = lambda log_p, log_q: 2 * js.integrand(log_p, log_q)  # noqa: E731
    patch.item(
        generators.GENERATORS, "js", generators.Generator("js", "", doubled, *(np.log(2),) * 2)
    )


@mutation("total variation without its half", f"{F}::test_known_values")
def _(patch):
    patch.result(normal, "_tv", lambda found, *_: 2 * found)


@mutation("alpha: α and 1 − α exchanged", f"{F}::test_closed_form_is_the_integral")
def _(patch):
    patch.around(normal, "_log_affinity", lambda right: lambda a, p, q: right(1 - a, p, q))


@mutation(
    "Monte Carlo: its error is the deviation",
    f"{F}::test_monte_carlo_agrees_with_quadrature_within_its_error",
)
def _(patch):
    def wrong(found, parts):
        count = min(len(part) for part in parts)
        return value.Estimate(found.value, found.error / count**0.5, found.method)

    patch.result(value, "monte_carlo", wrong)


@mutation("Fisher divergence: half of it", f"{FISHER}::test_fisher_three_ways")
def _(patch):
    patch.around(fisher, "score_of", lambda right: lambda p, x: right(p, x) / 2)


@mutation(
    "Wasserstein: Gaussians' roots are multiplied, not their product's",
    f"{WASSERSTEIN}::test_bures",
)
def _(patch):
    def wrong(found, p, q, order=2):
        if order == 1:
            return found
        gap = ((p.mean - q.mean) ** 2).sum()
        apart = (normal.root(p.covariance) - normal.root(q.covariance)).square().sum()
        return value.Estimate(float((gap + apart).sqrt()), 0.0, "closed form")

    patch.result(wasserstein, "wasserstein_gaussian", wrong)


@mutation(
    "Wasserstein: points are not sorted",
    f"{SLICES}::test_it_is_the_sliced_distance_of_the_divergences",
)
def _(patch):
    def wrap(right):
        def wrong(x, y, a, b, order):
            if x.shape == y.shape:
                return ((x - y).abs() ** order).mean(1)
            return right(x, y, a, b, order)

        return wrong

    patch.around(wasserstein, "_sorted_powers", wrap)


@mutation("slices: directions of a cube", f"{WASSERSTEIN}::test_slices_of_a_shift")
def _(patch):
    patch.attribute(
        wasserstein, "unit_vectors", lambda streams, d: 2 * streams.uniform(d).double() - 1
    )


@mutation("Fréchet: covariances divided by n", f"{FRECHET}")
def _(patch):
    def wrong(found, features):
        mean, covariance = found
        return mean, covariance * (len(features) - 1) / len(features)

    patch.result(frechet, "mean_and_covariance", wrong)


@mutation("Fréchet: the mean's gap is not squared", f"{FRECHET}")
def _(patch):
    def wrong(found, mean_a, cov_a, mean_b, cov_b):
        gap = np.asarray(mean_a, float) - np.asarray(mean_b, float)
        return found - float(gap @ gap) + float(np.sqrt(gap @ gap))

    patch.result(frechet, "gaussian_frechet", wrong)


@mutation("KID: pairs of a point with itself count", f"{KERNEL}")
def _(patch):
    patch.attribute(kernel.np, "fill_diagonal", lambda *_: None)


@mutation("KID: the kernel without its 1", f"{KERNEL}")
def _(patch):
    patch.attribute(kernel, "_cubic", lambda x, y: (x @ y.T / x.shape[1]) ** 3)


@mutation("manifold: a point is its own first neighbour", f"{MANIFOLD}::test_by_hand_on_a_line")
def _(patch):
    patch.attribute(manifold, "radii", lambda x, k: np.sort(cdist(x, x), 1)[:, k - 1])


@mutation("precision and recall exchanged", f"{MANIFOLD}::test_by_hand_on_a_line")
def _(patch):
    precision = manifold.Manifold.precision
    patch.attribute(manifold.Manifold, "precision", manifold.Manifold.recall)
    patch.attribute(manifold.Manifold, "recall", precision)


@mutation(
    "copies: the ratio of squares without its square",
    f"{COPIES}::test_near_copies_by_the_ratio_of_distances",
)
def _(patch):
    patch.around(
        memorisation, "copies", lambda right: lambda s, t, ratio=1 / 3: right(s, t, ratio**0.5)
    )


@mutation(
    "memorisation: ties count for the training pool",
    f"{COPIES}::test_ties_count_half_and_pools_must_be_equal",
)
def _(patch):
    sides = []

    def wrong(found, *_):
        sides.append(found)
        return found * (1 - 1e-6) if len(sides) % 2 else found  # the training values come first

    patch.result(memorisation, "squared_distances", wrong)


@mutation(
    "sliced distance: a root is missing",
    f"{SLICES}::test_a_shift_in_d_dimensions_is_its_length_over_the_root_of_d",
)
def _(patch):
    patch.result(slices, "sliced_wasserstein", lambda found, *_: found**2)


@mutation("intervals: replicates are not centred", f"{INTERVALS}")
def _(patch):
    def wrong(drawn, value, *, level=0.95, floor=None, ceiling=None):
        low, high = np.clip(np.quantile(drawn, [(1 - level) / 2, (1 + level) / 2]), floor, ceiling)
        return intervals.Interval(value, float(low), float(high), float(drawn.std(ddof=1)))

    patch.attribute(intervals, "centred", wrong)


@mutation("intervals: strata are mixed", f"{INTERVALS}")
def _(patch):
    patch.around(
        intervals.Resampler, "__init__", lambda right: lambda self, n, strata=None: right(self, n)
    )


@mutation("card: digits beyond the error are printed", f"{CARD}")
def _(patch):
    patch.around(metric, "number", lambda right: lambda x, of=None: right(x))


@mutation("two-sample test: tested on what it was trained on", "tests/evaluation/test_c2st.py")
def _(patch):
    import sklearn.model_selection as selection

    def wrap(right):
        def wrong(self, x, y):
            for train, test in right(self, x, y):
                yield np.concatenate([train, test]), test

        return wrong

    patch.around(selection.StratifiedKFold, "split", wrap)


@mutation(
    "learned test: both halves of the samples are one", "tests/evaluation/test_learned_test.py"
)
def _(patch):
    import sys

    def wrap(right):
        def wrong(strata, counts, how_many, *args, **options):
            found = right(strata, counts, how_many, *args, **options)
            return [found[0]] * how_many

        return wrong

    patch.around(sys.modules["unnoise.evaluation.learned_test"], "_pick", wrap)
