"""Compositions of the other rooms, without new mathematics."""

from .measure import measure

__all__ = ["measure"]
