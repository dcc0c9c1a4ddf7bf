"""Icons of food, nature and living things, by many artists."""

from dassl.data.datasets import DATASET_REGISTRY
from datasets.suite import SuiteDataset


@DATASET_REGISTRY.register()
class Living(SuiteDataset):
    """Names of artists and licences are in assets/suite/artists.csv."""
