"""Loaders of a run: training (labelled and unlabelled), validation, test."""

import logging
import random
import signal
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms import Compose, Normalize, ToTensor

from dassl.data.datasets import build_dataset
from dassl.data.samplers import build_sampler
from dassl.data.transforms import INTERPOLATION_MODES, build_transform
from dassl.data.transforms.transforms import Resize
from dassl.utils import UserError, check_availability, read_image
from dassl.utils.tools import PICTURE_NOTES, TRANSPARENCY

log = logging.getLogger(__name__)

_said: set[str] = set()  # kinds of PICTURE_NOTES, since the last DataManager was made


def _seed_worker(_: int) -> None:
    """Python's and numpy's generators of a worker follow torch's, which differs between workers and
    epochs.

    Ctrl-C is the main process's business, which ends its workers.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    seed = torch.initial_seed() % 2**32
    random.seed(seed)
    np.random.seed(seed)


def build_data_loader(
    cfg,
    sampler_type: str = "SequentialSampler",
    data_source: Sequence | None = None,
    batch_size: int = 64,
    n_domain: int = 0,
    n_ins: int = 2,
    tfm=None,
    is_train: bool = True,
    dataset_wrapper: type | None = None,
    drop_last: bool | None = None,
) -> DataLoader:
    """Return a loader over `data_source`.

    drop_last: drop an incomplete last batch; None takes DATALOADER.TRAIN_X.DROP_LAST in training.
    As published, the only batch is kept in any case. Raises UserError without anything to load.
    """
    if drop_last is None:
        drop_last = is_train and cfg.DATALOADER.TRAIN_X.get("DROP_LAST", False)
    drop_last = drop_last and len(data_source) >= batch_size
    sampler = build_sampler(
        sampler_type,
        cfg=cfg,
        data_source=data_source,
        batch_size=batch_size,
        n_domain=n_domain,
        n_ins=n_ins,
    )
    workers = cfg.DATALOADER.NUM_WORKERS
    persistent = cfg.DATALOADER.get("PERSISTENT_WORKERS", False)
    # Training workers start anew each epoch by default: their seeds then follow from the main
    # process's state, which a resumed run restores. Evaluation has a generator of its own, so that
    # the number of evaluations changes nothing.
    loader = Loader(
        (dataset_wrapper or DatasetWrapper)(cfg, data_source, transform=tfm, is_train=is_train),
        batch_size=batch_size,
        sampler=sampler,
        num_workers=workers,
        drop_last=drop_last,
        pin_memory=torch.cuda.is_available() and cfg.USE_CUDA,
        persistent_workers=workers > 0 and (not is_train or persistent),
        worker_init_fn=_seed_worker,
        generator=None if is_train else torch.Generator(),
    )
    if len(loader) == 0:
        raise UserError(
            f"{len(data_source)} image(s) do not fill a batch of {batch_size}: reduce the batch "
            "size, or set DROP_LAST False (DATALOADER.TRAIN_X or TRAIN_U)"
        )
    return loader


class Loader(DataLoader):
    """Lets the main process say what its workers noticed about pictures.

    Each worker would say it anew, and perhaps not in the log.
    """

    def __iter__(self) -> Iterator:
        return map(self._after_notes, super().__iter__())

    def rest(self) -> None:
        """End persistent workers; the next iteration starts others.

        Left to the garbage collector, together with what refers to the loader, they hold it up for
        5 seconds: it closes the queue through which they would be told to end.
        """
        self._iterator = None

    def _after_notes(self, batch):
        if isinstance(self.dataset, DatasetWrapper):
            self.dataset.say_notes()
        return batch


class DataManager:
    """Builds the data set named in the config and its loaders; prints a summary.

    `custom_tfm_train` and `custom_tfm_test` replace the transforms, `dataset_wrapper` the class
    DatasetWrapper.
    """

    def __init__(
        self,
        cfg,
        custom_tfm_train: Callable | None = None,
        custom_tfm_test: Callable | None = None,
        dataset_wrapper: type | None = None,
    ):
        _said.clear()
        dataset = build_dataset(cfg)
        if not dataset.train_x:
            raise UserError(
                f"data set {cfg.DATASET.NAME} has no training images: add some to its training part"
            )
        self.tfm_train = (
            custom_tfm_train
            if custom_tfm_train is not None
            else build_transform(cfg, is_train=True)
        )
        self.tfm_test = (
            custom_tfm_test if custom_tfm_test is not None else build_transform(cfg, is_train=False)
        )

        def loader(items: Sequence | None, node, train: bool):
            if not items:
                return None
            return build_data_loader(
                cfg,
                node.SAMPLER,
                items,
                node.BATCH_SIZE,
                node.get("N_DOMAIN", 0),
                node.get("N_INS", 0),
                self.tfm_train if train else self.tfm_test,
                train,
                dataset_wrapper,
                node.get("DROP_LAST", False),
            )

        spec = cfg.DATALOADER
        if (
            spec.TRAIN_X.SAMPLER == "BalancedGroupSampler"
            and len({item.domain for item in dataset.train_x}) < 2
        ):
            raise UserError(
                "DATALOADER.TRAIN_X.SAMPLER is BalancedGroupSampler, but all training images of "
                f"{cfg.DATASET.NAME} are of one domain, so there are no groups: set it to "
                "RandomSampler, or choose a data set with groups, such as Waterbirds, or a table "
                "with a column domain"
            )
        self.train_loader_x = loader(dataset.train_x, spec.TRAIN_X, True)
        self.train_loader_u = loader(
            dataset.train_u, spec.TRAIN_X if spec.TRAIN_U.SAME_AS_X else spec.TRAIN_U, True
        )
        self.val_loader = loader(dataset.val, spec.TEST, False)
        self.test_loader = loader(dataset.test, spec.TEST, False)
        self.dataset = dataset
        self.num_classes, self.lab2cname = dataset.num_classes, dataset.lab2cname
        self.num_source_domains = len(cfg.DATASET.SOURCE_DOMAINS)
        if cfg.VERBOSE:
            self.show_dataset_summary(cfg)

    def show_dataset_summary(self, cfg) -> None:
        """Print a table of sizes."""
        rows = [("Dataset", cfg.DATASET.NAME)]
        for title, domains in (
            ("Source", cfg.DATASET.SOURCE_DOMAINS),
            ("Target", cfg.DATASET.TARGET_DOMAINS),
        ):
            if domains:
                rows.append((title, ", ".join(domains)))
        rows.append(("# classes", f"{self.num_classes:,}"))
        if words := getattr(self.dataset, "picks_in_words", ""):
            rows.append(("few shots", words))
        rows += [
            (f"# {name}", f"{len(items):,}")
            for name, items in (
                ("train_x", self.dataset.train_x),
                ("train_u", self.dataset.train_u),
                ("val", self.dataset.val),
                ("test", self.dataset.test),
            )
            if items
        ]
        width = max(len(name) for name, _ in rows)
        rule = "-" * (width + 2 + max(len(value) for _, value in rows))
        log.info("\n".join([rule, *(f"{name:<{width}}  {value}" for name, value in rows), rule]))


class DatasetWrapper(Dataset):
    """Items are dicts: img (3, H, W), label, domain, impath, index, classname.

    An item that is a `Picture` brings its image along; one with a tensor is not transformed.

    With several transforms (a list) img, img2, ...; with K_TRANSFORMS > 1 each of them is, in
    training, a list of that many tensors. With RETURN_IMG0 the untouched image too. Raises
    UserError naming an image that cannot be read or is too small for its transform.
    """

    def __init__(
        self,
        cfg,
        data_source: Sequence,
        transform: Callable | Sequence[Callable] | None = None,
        is_train: bool = False,
    ):
        self.cfg, self.data_source, self.transform, self.is_train = (
            cfg,
            data_source,
            transform,
            is_train,
        )
        self.k_tfm = cfg.DATALOADER.K_TRANSFORMS if is_train else 1
        self.return_img0 = cfg.DATALOADER.RETURN_IMG0
        if self.k_tfm > 1 and transform is None:
            raise ValueError("K_TRANSFORMS > 1 needs a transform")
        self.draft = tuple(cfg.INPUT.SIZE) if cfg.INPUT.get("DRAFT", False) else None
        self.transparency = cfg.INPUT.get("TRANSPARENCY", "drop")
        self.upright = cfg.INPUT.get("UPRIGHT", False)
        check_availability(self.transparency, list(TRANSPARENCY), "INPUT.TRANSPARENCY")
        # The index of the first image of each kind of PICTURE_NOTES, -1 without. Workers write it
        # for the main process to read.
        self._noticed = torch.full((len(PICTURE_NOTES),), -1)
        if cfg.DATALOADER.NUM_WORKERS > 0:
            self._noticed.share_memory_()
        mode = INTERPOLATION_MODES[cfg.INPUT.INTERPOLATION]
        plain = [Resize(tuple(cfg.INPUT.SIZE), interpolation=mode), ToTensor()]
        if "normalize" in cfg.INPUT.TRANSFORMS:
            plain.append(Normalize(cfg.INPUT.PIXEL_MEAN, cfg.INPUT.PIXEL_STD))
        self.to_tensor = Compose(plain)

    def __len__(self) -> int:
        return len(self.data_source)

    def __getitem__(self, index: int) -> dict:
        item = self.data_source[index]
        output = {
            "label": item.label,
            "domain": item.domain,
            "impath": item.impath,
            "index": index,
            "classname": item.classname,
        }

        def notice(kind: str) -> None:
            number = list(PICTURE_NOTES).index(kind)
            if self._noticed[number] < 0:
                self._noticed[number] = index

        held = getattr(item, "picture", None)
        if isinstance(held, torch.Tensor):
            output["img"] = self._transformed(lambda image: image, held)
            return output | ({"img0": held} if self.return_img0 else {})
        image = read_image(item.impath, self.draft, self.transparency, self.upright, notice, held)
        try:
            if self.transform is None:
                output["img"] = image
            else:
                several = isinstance(self.transform, (list, tuple))
                given = self.transform if several else [self.transform]
                for count, transform in enumerate(given, 1):
                    key = "img" if count == 1 else f"img{count}"
                    output[key] = self._transformed(transform, image)
        except UserError as error:
            raise UserError(f"image '{item.impath}' does not fit: {error}") from None
        if self.return_img0:
            output["img0"] = self.to_tensor(image)
        return output

    def _transformed(self, transform: Callable, image) -> torch.Tensor | list[torch.Tensor]:
        views = [transform(image) for _ in range(self.k_tfm)]
        return views[0] if len(views) == 1 else views

    def say_notes(self) -> None:
        """Log the notes about pictures, each kind once for all loaders of a run."""
        for (kind, note), index in zip(PICTURE_NOTES.items(), self._noticed.tolist(), strict=True):
            if index >= 0 and kind not in _said:
                _said.add(kind)
                self.say(note.format(self.data_source[index].impath))

    say = staticmethod(print)
