"""What a model says of given data: log p(x), exact, bounded or estimated."""

from ..fields.derivatives import trace
from .bound import Bound, continuous_bound, prior_kl, variational_bound
from .decoder import Levels, gaussian_nll, level_nll
from .dequantise import AffineLogistic, discrete_log_likelihood, spread
from .encoding import decode, encode, even_grid, lerp, slerp
from .flow import log_likelihood
from .steps import VARIANCES, Steps
from .value import Likelihood

__all__ = [
    "VARIANCES",
    "AffineLogistic",
    "Bound",
    "Levels",
    "Likelihood",
    "Steps",
    "continuous_bound",
    "decode",
    "discrete_log_likelihood",
    "encode",
    "even_grid",
    "gaussian_nll",
    "lerp",
    "level_nll",
    "log_likelihood",
    "prior_kl",
    "slerp",
    "spread",
    "trace",
    "variational_bound",
]
