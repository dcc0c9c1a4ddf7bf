"""Streamline Ultimate (CC BY 4.0) in its authors' categories."""

from dassl.data.datasets import DATASET_REGISTRY
from datasets.suite import SuiteDataset


@DATASET_REGISTRY.register()
class Ultimate(SuiteDataset):
    """Drawings as lines, filled and in colour."""
