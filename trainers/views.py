"""Frozen image features of a whole training set, for methods that learn nothing about images.

They are encoded once, not at every step. Exact where the training transform is the same every time.
Otherwise `TRAINER.CACHED_VIEWS` K draws K augmented views of every image once and for all, and a
step takes one of them at random.
"""

import logging
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from yacs.config import CfgNode

from dassl.data.data_manager import DatasetWrapper, build_data_loader
from dassl.data.transforms import build_transform
from trainers.cache import TensorFile, plain_repr, rng_untouched
from trainers.errors import UserError
from trainers.parallel import from_main

if TYPE_CHECKING:
    from trainers.base import PromptTrainer

log = logging.getLogger(__name__)

FIXED = {"normalize", "center_crop", "instance_norm"}  # transforms that do the same every time


class FeatureViews(Dataset):
    """Items as of DatasetWrapper, but `img` is one of K cached features (D,) of the image.

    views: (K, N, D). The choice follows torch's generator; nothing is drawn for K = 1.
    """

    def __init__(self, items: Sequence, views: Tensor):
        self.data_source, self.views = items, views

    def __len__(self) -> int:
        return len(self.data_source)

    def __getitem__(self, index: int) -> dict:
        item, number = self.data_source[index], len(self.views)
        view = int(torch.randint(number, ())) if number > 1 else 0
        return {
            "img": self.views[view, index],
            "label": item.label,
            "domain": item.domain,
            "impath": item.impath,
            "index": index,
            "classname": item.classname,
        }


def encoded_views(
    number: int,
    batches: Callable[[], Iterable[Tensor]],
    seed: int,
    description: dict,
    folder: str | None,
    say: Callable[[str], None] = log.info,
    what: str = "training images are encoded once, for all steps",
) -> Tensor:
    """Features (K, N, D) of `number` = K passes over `batches()`; what: of the images, for the log.

    batches() yields features (B, D) of all N images, in their order. Drawn under `seed` and cached
    in `folder`; the global random states stay as they were.
    """
    file, count = TensorFile(folder, [description, number, seed]), len(description["images"])

    def read_or_make() -> tuple[Tensor, bool]:
        stored = file.read(lambda tensors: tensors["views"].shape[:2] == (number, count), say)
        if stored is not None:
            return stored["views"], True
        torch.manual_seed(seed)
        views = torch.stack([torch.cat(list(batches())).cpu() for _ in range(number)])
        file.write({"views": views}, say)
        return views, False

    with rng_untouched():
        views, hit = from_main(read_or_make)
    state = file.state(hit)
    say(f"{number} view(s) of {count} {what} {state}")
    return views


def encode_training_images_once(trainer: "PromptTrainer") -> None:
    """Let the trainer train on features, if it learns nothing about images.

    Only if the features stay the same, or TRAINER.CACHED_VIEWS says how many views to draw. Raises
    UserError for CACHED_VIEWS with a method that learns visual prompts.
    """
    cfg, frozen = trainer.cfg, trainer.clip.images_stay_frozen
    number = 1 if _is_fixed(cfg) else cfg.TRAINER.CACHED_VIEWS
    if cfg.TRAINER.CACHED_VIEWS and not frozen:
        raise UserError(
            f"TRAINER.CACHED_VIEWS is {cfg.TRAINER.CACHED_VIEWS} but {cfg.TRAINER.NAME} learns "
            "visual prompts: set it to 0"
        )
    if not frozen or not number or not _reads_plain_images(trainer):
        return
    data, loaders = trainer.dm.dataset, cfg.DATALOADER
    transform = trainer.transform_of(trainer.train_loader_x, is_train=True)
    make = partial(_feature_loader, trainer, transform, number)
    trainer.train_loader_x = make(data.train_x, loaders.TRAIN_X)
    if trainer.trains_on_unlabelled:
        spec = loaders.TRAIN_X if loaders.TRAIN_U.SAME_AS_X else loaders.TRAIN_U
        trainer.train_loader_u = make(data.train_u, spec)


def encode_test_images_once(trainer: "PromptTrainer", split: str) -> None:
    """Let the trainer test on features that all runs on this data share, with TRAINER.CACHED_TESTS.

    Only if the method learns nothing about images. The features are those of a test without the
    cache, to the bit, since they are encoded in the same batches.
    """
    cfg = trainer.cfg
    if split == "train":
        return  # a loader of its own
    name = "val_loader" if split == "val" and trainer.val_loader is not None else "test_loader"
    loader = getattr(trainer, name)
    if not (cfg.TRAINER.CACHED_TESTS and trainer.clip.images_stay_frozen):
        return
    if type(getattr(loader, "dataset", None)) is not DatasetWrapper:
        return  # features already, or images of a trainer of another code
    items, spec = loader.dataset.data_source, cfg.DATALOADER.TEST
    transform = trainer.transform_of(loader, is_train=False)
    batches = partial(_encoded, trainer, items, transform)
    description = trainer.describe_images(items, transform) | {"batch": spec.BATCH_SIZE}
    what = "images to test on are encoded once, for all runs"
    folder = trainer.cache_folder("tests")
    views = encoded_views(1, batches, 0, description, folder, what=what)
    wrapper = cast(type, partial(_wrap, views))
    sampler, size = spec.SAMPLER, spec.BATCH_SIZE
    made = build_data_loader(cfg, sampler, items, size, is_train=False, dataset_wrapper=wrapper)
    setattr(trainer, name, made)


def _encoded(
    trainer: "PromptTrainer", items: Sequence, transform: Callable | None
) -> Iterable[Tensor]:
    return (features for features, _ in trainer.encoded_images(items, transform))


def _is_fixed(cfg: CfgNode) -> bool:
    """Whether the training transform draws nothing, so that one view of an image is all of them."""
    return set(cfg.INPUT.TRANSFORMS) <= FIXED and not cfg.INPUT.NO_TRANSFORM


def _reads_plain_images(trainer: "PromptTrainer") -> bool:
    """Whether loaders give single images, transformed as the configuration says.

    A trainer of another code may bring along its own data set class or transform.
    """
    cfg, loaders = trainer.cfg, (trainer.train_loader_x, trainer.train_loader_u)
    if cfg.DATALOADER.K_TRANSFORMS != 1:
        return False
    kinds = {type(getattr(loader, "dataset", None)) for loader in loaders if loader is not None}
    transform = trainer.transform_of(trainer.train_loader_x, is_train=True)
    configured = build_transform(trainer.data_cfg, is_train=True)
    return kinds <= {DatasetWrapper} and plain_repr(transform) == plain_repr(configured)


def _feature_loader(
    trainer: "PromptTrainer",
    transform: Callable | None,
    number: int,
    items: Sequence,
    spec: CfgNode,
) -> DataLoader:
    """A loader of `number` views of these images, encoded once.

    spec: the configuration's node of the loader. Views are cached on disk if CACHED_VIEWS is set.
    """
    cfg = trainer.cfg
    cached = bool(cfg.TRAINER.CACHED_VIEWS)
    views = encoded_training_views(trainer, items, number, transform, cached)
    return build_data_loader(
        cfg,
        spec.SAMPLER,
        items,
        spec.BATCH_SIZE,
        spec.get("N_DOMAIN", 0),
        spec.get("N_INS", 0),
        # upstream's loader has no such argument
        **({"drop_last": spec.DROP_LAST} if "DROP_LAST" in spec else {}),
        dataset_wrapper=cast(type, partial(_wrap, views)),
    )


def encoded_training_views(
    trainer: "PromptTrainer",
    items: Sequence,
    number: int,
    transform: Callable | None = None,
    cached: bool = False,
) -> Tensor:
    """Features (K, N, D) of `number` = K views of N images, drawn under the run's seed.

    transform: None takes that of the training images. cached: whether they are kept on disk.
    """
    cfg = trainer.cfg
    if transform is None:
        transform = trainer.transform_of(trainer.train_loader_x, is_train=True)
    batches = partial(_encoded, trainer, items, transform)
    description = trainer.describe_images(items, transform) | {
        # what the random draws depend on
        "workers": cfg.DATALOADER.NUM_WORKERS,
        "batch": cfg.DATALOADER.TEST.BATCH_SIZE,
    }
    folder = trainer.cache_folder("views") if cached else None
    return encoded_views(number, batches, max(cfg.SEED, 0), description, folder)


def _wrap(views: Tensor, cfg: CfgNode, items: Sequence, **_: object) -> FeatureViews:
    """What `build_data_loader` calls in place of DatasetWrapper."""
    return FeatureViews(items, views)
