"""Solar (CC BY 4.0) in its authors' categories."""

from dassl.data.datasets import DATASET_REGISTRY
from datasets.suite import SuiteDataset


@DATASET_REGISTRY.register()
class Solar(SuiteDataset):
    """Each drawing as a line, filled, and in two tones."""
