"""Networks: modules called `network(x, noise_level, condition)`."""

from .dit import DiT
from .freezing import frozen
from .mlp import Mlp
from .network import Network
from .unet import UNet

__all__ = ["DiT", "Mlp", "Network", "UNet", "frozen"]
