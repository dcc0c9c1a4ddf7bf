"""Office-31 (Saenko et al., ECCV 2010): from one domain to another."""

from dassl.data.datasets import DATASET_REGISTRY
from datasets.shifts import FolderDomains


@DATASET_REGISTRY.register()
class Office31(FolderDomains):
    """The target's images, all of which are tested, are those without labels, as published."""

    folder = "office31"
    domain_names = ("amazon", "dslr", "webcam")
    domain_images = {"amazon": 2817, "dslr": 498, "webcam": 795}
    adaptation = True
    classes = 31
    manual = (
        "fetch Office-31 from people.eecs.berkeley.edu/~jhoffman/domainadapt, and put the folders",
        "of the classes, without the folder images/ above them, at",
        "office31/{amazon,dslr,webcam}/<class>/",
    )
