"""EuroSAT, RGB (Helber et al., JSTARS 2019)."""

from dassl.data.datasets import DATASET_REGISTRY
from datasets.base import CoOpDataset, split_by_class
from datasets.download import Source
from datasets.sources import copy_of, split_list


@DATASET_REGISTRY.register()
class EuroSAT(CoOpDataset):
    folder = "eurosat"
    image_folder = "2750"
    split_file = "split_zhou_EuroSAT.json"
    split_md5 = "989e1eca757dec43cfcee28faf6b28fc"
    templates = ("a centered satellite photo of {}.",)
    corrections = {
        "AnnualCrop": "Annual Crop Land",
        "HerbaceousVegetation": "Herbaceous Vegetation Land",
        "Highway": "Highway or Road",
        "Industrial": "Industrial Buildings",
        "Pasture": "Pasture Land",
        "PermanentCrop": "Permanent Crop Land",
        "Residential": "Residential Buildings",
        "SeaLake": "Sea or Lake",
    }
    classes, images = 10, (13500, 5400, 8100)
    test_halves = (4200, 3900)
    sources = (
        Source(
            "EuroSAT.zip",
            (
                "https://huggingface.co/datasets/torchgeo/eurosat/resolve/"
                "c877bcd43f099cd0196738f714544e355477f3fd/EuroSAT.zip",
                "http://madm.dfki.de/files/sentinel/EuroSAT.zip",
            ),
            md5="c8fa014336c82ac7804f0398fcb19387",
            unpack={"2750": "2750"},
        ),
        split_list(split_file, "1Ip7yaCWFi0eaOFUGga0lUdVi_DDQth1o", split_md5),
    )
    mirror = copy_of("eurosat")

    def partition(self):
        return split_by_class(self.class_folders())
