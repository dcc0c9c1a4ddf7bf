"""Training on pictures that a program holds, by the trainers and the engine of train.py."""

import logging
import os.path as osp
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from yacs.config import CfgNode

import datasets
import trainers
from craft.images import check_normalised, check_order, items_of
from craft.model import Model, as_user_errors, checked_device, checked_names, saved_files
from dassl.config import get_cfg_default, merge_from_dict, merge_from_list
from dassl.data.datasets import Datum, Picture
from dassl.data.transforms import build_transform
from dassl.engine import TRAINER_REGISTRY, build_trainer
from dassl.errors import UserError
from dassl.identity import file_hash
from dassl.messages import LOGGERS
from dassl.utils import deterministic, read_image, read_json, set_random_seed, write_json
from dassl.utils.logger import at_level
from datasets.files import text_for_clip
from datasets.sets.in_memory import LIST, holding
from tools import configs
from tools.trained import Trained, check_several
from trainers.backbone import load_backbone
from trainers.base import PromptTrainer, leave_half
from trainers.cache import rng_untouched

log = logging.getLogger(__name__)

# Keys that `fit` sets: by an argument, or as it needs them.
ARGUMENTS = {
    "TRAINER.NAME": "trainer",
    "MODEL.BACKBONE.NAME": "backbone",
    "OPTIM.MAX_EPOCH": "epochs",
    "SEED": "seed",
    "DATASET.TEMPLATE": "template",
    "USE_CUDA": "device",
}
FIXED = {
    "DATASET.NAME": "InMemory",
    "TEST.NO_TEST": True,  # there are no test images
    "TRAIN.CHECKPOINT_FREQ": 0,  # the last epoch's is enough
}
NO_OPTIONS = (*FIXED, "OUTPUT_DIR", "RESUME", "EVAL_ONLY", "INPUT.SIZE")
OF_TENSORS = ("normalize", "instance_norm")  # what tensors had, and later pictures get
IDLE = ("DATASET.", "TEST.")  # groups that say nothing about pictures in memory, all to train on


def fit(
    images: Any,
    labels: Sequence[int] | Sequence[str] | Tensor,
    classnames: Sequence[str],
    trainer: str = "CraftCoOp",
    backbone: str = "ViT-B/16",
    epochs: int | None = None,
    *,
    config: str = "",
    options: Mapping[str, Any] | None = None,
    template: str = "",
    unlabelled: Any = None,
    seed: int = 1,
    device: str | torch.device | None = None,
    verbose: bool = True,
) -> Model:
    """Train on pictures in memory or in files; returns the model of the last epoch.

    images: paths, PIL images, tensors (3, R, R), or one tensor (N, 3, R, R); tensors are taken as
    they are, pictures are augmented as the config says. labels: N numbers from 0, or names of
    `classnames`. trainer, backbone: as --trainer and --backbone of train.py. config: a name in
    configs/trainers/<trainer>, as for tools.run; without it the one that the scripts take for this
    backbone, or for configs/defaults.yaml's if the backbone is a file. epochs: instead of the
    config's. options: {"OPTIM.LR": 0.002, ...} or {"OPTIM": {"LR": 0.002}}, which win over the
    config. template: text with {} for the class name. unlabelled: pictures of a target domain, for
    CRAFT's third term. device: without it the GPU, if there is one; PREC fp16 becomes fp32
    elsewhere. verbose: False prints warnings only.

    The same seed gives the same model; the random states of the calling program stay as they are.
    Raises UserError for arguments that do not fit, naming the argument, picture, class or key.
    """
    names = checked_names(classnames, "classnames")
    check_several(names, " in classnames")
    target = None if device is None else checked_device(device)
    with as_user_errors(), at_level(LOGGERS, logging.INFO if verbose else logging.WARNING):
        cfg = _settings(trainer, backbone, config, epochs, options, template, seed)
        cuda = torch.cuda.is_available() if target is None else target.type == "cuda"
        _set_precision(cfg, cuda)
        train = _labelled(items_of(images, cfg.INPUT.SIZE[0], folders=False), labels, names)
        others = [] if unlabelled is None else items_of(unlabelled, cfg.INPUT.SIZE[0], unread=False)
        if all(_is_tensor(item) for item in (*train, *others)):
            cfg.INPUT.TRANSFORMS = [n for n in cfg.INPUT.TRANSFORMS if n in OF_TENSORS]
        with tempfile.TemporaryDirectory(prefix="craft-") as folder:
            return _trained(cfg, folder, train, others, target)


def _trained(
    cfg: CfgNode,
    folder: str,
    train: Sequence[Datum],
    unlabelled: Sequence[Datum],
    target: torch.device | None,
) -> Model:
    """Run the engine in `folder`, as train.py does in its output folder."""
    cfg.OUTPUT_DIR = folder
    cfg.freeze()
    parts = {"train_x": train} | ({"train_u": unlabelled} if unlabelled else {})
    lines = {part: list(map(_line, items)) for part, items in parts.items()}
    _check_one_class(lines["train_x"])
    write_json(lines, osp.join(folder, LIST))
    with rng_untouched(), deterministic("give the device cpu"), holding(**parts):
        set_random_seed(cfg.SEED)
        engine = build_trainer(cfg)
        engine.keeps_output = False
        if not engine.get_model_names():
            raise UserError(f"{cfg.TRAINER.NAME} learns nothing: choose another trainer")
        seen = engine.data_cfg  # its CLIP may ask for another mean, deviation or interpolation
        for items in parts.values():
            check_normalised(items, seen, stacklevel=4)  # the caller of `fit`
        engine.train()
    run = Trained(seen, engine.clip.eval(), build_transform(seen, is_train=False))
    model = Model(run, saved_files(folder, read_json(osp.join(folder, "results.json")), run))
    return model if target is None else model.to(target)


# Settings


def _settings(
    trainer: str,
    backbone: str,
    config: str,
    epochs: int | None,
    options: Mapping[str, Any] | None,
    template: str,
    seed: int,
) -> CfgNode:
    """The configuration: defaults < config files < arguments and `options`."""
    kind = TRAINER_REGISTRY.get(trainer)
    if not isinstance(kind, type) or not issubclass(kind, PromptTrainer):
        raise UserError(f"the trainer {trainer} learns no prompts: choose a prompt learner")
    if type(seed) is not int or seed < 0:
        raise UserError(f"seed is {seed!r}: give a whole number from 0")
    chosen = {} if options is None else _flat(options)
    for key in chosen:
        if key in ARGUMENTS:
            raise UserError(f"options has {key}: give it as the argument {ARGUMENTS[key]}")
        if key in NO_OPTIONS:
            raise UserError(f"options has {key}, which fit sets itself: take it out")
        if key.startswith(IDLE):
            raise UserError(
                f"options has {key}, which changes nothing with pictures in memory: take it out"
            )
    cfg = get_cfg_default()
    trainers.extend_cfg(cfg)
    datasets.extend_cfg(cfg)
    known = _of_base(backbone)
    name = config or configs.default("", trainer, known)
    paths = configs.files(trainer, name)
    merge_from_dict(cfg, configs.merged(paths), f" (in '{paths[0]}')")
    given = {"SEED": seed, "MODEL.BACKBONE.NAME": backbone, "TRAINER.NAME": trainer}
    given |= {"DATALOADER.NUM_WORKERS": 0, "DATASET.TEMPLATE": template} | FIXED
    given |= {} if epochs is None else {"OPTIM.MAX_EPOCH": epochs}
    for key, value in (given | chosen).items():
        merge_from_list(cfg, [key, cast(str, value)])  # values of any type are taken, too
    cfg.SELECTION = get_cfg_default().SELECTION  # it was made on other pictures
    if not (known and configs.backbone_of(paths[0]) == known):
        cfg.INPUT.SIZE = (_resolution(cfg),) * 2
    return cfg


def _flat(options: Mapping[str, Any]) -> dict[str, Any]:
    """{"KEY.KEY": value} of options whose groups are nested or written with dots.

    Raises UserError for what is no dict, a key that is no text, and a key that is there twice.
    """
    if not isinstance(options, Mapping):
        raise UserError(
            f"options is {options!r}: give a dict of keys and values, such as {{'OPTIM.LR': 0.002}}"
        )
    found: dict[str, Any] = {}
    for key, value in _leaves(options, ""):
        if key in found:
            raise UserError(
                f"options has {key} twice, with dots and in a nested dict: give it once"
            )
        found[key] = value
    return found


def _leaves(options: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, Any]]:
    for name, value in options.items():
        if not isinstance(name, str):
            below = f" under {prefix[:-1]}" if prefix else ""
            raise UserError(
                f"options has the key {name!r}{below}, which is no text: write keys as 'OPTIM.LR'"
            )
        # An empty dict sets nothing, but the key that it is given to is checked as any other.
        if isinstance(value, Mapping) and value:
            yield from _leaves(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def _of_base(backbone: str) -> str:
    """The file of configs/base for a MODEL.BACKBONE.NAME, however its path is written; "" if none.

    Raises InputError for a file of configs/base that cannot be read.
    """
    path = Path(backbone).expanduser()
    for stem, name in configs.backbones().items():
        theirs = configs.ROOT / name
        if name == backbone or path.is_file() and theirs.is_file() and path.samefile(theirs):
            return stem
    return ""


def _resolution(cfg: CfgNode) -> int:
    """The pixels on each side of an image that the CLIP reads, which no config tells."""
    node = cfg.MODEL.BACKBONE
    with at_level(LOGGERS, logging.ERROR):  # the training says the same once more
        return load_backbone(node.NAME, "fp32", node.ACTIVATION).input_resolution


def _set_precision(cfg: CfgNode, cuda: bool) -> None:
    """Train on the device that there is: fp16 needs a GPU."""
    cfg.USE_CUDA = cuda
    options = cast(type[PromptTrainer], TRAINER_REGISTRY.get(cfg.TRAINER.NAME)).options
    if note := leave_half(cfg, options):
        log.warning(note)


# Pictures


def _labelled(items: Sequence[Datum], labels: Any, names: Sequence[str]) -> list[Datum]:
    """The items with their labels and class names.

    Raises UserError for labels that do not fit, and for a class without a picture.
    """
    numbers = _numbers(labels, names)
    if len(numbers) != len(items):
        raise UserError(
            f"there are {len(items)} pictures and {len(numbers)} labels: give one label for each"
        )
    if lacking := sorted(set(range(len(names))) - set(numbers)):
        raise UserError(
            f"class '{names[lacking[0]]}' of classnames has no picture: add one, or leave the "
            "class out (classify takes any classes)"
        )
    return [_with(item, label, names[label]) for item, label in zip(items, numbers, strict=True)]


def _with(item: Datum, label: int, name: str) -> Datum:
    if isinstance(item, Picture):
        return Picture(item.impath, label, classname=name, picture=item.picture)
    return Datum(item.impath, label, classname=name)


def _numbers(labels: Any, names: Sequence[str]) -> list[int]:
    """Labels as numbers. Raises UserError for one that is neither such a number nor a name."""
    if isinstance(labels, (Tensor, np.ndarray)):
        labels = labels.tolist()
    check_order(labels, "labels is", "a list with a label for each picture")
    if not isinstance(labels, Iterable) or isinstance(labels, str):
        raise UserError(f"labels is {labels!r}: give a list with a label for each picture")
    known = {text_for_clip(name): number for number, name in enumerate(names)}
    numbers = []
    for place, label in enumerate(labels):
        number = known.get(text_for_clip(label)) if isinstance(label, str) else label
        number = int(number) if isinstance(number, np.integer) else number
        if type(number) is not int or not 0 <= number < len(names):
            raise UserError(
                f"label {place} is {label!r}: give a whole number from 0 to {len(names) - 1}, or a "
                "name of classnames"
            )
        numbers.append(number)
    return numbers


def _line(item: Datum) -> list:
    """What decides about a picture's part in a training: its name, label, class and content.

    Raises UserError for a PIL image that cannot be decoded.
    """
    if not isinstance(item, Picture):
        return [item.impath, item.label, item.classname, file_hash(item.impath)]
    if isinstance(item.picture, Image.Image):
        read_image(item.impath, picture=item.picture)
    return [item.impath, item.label, item.classname, item.fingerprint]


def _check_one_class(lines: Sequence[list]) -> None:
    """Raise UserError for a picture in two classes, from lines of `_line`.

    By its content: however a path is written, and whether a program holds a picture once or twice.
    """
    first: dict[str, list] = {}
    for line in lines:
        one = first.setdefault(line[3], line)
        if one[1] != line[1]:
            same = "" if one[0] == line[0] else f" is the same picture as '{one[0]}', and"
            raise UserError(
                f"'{line[0]}'{same} has two classes, '{one[2]}' and '{line[2]}': give it one label"
            )


def _is_tensor(item: Datum) -> bool:
    return isinstance(item, Picture) and isinstance(item.picture, Tensor)
