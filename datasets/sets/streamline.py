"""Streamline's sets of a thousand icons (CC BY 4.0) in their authors' categories."""

from dassl.data.datasets import DATASET_REGISTRY
from datasets.suite import SuiteDataset


@DATASET_REGISTRY.register()
class Streamline(SuiteDataset):
    """Four styles: regular, flex, plump, sharp."""
