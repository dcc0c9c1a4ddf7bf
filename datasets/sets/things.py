"""Icons of the things that most artists draw: bell, padlock, umbrella."""

from dassl.data.datasets import DATASET_REGISTRY
from datasets.suite import SuiteDataset


@DATASET_REGISTRY.register()
class Things(SuiteDataset):
    """Names of artists and licences are in assets/suite/artists.csv."""
