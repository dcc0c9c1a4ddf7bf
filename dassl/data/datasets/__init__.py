from dassl.data.datasets.base_dataset import DatasetBase, Datum, Picture
from dassl.data.datasets.build import DATASET_REGISTRY, build_dataset

__all__ = ["DATASET_REGISTRY", "DatasetBase", "Datum", "Picture", "build_dataset"]
