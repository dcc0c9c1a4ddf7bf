"""Domain shift within a data set: train on some of its domains, test others.

A study's name is that of what is tested, such as `sketch` (all other domains are trained on) or
`art_to_clipart`; DATASET.SOURCE_DOMAINS and TARGET_DOMAINS are in its overrides.
"""

from dassl.record import Description
from tools.protocols.base import CELL, Protocol, percent

AVERAGE = "average"


def cells(run: Description, metrics: dict) -> dict[str, float]:
    """The accuracy on the target, in the column of the study."""
    return {run.study: percent(metrics, "accuracy")}


PROTOCOL = Protocol(
    name="domains",
    title="Domain shift",
    train="domains/{source}/{study}/" + CELL,
    shots="all",
    cells=cells,
    columns=lambda columns: [*sorted(columns), AVERAGE],
    published="domain_adaptation",
    rank=45,
)
