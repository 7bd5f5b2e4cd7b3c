"""`python -m unetpp_monai`, the same as `unetpp`."""

from .cli import main

main()
