"""Open world: trained on the base classes as for base-to-new, tested on all classes together."""

from dataclasses import replace

from dassl.record import Description
from tools.protocols import base2new
from tools.protocols.base import percent

METRICS = {
    "joint": "accuracy",
    "base": "base_accuracy",
    "new": "new_accuracy",
    "AUROC": "auroc",
    "OpenworldAUC": "openworld_auc",
}


def cells(run: Description, metrics: dict) -> dict[str, float]:
    """Of a test over all classes."""
    return {column: percent(metrics, key) for column, key in METRICS.items()}


PROTOCOL = replace(
    base2new.PROTOCOL,
    name="openworld",
    title="Open world: base and new classes together",
    trained_as="base2new",
    others=("all",),
    elsewhere=(),  # base classes are those that the model was trained on
    variables=(),
    tested_with={"TEST.EVALUATOR": "OpenWorld"},
    script="openworld_{part}.sh",
    takes=lambda run: run.subset == "all",
    cells=cells,
    columns=lambda columns: ["joint", "base", "new", "H", "AUROC", "OpenworldAUC"],
    verdict="joint",
    published="",
    rank=15,
)
