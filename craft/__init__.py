"""CRAFT in a program of one's own: load what a run learned, or train on pictures in memory.

    from craft import fit, load_run

    model = load_run("output/my_run")
    model.classify("new.jpg", top=3)

This package is the only one that other programs need. It adds no method and no loop: `load_run`
reads as `tools.predict` does, and `fit` trains with the engine and the trainers of train.py.
docs/python.md shows all of it.
"""

from craft.model import Model, Prediction, load_run
from craft.training import fit
from dassl.errors import UserError

__all__ = ["Model", "Prediction", "UserError", "fit", "load_run"]
