"""CelebA (Liu et al., ICCV 2015), hair colour against gender, as in Sagawa et al. (ICLR 2020)."""

import dataclasses
import os.path as osp
from collections.abc import Iterator, Sequence
from pathlib import Path

from dassl.data.datasets import DATASET_REGISTRY
from datasets.base import PARTS, Split, offers
from datasets.download import Source, arrange
from datasets.files import list_images, read_cells
from datasets.groups import GroupDataset, UserError, columns_of, position

ATTRIBUTES, PARTITION, IMAGES = "list_attr_celeba", "list_eval_partition", "img_align_celeba"


@DATASET_REGISTRY.register()
class CelebA(GroupDataset):
    """The class is Blond_Hair, the domain Male, the split the official one; class names and
    template of chingyaoc/debias_vl.

    The two tables are those of the authors (.txt) or of Kaggle's jessicali9530/celeba-dataset
    (.csv), whose folder of images is nested twice. The rare group is blond and male: 1,387 of
    162,770 training images, 180 of 19,962 test images.
    """

    folder = "celebA"
    image_folder = IMAGES
    templates = ("A photo of a celebrity with {}.",)
    class_names, domain_names = ("dark hair", "blond hair"), ("female", "male")
    attribute_texts = ("A photo of a {}.", "of a {}.")  # `OrthCal`
    lists = tuple(f"{name}.{form}" for name in (ATTRIBUTES, PARTITION) for form in ("csv", "txt"))
    classes, images = 2, (162770, 19867, 19962)
    # Google Drive ids and checksums are torchvision's.
    sources = (
        Source(
            f"{IMAGES}.zip",
            ("gdrive:0B7EVK8r0v71pZjFTYXZWM3FlRnM",),
            md5="00d2c5bc6d35e252742224ab0c1e8fcb",
            unpack={IMAGES: IMAGES},
        ),
        Source(
            f"{ATTRIBUTES}.txt",
            ("gdrive:0B7EVK8r0v71pblRyaVFSWGxPY0U",),
            md5="75e246fa4810816ffd6ee81facbd244c",
        ),
        Source(
            f"{PARTITION}.txt",
            ("gdrive:0B7EVK8r0v71pY0NSMzRuSXJEVkk",),
            md5="d32c9cbf5e040fd4025c592c306e6668",
        ),
    )

    def partition(self) -> Split:
        split = {part: [] for part in PARTS}
        path, table = self._table(ATTRIBUTES, ("Blond_Hair", "Male"))
        group = {
            image: [
                position(path, number, column, code, ("-1", "1"))
                for column, code in zip(("Blond_Hair", "Male"), codes, strict=True)
            ]
            for number, (image, *codes) in table
        }
        below = f"{IMAGES}/" if osp.isdir(osp.join(self.image_dir, IMAGES)) else ""
        other, table = self._table(PARTITION, ("partition",))
        for number, (image, code) in table:
            part = position(other, number, "partition", code, ("0", "1", "2"))
            if image not in group:
                raise UserError(
                    f"'{other}' line {number} names {image}, which '{path}' does not: restore the "
                    "files"
                )
            label, male = group[image]
            split[PARTS[part]].append([below + image, label, self.class_names[label], male])
        return split

    def _table(
        self, name: str, wanted: Sequence[str]
    ) -> tuple[str, Iterator[tuple[int, list[str]]]]:
        """Return a table's path and rows: (line number, [image, values of `wanted` columns])."""
        path = osp.join(self.dataset_dir, f"{name}.csv")
        if osp.isfile(path):
            cells = read_cells(path)
            _, header = next(cells, (0, []))
        # Of the authors: columns between blanks; the attributes below their number of rows and
        # their names, the partition without a header.
        else:
            path = osp.join(self.dataset_dir, f"{name}.txt")
            cells, header = read_cells(path, None), list(wanted)
            if name == ATTRIBUTES:
                rows, header = [row for _, row in (next(cells, (0, [])), next(cells, (0, [])))]
                cells = counted(path, rows, cells)
            header = ["image_id", *header]
        return path, columns_of(path, header, cells, ("image_id", *wanted))

    @classmethod
    def prepare(cls, root: str, given: Path | None = None, progress: bool = True) -> dict[str, int]:
        """As the parent's; Kaggle's form of a table, in place or in the folder `given`, stands for
        the authors'.
        """
        folder = Path(root).expanduser() / cls.folder
        forms = [
            (
                source,
                dataclasses.replace(
                    source,
                    name=source.name.replace(".txt", ".csv"),
                    md5="" if source.unpack is None else source.md5,
                ),
            )
            for source in cls.sources
        ]
        if given is not None and not any(offers(given, form) for pair in forms for form in pair):
            raise UserError(
                f"'{given}' is or holds none of "
                f"{', '.join(source.name for source in cls.sources)}: correct --from"
            )
        for source, kaggle in forms:
            if source.unpack is None and (folder / kaggle.name).is_file():
                continue
            chosen = next(
                (form for form in (source, kaggle) if given is not None and offers(given, form)),
                None,
            )
            try:
                arrange(chosen or source, folder, given if chosen else None, progress)
            except UserError as error:
                raise (
                    error
                    if chosen
                    else UserError(
                        f"{error}, or a folder with Kaggle's jessicali9530/celeba-dataset"
                    )
                ) from None
        if not (images := list_images(str(folder / cls.image_folder))):
            raise UserError(
                f"'{folder / cls.image_folder}' holds no images: delete it and prepare "
                f"{cls.__name__} again"
            )
        return {cls.__name__: len(images)}


def counted(
    path: str, header: list[str], cells: Iterator[tuple[int, list[str]]]
) -> Iterator[tuple[int, list[str]]]:
    """Yield `cells`; UserError at the end if their number is not the `header`'s."""
    count = 0
    for row in cells:
        count += 1
        yield row
    if header != [str(count)]:
        raise UserError(
            f"'{path}' has {count} rows instead of the {' '.join(header)} that its first line "
            "tells: restore the file"
        )
