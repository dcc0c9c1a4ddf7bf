"""Out of distribution: train with unlabelled images of a shifted data set, test on such."""

from tools.protocols.base import CELL, PAIR, Protocol, Variable, source_first

PROTOCOL = Protocol(
    name="ood",
    title="Out of distribution",
    train="ood/train/" + PAIR + "/" + CELL,
    test="ood/test_{tested}/" + PAIR + "/" + CELL,
    elsewhere=("all",),
    script="ood_{part}.sh",
    variables=(
        Variable(
            "TARGET",
            "target",
            "the shifted data set whose images are the unlabelled ones; needed",
            needed=True,
        ),
        Variable("SHIFTED", "tests", "data sets to test on, default TARGET", several=True),
    ),
    columns=source_first,
    row=(PAIR, "{trainer}", "{config}", "{shots}"),
    rank=40,
)
