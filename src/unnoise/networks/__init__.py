"""Networks: modules called `network(x, noise_level, condition)`."""

from .mlp import Mlp
from .network import Network
from .unet import UNet

__all__ = ["Mlp", "Network", "UNet"]
