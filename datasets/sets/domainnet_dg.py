"""DomainNet for generalisation: the sources' test images are for validation, as in Dassl."""

from dassl.data.datasets import DATASET_REGISTRY
from datasets.sets.domainnet import NAMES, DomainNetLists, lists_of


@DATASET_REGISTRY.register()
class DomainNetDG(DomainNetLists):
    domain_names, classes = NAMES, 345
    lists = lists_of("splits", NAMES)
