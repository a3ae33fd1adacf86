"""Interop: models and loops of other libraries, in both directions.

`unnoise.interop.diffusers` needs diffusers and is imported by name.
"""
