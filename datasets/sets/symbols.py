"""Material Symbols (Apache-2.0) in Google's categories."""

from dassl.data.datasets import DATASET_REGISTRY
from datasets.suite import SuiteDataset


@DATASET_REGISTRY.register()
class Symbols(SuiteDataset):
    """Each drawing as lines and filled."""
