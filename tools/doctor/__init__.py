"""The doctor: `python -m tools.doctor --help`."""
