"""Icons of ten sets of artists, in categories that several of them have."""

from dassl.data.datasets import DATASET_REGISTRY
from datasets.suite import SuiteDataset


@DATASET_REGISTRY.register()
class Pictograms(SuiteDataset):
    """The artists and their licences are in tools/suite/sources.py."""
