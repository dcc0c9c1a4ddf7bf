"""A whole run in seconds: a random CLIP, a data set of coloured noise, and the configuration for
both.
"""

from pathlib import Path

import numpy as np
import torch
from PIL import Image
from tiny_clip import TINY, vit_weights

import datasets
import trainers
from dassl.config import get_cfg_default
from dassl.data.datasets import DATASET_REGISTRY, DatasetBase, Datum
from dassl.engine import build_trainer
from dassl.utils import set_random_seed

CLASSES = ("tabby_cat", "golden retriever", "red", "saxophone")
TRAIN, TEST = 3, 2  # images per class
STRUCTURES = {
    "CoOp": "COOP",
    "CoCoOp": "COCOOP",
    "VPT": "VPT",
    "IVLP": "IVLP",
    "MaPLe": "MAPLE",
    "PromptSRC": "PROMPTSRC",
}  # trainer: node
# As shipped, so that clip's own preprocessing is the run's.
PIXELS = (
    "INPUT.INTERPOLATION",
    "bicubic",
    "INPUT.PIXEL_MEAN",
    [0.48145466, 0.4578275, 0.40821073],
    "INPUT.PIXEL_STD",
    [0.26862954, 0.26130258, 0.27577711],
)


@DATASET_REGISTRY.register()
class TinyNoise(DatasetBase):
    """Noise of a colour per class; the subset "new" has the last three classes, renumbered."""

    names = CLASSES
    templates = ("a picture of a {}.", "a {}.")

    def __init__(self, cfg):
        self.dataset_dir = str(Path(cfg.DATASET.ROOT) / "noise")
        classes = self.names[1:] if cfg.DATASET.SUBSAMPLE_CLASSES == "new" else self.names
        parts = {}
        for part, number in (("train", TRAIN), ("test", TEST)):
            parts[part] = [
                Datum(impath=str(self.image(part, name, i)), label=label, classname=name)
                for label, name in enumerate(classes)
                for i in range(number)
            ]
        super().__init__(train_x=parts["train"], test=parts["test"])

    def image(self, part: str, name: str, number: int) -> Path:
        path = Path(self.dataset_dir) / f"{part}-{name}-{number}.png"
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            noise = np.random.RandomState(100 * self.names.index(name) + 10 * number + len(part))
            colour = np.random.RandomState(self.names.index(name)).randint(0, 160, 3)
            Image.fromarray((colour + noise.randint(0, 96, (40, 36, 3))).astype(np.uint8)).save(
                path
            )
        return path


PARTS = {"train": 5, "val": 2, "test": 3}  # pictures per class and domain of `write_table`
DOMAINS = ("photo", "sketch")


def write_table(home: Path, name: str = "own") -> Path:
    """A data set for DATASET.NAME CSV in `home`/data/`name`: each class has pictures of two domains
    in every part.

    The file names tell class, domain and part: <class>/<domain>-<part>-<number>.png.
    """
    folder, lines = home / "data" / name, ["path,classname,split,domain"]
    for label, classname in enumerate(CLASSES):
        for shade, domain in enumerate(DOMAINS):
            for part, number in PARTS.items():
                for i in range(number):
                    path = folder / classname / f"{domain}-{part}-{i}.png"
                    path.parent.mkdir(parents=True, exist_ok=True)
                    noise = np.random.RandomState(1000 * label + 100 * shade + 10 * i + len(part))
                    pixels = 40 * label + 50 * shade + noise.randint(0, 60, (32, 32, 3))
                    Image.fromarray(pixels.astype(np.uint8)).save(path)
                    lines.append(f"{classname}/{path.name},{classname},{part},{domain}")
    (folder / "images.csv").write_text("\n".join(lines) + "\n")
    return folder


def make_cfg(folder: Path, trainer: str, *options):
    """A frozen configuration; `options` are KEY, VALUE, ..."""
    weights = folder / "clip.pt"
    if not weights.exists():
        folder.mkdir(parents=True, exist_ok=True)
        torch.save(vit_weights(**TINY), weights)
    cfg = get_cfg_default()
    trainers.extend_cfg(cfg)
    datasets.extend_cfg(cfg)
    cfg.merge_from_list(
        [
            "SEED",
            1,
            "USE_CUDA",
            False,
            "OUTPUT_DIR",
            str(folder / "output"),
            "DATASET.ROOT",
            str(folder / "data"),
            "DATASET.NAME",
            "TinyNoise",
            "INPUT.SIZE",
            (32, 32),
            "INPUT.TRANSFORMS",
            ("random_resized_crop", "random_flip", "normalize"),
            "DATALOADER.NUM_WORKERS",
            0,
            "DATALOADER.TRAIN_X.BATCH_SIZE",
            4,
            "DATALOADER.TEST.BATCH_SIZE",
            3,
            "MODEL.BACKBONE.NAME",
            str(weights),
            "OPTIM.NAME",
            "sgd",
            "OPTIM.LR",
            0.1,
            "OPTIM.MAX_EPOCH",
            2,
            "OPTIM.LR_SCHEDULER",
            "cosine",
            "TRAIN.PRINT_FREQ",
            1,
            "TRAINER.NAME",
            trainer,
            "TRAINER.COOP.N_CTX",
            4,
            "TRAINER.COCOOP.N_CTX",
            3,
            "TRAINER.VPT.PROMPT_DEPTH_VISION",
            2,
            "TRAINER.MAPLE.PROMPT_DEPTH",
            3,
            *(
                word
                for name in ("IVLP", "PROMPTSRC")
                for tower in ("VISION", "TEXT")
                for word in (f"TRAINER.{name}.PROMPT_DEPTH_{tower}", 2)
            ),
            *(word for name in STRUCTURES.values() for word in (f"TRAINER.{name}.PREC", "fp32")),
            *options,
        ]
    )
    cfg.freeze()
    return cfg


def replaced(flags: dict[str, str], more: tuple[str, ...]) -> list[str]:
    """A command line of these flags, except those that `more`, which follows, gives itself."""
    return [word for pair in flags.items() if pair[0] not in more for word in pair] + list(more)


def make_trainer(folder: Path, trainer: str, *options):
    """A built trainer, with the random states set as train.py sets them."""
    cfg = make_cfg(folder, trainer, *options)
    set_random_seed(cfg.SEED)
    return build_trainer(cfg)


def train_one_epoch(trainer) -> None:
    """Train until the first epoch is over, as a run that was stopped there."""
    after_epoch = trainer.after_epoch

    def stopping():
        after_epoch()
        raise InterruptedError

    trainer.after_epoch = stopping
    try:
        trainer.train()
    except InterruptedError:
        return
    raise AssertionError("the training went on after its first epoch")
