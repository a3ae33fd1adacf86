"""`python -m unnoise.cli`."""

from .main import main

main()
