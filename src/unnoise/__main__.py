"""`python -m unnoise`."""

from .cli import main

main()
