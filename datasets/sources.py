"""Where published data sets lie: addresses that several of them share."""

from datasets.download import Source

VGG = "https://www.robots.ox.ac.uk/~vgg/data/"
# The split files under MIT licence, at the commit whose checksums the data sets state.
SPLITS = (
    "https://raw.githubusercontent.com/linzhiqiu/cross_modal_adaptation/"
    "c7e7e68ae4eeadfab98e7886b2d6c9cf48a7ceb5/splits/"
)


def split_list(name: str, drive: str, md5: str = "") -> Source:
    """A file of CoOp's authors on Google Drive; those with a known checksum are on GitHub too,
    which needs no Drive.
    """
    return Source(name, ((SPLITS + name,) if md5 else ()) + (f"gdrive:{drive}",), md5=md5)


def copy_of(archive: str, also: tuple[str, ...] = ()) -> Source:
    """A zip of the whole folder in CoOp's layout, split file included (all sets but ImageNet)."""
    return Source(
        f"{archive}.zip",
        (f"hf:zhengli97/prompt_learning_dataset/{archive}.zip", *also),
        unpack={"": ""},
    )


def class_names() -> Source:
    """ImageNet's classnames.txt of CoOp's authors: each line is a folder and CLIP's class name."""
    return Source("classnames.txt", ("gdrive:1-61f_ol79pViBFDG_IDlUQSwoLcn2XXF",))
