"""Material Design Icons (Apache-2.0) in their community's own categories."""

from dassl.data.datasets import DATASET_REGISTRY
from datasets.suite import SuiteDataset


@DATASET_REGISTRY.register()
class Material(SuiteDataset):
    """Glyphs by one set of artists."""
