"""Icons of tools and instruments, by many artists."""

from dassl.data.datasets import DATASET_REGISTRY
from datasets.suite import SuiteDataset


@DATASET_REGISTRY.register()
class Tools(SuiteDataset):
    """Names of artists and licences are in assets/suite/artists.csv."""
