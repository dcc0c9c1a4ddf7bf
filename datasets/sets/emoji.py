"""The suite's emoji: Unicode's subgroups, drawn by several artists and in several styles.

The labelled and the unlabelled emoji of training are different ones (`tools.suite.emoji`), so that
the unlabelled pictures of a shifted style do not show what is labelled in another.
"""

from dassl.data.datasets import DATASET_REGISTRY
from datasets.base import PARTS, Split
from datasets.domains import choose_domains
from datasets.suite import SuiteDataset, Table

STYLES = ("colour", "line", "one colour", "rendered")


class EmojiDataset(SuiteDataset):
    """Parent of the data sets of one style: they share pictures and classes."""

    table, style, half = "emoji", "", "b"

    @classmethod
    def rows(cls, table: Table) -> dict[str, list[list]]:
        return {
            part: rows_of(table, part, (cls.style,), cls.half if part == "train" else None)
            for part in PARTS
        }


@DATASET_REGISTRY.register()
class Emoji(EmojiDataset):
    """Emoji in colour by OpenMoji, Twemoji, EmojiOne 2 and 1, and Streamline.

    Trains on the labelled half.
    """

    style, half = "colour", "a"


@DATASET_REGISTRY.register()
class EmojiLine(EmojiDataset):
    """OpenMoji's line drawings; trains on the unlabelled half."""

    style = "line"


@DATASET_REGISTRY.register()
class EmojiOneColour(EmojiDataset):
    """EmojiOne's emoji in one colour; trains on the unlabelled half."""

    style = "one colour"


@DATASET_REGISTRY.register()
class EmojiRendered(EmojiDataset):
    """Fluent's emoji as rendered in three dimensions; trains on the unlabelled half."""

    style = "rendered"


@DATASET_REGISTRY.register()
class EmojiStyles(SuiteDataset):
    """The four styles as domains: leave one out with DATASET.SOURCE_DOMAINS and TARGET_DOMAINS."""

    table, chooses_domains = "emoji", True
    domain_names = STYLES

    @classmethod
    def rows(cls, table: Table) -> dict[str, list[list]]:
        split = {part: rows_of(table, part, STYLES, None) for part in ("val", "test")}
        labelled, apart = (rows_of(table, "train", STYLES, half) for half in "ab")
        return {"train": labelled, **split, "unlabelled": apart}

    def split(self, cfg) -> Split:
        names = list(self.domain_names)
        return choose_domains(super().split(cfg), cfg, names, self.folder, "the styles of ")


def rows_of(table: Table, part: str, styles: tuple[str, ...], half: str | None) -> list[list]:
    """[path, label, class name, number of the style] of a part; half: of the training emoji."""
    labels = sorted({row["class"] for row in table.values()})
    return [
        [f"{key}.png", labels.index(row["class"]), row["class"], STYLES.index(row["style"])]
        for key, row in table.items()
        if row["split"] == part and row["style"] in styles and (half is None or row["half"] == half)
    ]
