"""DomainNet (Peng et al., ICCV 2019): six domains, 345 classes; its cleaned lists."""

from dassl.data.datasets import DATASET_REGISTRY
from datasets.base import Rows
from datasets.shifts import ShiftDataset

NAMES = ("clipart", "infograph", "painting", "quickdraw", "real", "sketch")


def lists_of(folder: str, names: tuple[str, ...]) -> tuple[str, ...]:
    """The two lists of each domain."""
    return tuple(f"{folder}/{name}_{part}.txt" for name in names for part in ("train", "test"))


class DomainNetLists(ShiftDataset):
    """Parent of the data sets on DomainNet's images: lists of training and test images."""

    folder = "domainnet"
    list_folder = "splits"
    whole_test = False
    manual = (
        "fetch DomainNet's six archives and the cleaned lists <domain>_{train,test}.txt from",
        "ai.bu.edu/M3SDA, and put them at domainnet/<domain>/<class>/ and domainnet/splits/",
    )

    def domain(self, name: str) -> dict[str, Rows]:
        train, test = map(self.listed, lists_of(self.list_folder, (name,)))
        return {"train": train, "val": test, "test": test}


@DATASET_REGISTRY.register()
class DomainNet(DomainNetLists):
    """For adaptation: the target's training images are those without labels."""

    domain_names, classes = NAMES, 345
    adaptation = True
    lists = lists_of("splits", NAMES)
