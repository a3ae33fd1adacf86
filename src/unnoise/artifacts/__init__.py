"""What a trained model is on disk, and the object it becomes."""

from .artifact import Artifact
from .model import Model, load, sample
from .tuned_files import write_tuned

__all__ = ["Artifact", "Model", "load", "sample", "write_tuned"]
