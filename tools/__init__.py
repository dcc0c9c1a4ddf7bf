"""Programs around train.py: `python -m tools.NAME --help`."""

from dassl import program

program.while_importing(__name__)
