"""Base to new classes: train on the first half of the classes, test on both halves."""

from tools.protocols.base import CELL, TESTED, Protocol, Variable, in_column

PROTOCOL = Protocol(
    name="base2new",
    title="Base to new classes",
    top="base2new/",
    train="train_{subset}/{source}/" + CELL,
    test="test_{subset}/" + TESTED + "/" + CELL,
    subset="base",
    others=("new",),
    elsewhere=("base", "new"),
    script="base2new_{part}.sh",
    variables=(Variable("TARGET", "tests", "another data set to test on, default DATASET"),),
    takes=lambda run: run.subset != "all",
    cells=in_column("{subset}"),
    columns=lambda columns: ["base", "new", "H"],
    row=(TESTED, "{trainer}", "{config}", "{shots}"),
    averaged=True,
    published="base2novel",
    rank=10,
)
