"""Group robustness: train on all images of a data set with groups; the worst group counts."""

from dassl.record import Description
from tools.protocols.base import CELL, Protocol, percent

METRICS = {
    "mean": "accuracy",
    "adjusted": "adjusted_accuracy",
    "worst group": "worst_group_accuracy",
    "gap": "gap",
}


def cells(run: Description, metrics: dict) -> dict[str, float]:
    """Those metrics of groups that the run has."""
    return {column: percent(metrics, key) for column, key in METRICS.items() if key in metrics}


PROTOCOL = Protocol(
    name="group",
    title="Group robustness",
    train="group/{source}/" + CELL,
    presets={"mmd": {"TRAINER.CRAFT.MMD.DOMAINS": "group"}},
    script="group_{part}.sh",
    shots="all",
    cells=cells,
    columns=lambda columns: [name for name in METRICS if name in columns],
    verdict="worst group",
    averaged=True,
    rank=50,
)
