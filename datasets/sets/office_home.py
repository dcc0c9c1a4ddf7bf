"""Office-Home for adaptation (Venkateswara et al., CVPR 2017): from one domain to another."""

from dassl.data.datasets import DATASET_REGISTRY
from datasets.shifts import FolderDomains


@DATASET_REGISTRY.register()
class OfficeHome(FolderDomains):
    """The target's images, all of which are tested, are those without labels, as published."""

    folder = "office_home"
    domain_names = ("art", "clipart", "product", "real_world")
    domain_images = {"art": 2427, "clipart": 4365, "product": 4439, "real_world": 4357}
    adaptation = True
    classes = 65
    manual = (
        "nobody may redistribute Office-Home: fetch it from hemanthdv.org/OfficeHome-Dataset",
        "and put its four folders at office_home/{art,clipart,product,real_world}/<class>/",
    )
