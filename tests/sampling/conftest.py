"""The models of the artifacts' tests."""

from tests.artifacts.conftest import folder, model, saved

__all__ = ["folder", "model", "saved"]
