"""Interop: other libraries' models and loops, in both directions.

`unnoise.interop.diffusers` needs diffusers and is imported by name.
"""
