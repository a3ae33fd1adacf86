"""unnoise: diffusion, score and flow models as one object.

A trained network is a field; a field can be read through any lens, sampled by any solver, bent by
any guidance. Names are loaded when first used: `import unnoise` costs little more than torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

__version__ = "0.1.0"

_NAMES = {
    "Chain": "paths",
    "Denoiser": "fields",
    "Model": "artifacts",
    "Prediction": "fields",
    "Streams": "randomness",
    "Training": "training",
    "classifier_free": "guidance",
    "load": "artifacts",
    "load_data": "data",
    "load_recipe": "recipes",
    "measure": "pipelines",
    "open_data": "data",
    "sample": "artifacts",
    "train": "training",
}
_ROOMS = (
    "artifacts", "data", "divergences", "errors", "evaluation", "fields", "guidance",
    "mcmc", "networks", "objectives", "paths", "pipelines", "randomness", "recipes", "sampling",
    "solvers",
    "support", "training",
)  # fmt: skip
__all__ = ["__version__", *_NAMES, *_ROOMS]


def __getattr__(name: str) -> Any:
    if name in _NAMES:
        return getattr(import_module(f".{_NAMES[name]}", __name__), name)
    if name in _ROOMS:
        return import_module(f".{name}", __name__)
    raise AttributeError(f"module 'unnoise' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
