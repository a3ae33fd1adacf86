"""The log-likelihood of data under a model: exact, bounded or estimated."""

from ..fields.derivatives import trace
from .bound import Bound, continuous_bound, prior_kl, variational_bound
from .decoder import Levels, gaussian_nll, level_nll
from .dequantise import AffineLogistic, dequantise_with, discrete_log_likelihood
from .encoding import decode, encode, even_grid, lerp, slerp
from .flow import log_likelihood
from .steps import VARIANCES, ReverseSteps
from .value import Likelihood

__all__ = [
    "VARIANCES",
    "AffineLogistic",
    "Bound",
    "Levels",
    "Likelihood",
    "ReverseSteps",
    "continuous_bound",
    "decode",
    "dequantise_with",
    "discrete_log_likelihood",
    "encode",
    "even_grid",
    "gaussian_nll",
    "lerp",
    "level_nll",
    "log_likelihood",
    "prior_kl",
    "slerp",
    "trace",
    "variational_bound",
]
