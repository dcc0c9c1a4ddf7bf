from dassl.utils import Registry

DATASET_REGISTRY = Registry("DATASET")


def build_dataset(cfg):
    """The data set named DATASET.NAME. Raises UserError for an unknown name."""
    return DATASET_REGISTRY.get(cfg.DATASET.NAME)(cfg)
