"""The variational bound of Gaussian data by brute force: joint normal laws of the whole chain.

Nothing of it comes from the bound's own code: transitions are written out from α and σ.
"""

from __future__ import annotations

import math

import torch

from tests.exact import F64
from unnoise.fields import Field, Gaussian


class Chained:
    """q(z|x) and p(x, z) of one number's chain, z = (x_{t_1}, …, x_{t_T}), as joint normals.

    alpha, sigma: of the data (1, 0) and then of every noisy state, noise rising; the data are
    N(mean, variance); the model's means are exact, `variances[n − 1]` is that of its step to state
    n − 1, step 1 giving x itself.
    """

    def __init__(self, alpha, sigma, mean, variance, variances, prior_variance=1.0):
        assert (alpha[0], sigma[0]) == (1, 0)
        self.count = len(alpha) - 1
        self.slope = torch.tensor(alpha[1:], dtype=F64)
        self.q_cov = torch.zeros(self.count, self.count, dtype=F64)
        for i in range(self.count):
            self.q_cov[i, i] = sigma[i + 1] ** 2
            for j in range(i + 1, self.count):
                # x_j = (α_j/α_i)·x_i + fresh noise
                self.q_cov[i, j] = self.q_cov[j, i] = (
                    alpha[j + 1] / alpha[i + 1] * sigma[i + 1] ** 2
                )
        # p: x_{n−1} = gain·x_n + rest + √variance·ξ, from x_T ~ N(0, prior_variance)
        p_mean = torch.zeros(self.count + 1, dtype=F64)
        p_cov = torch.zeros(self.count + 1, self.count + 1, dtype=F64)
        p_cov[-1, -1] = prior_variance
        for n in range(self.count, 0, -1):
            a, s = alpha[n], sigma[n]
            total = a**2 * variance + s**2
            x0_gain = a * variance / total
            x0_rest = mean - x0_gain * a * mean
            on_x0, on_x = posterior(alpha[n - 1], sigma[n - 1], a, s)
            gain, rest = on_x0 * x0_gain + on_x, on_x0 * x0_rest
            p_mean[n - 1] = gain * p_mean[n] + rest
            p_cov[n - 1, n:] = p_cov[n:, n - 1] = gain * p_cov[n, n:]
            p_cov[n - 1, n - 1] = gain**2 * p_cov[n, n] + variances[n - 1]
        self.p_mean, self.p_cov = p_mean, p_cov

    def elbo(self, x):
        """E_q[log p(x, z) − log q(z|x)] for each number x."""
        precision = torch.linalg.inv(self.p_cov)
        q_mean = x[:, None] * self.slope
        centre = torch.cat([x[:, None], q_mean], 1) - self.p_mean
        square = torch.einsum("bi,ij,bj->b", centre, precision, centre)
        square = square + (precision[1:, 1:] * self.q_cov).sum()
        size = self.count + 1
        joint = -0.5 * (square + torch.logdet(self.p_cov) + size * math.log(2 * math.pi))
        entropy = 0.5 * (torch.logdet(self.q_cov) + self.count * (1 + math.log(2 * math.pi)))
        return joint + entropy


def posterior(alpha_s, sigma_s, alpha, sigma):
    """(on x0, on x_t) of the mean of q(x_s|x_t, x0), by conditioning the joint normal."""
    keep = alpha / alpha_s
    # given x0: x_s ~ N(α_s·x0, σ_s²), x_t = keep·x_s + noise with total variance σ²
    gain = keep * sigma_s**2 / sigma**2
    return alpha_s - gain * alpha, gain


def marginals(path, times):
    """(α, σ) of rising times, with the data before them where the first has noise already."""
    alpha, sigma = ([float(f(t)) for t in times] for f in (path.alpha, path.sigma))
    return (alpha, sigma) if sigma[0] == 0 else ([1.0, *alpha], [0.0, *sigma])


def step_variances(alpha, sigma, kind):
    """β̃ or β of every step; for "posterior" the first one's is that of the second."""
    out = []
    for n in range(1, len(alpha)):
        beta = sigma[n] ** 2 - (alpha[n] / alpha[n - 1]) ** 2 * sigma[n - 1] ** 2
        out.append(beta if kind == "transition" else beta * sigma[n - 1] ** 2 / sigma[n] ** 2)
    if kind == "posterior":
        out[0] = out[1]
    return out


def conditional_variance(path, variance, s, t):
    """Var[x_s | x_t] of Gaussian data, by conditioning the joint normal of the two."""
    a_s, v_s = float(path.alpha(s)), float(path.sigma(s)) ** 2
    a_t, v_t = float(path.alpha(t)), float(path.sigma(t)) ** 2
    both = a_s * a_t * variance + a_t / a_s * v_s
    return a_s**2 * variance + v_s - both**2 / (a_t**2 * variance + v_t)


class Signs:
    """Noise that is +1 in even rows and −1 in odd ones: with events whose numbers do not mix, the
    mean over the two is the exact mean of any square of a linear form."""

    def __init__(self, rows):
        self.rows = rows

    def normal(self, *event):
        out = torch.ones(self.rows, *event, dtype=F64)
        out[1::2] = -1
        return out

    def purpose(self, name):
        return self


class WithFraction(Field):
    """A field that also says a fraction: a number of each time."""

    def __init__(self, field, fraction):
        self.field, self.path, self.variance_fraction = field, field.path, fraction

    def __call__(self, x_t, t, condition=None):
        said = self.field(x_t, t, condition)
        times = torch.as_tensor(t, dtype=F64).expand(len(x_t)).tolist()
        rows = torch.stack(
            [torch.as_tensor(self.variance_fraction(time), dtype=F64) for time in times]
        )
        said.variance_fraction = rows.reshape(-1, *(1,) * (x_t.ndim - 1)).expand(x_t.shape)
        return said


def best_fraction(path, variance, s, t):
    """The fraction that makes the reverse step's variance the true Var[x_s|x_t]."""
    a_s, s_s, a_t, s_t = (float(f(x)) for x in (s, t) for f in (path.alpha, path.sigma))
    high = s_t**2 - (a_t / a_s) ** 2 * s_s**2
    low = high * s_s**2 / s_t**2
    return math.log(conditional_variance(path, variance, s, t) / low) / math.log(high / low)


def gaussian(path, mean=0.4, variance=0.6):
    """N(mean, variance) on events of one number."""
    return Gaussian(torch.tensor([mean], dtype=F64), variance, path)
