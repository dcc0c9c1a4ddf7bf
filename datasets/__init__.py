"""Importing this package registers every data set."""

import importlib
import pkgutil

NOT_DATA_SETS = ("base", "prepare")

for _module in pkgutil.iter_modules(__path__):
    if _module.name not in NOT_DATA_SETS:
        importlib.import_module(f"{__name__}.{_module.name}")
