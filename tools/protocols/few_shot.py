"""Few-shot: train on all classes with 1, 2, 4, 8 and 16 shots. Trainings are those of xd."""

from dataclasses import replace

from tools.protocols import xd
from tools.protocols.base import in_column


def _number(column: str) -> tuple[bool, int]:
    """For sorting "4 shots"; "all shots" comes last."""
    shots = column.split()[0]
    return not shots.isdigit(), int(shots) if shots.isdigit() else 0


PROTOCOL = replace(
    xd.PROTOCOL,
    name="few_shot",
    title="Few-shot",
    script="few_shot.sh",
    shots="1 2 4 8 16",
    tests=(),
    variables=(),
    takes=lambda run: run.part == "train",
    cells=in_column("{shots} shots"),
    columns=lambda columns: sorted(columns, key=_number),
    row=("{source}", "{trainer}", "{config}", ""),
    averaged=True,
    every_column=True,
    tested_only=False,
    published="",
    rank=60,
)
