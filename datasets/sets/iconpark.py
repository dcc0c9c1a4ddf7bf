"""IconPark (Apache-2.0) in its authors' categories."""

from dassl.data.datasets import DATASET_REGISTRY
from datasets.suite import SuiteDataset


@DATASET_REGISTRY.register()
class IconPark(SuiteDataset):
    """Each drawing in two colours and filled."""
