"""Cross-dataset: train on all classes of a data set (papers: ImageNet), test on others."""

from dassl.record import Description
from tools.protocols.base import TESTED, Protocol, Variable, source_first

IMAGENETS = ("imagenetv2", "imagenet_sketch", "imagenet_a", "imagenet_r")
OTHERS = (
    *("caltech101", "oxford_pets", "stanford_cars", "oxford_flowers", "food101"),
    *("fgvc_aircraft", "sun397", "dtd", "eurosat", "ucf101"),
)


def tested_on_others(run: Description) -> bool:
    """Whether a run tested its own training's data set, or one that is no variant of ImageNet."""
    return run.part == "train" or run.tested not in IMAGENETS


PROTOCOL = Protocol(
    name="xd",
    title="Cross-dataset",
    train="{source}/{trainer}/{config}_{shots}shots/seed{seed}",
    test="evaluation/{trainer}/{config}_{shots}shots/" + TESTED + "/seed{seed}",
    elsewhere=("all",),
    home="imagenet",
    script="xd_{part}.sh",
    tests=(*OTHERS, *IMAGENETS),
    variables=(
        Variable(
            "TARGETS",
            "tests",
            "data sets to test on, default the ten others of the papers and the four variants of "
            "ImageNet",
            several=True,
        ),
    ),
    takes=tested_on_others,
    columns=source_first,
    tested_only=True,
    published="cross_dataset",
    rank=20,
)
