"""TerraIncognita (Beery et al., ECCV 2018): camera traps at four places, DomainBed's folders."""

from dassl.data.datasets import DATASET_REGISTRY
from datasets.shifts import FolderDomains


@DATASET_REGISTRY.register()
class TerraIncognita(FolderDomains):
    """A fifth of each class is for validation, since no split is published with the folders."""

    folder = "terra_incognita"
    domain_names = ("location_100", "location_38", "location_43", "location_46")
    classes = 10
    manual = (
        "fetch TerraIncognita with DomainBed's script domainbed/scripts/download.py, and put its",
        "folders at terra_incognita/{location_100,location_38,location_43,location_46}/<class>/",
    )
