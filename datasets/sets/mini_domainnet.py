"""miniDomainNet (Zhou et al., TIP 2021): 126 classes and four domains of DomainNet."""

from dassl.data.datasets import DATASET_REGISTRY
from datasets.base import Rows
from datasets.sets.domainnet import DomainNetLists, lists_of

NAMES = ("clipart", "painting", "real", "sketch")


@DATASET_REGISTRY.register()
class miniDomainNet(DomainNetLists):
    """For adaptation: the target's training images are those without labels; none validate."""

    domain_names, classes = NAMES, 126
    list_folder = "splits_mini"
    adaptation = True
    lists = lists_of("splits_mini", NAMES)
    manual = (
        "fetch DomainNet's archives from ai.bu.edu/M3SDA, and miniDomainNet's lists from Google",
        "Drive (15rrLDCrzyi6ZY-1vJar3u7plgLe4COL7), and put them at domainnet/<domain>/<class>/",
        "and domainnet/splits_mini/",
    )

    def domain(self, name: str) -> dict[str, Rows]:
        return super().domain(name) | {"val": []}
