"""What a run learned, as an object: classes of pictures, features of pictures and texts."""

import copy
import os
import os.path as osp
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from craft.images import Transform, check_normalised, check_order, is_single, items_of, refuse
from dassl import files
from dassl.data.datasets import Datum
from dassl.engine import TRAINER_REGISTRY
from dassl.errors import UserError
from dassl.evaluation import check_scores
from dassl.record import NAME as RESULTS
from dassl.record import tested_epoch
from dassl.utils import mkdir_if_missing, write_json
from dassl.utils.tools import atomic_write
from datasets.sets.in_memory import LIST
from tools import inputs, predict, trained
from tools.inputs import InputError
from tools.trained import Trained
from trainers.model import PromptedCLIP

UNREADABLE = ("raise", "skip")
FLAGS = re.compile(r"--(model-dir|load-epoch|weights|classes)\b")


@dataclass(frozen=True)
class Prediction:
    """The classes that a model sees in one picture. Iterating gives (class, probability) pairs.

    image: its path, or "picture <number>" of one in memory. top: the most probable classes with
    their probabilities, the first one first; empty for a picture that could not be read. error: why
    it could not be read, else "".
    """

    image: str
    top: list[tuple[str, float]]
    error: str = ""

    def __iter__(self) -> Iterator[tuple[str, float]]:
        return iter(self.top)

    @property
    def best(self) -> str | None:
        """The most probable class; None for a picture that could not be read."""
        return self.top[0][0] if self.top else None


@dataclass
class Saved:
    """The files of a run that `Model.save` writes: {path below the run's folder: content}."""

    results: dict
    files: dict[str, bytes] = field(default_factory=dict)


class Model:
    """A model that `load_run` or `fit` gives, ready to use.

    module: the `nn.Module` itself, images (B, 3, R, R) -> logits (B, C). transform: from a
    path or PIL image to a tensor (3, R, R), as `classify` reads it. cfg: the configuration.
    """

    def __init__(self, run: Trained, saved: Saved):
        self._run, self._saved = run, saved
        self.cfg, self.transform = run.cfg, Transform(run.cfg, run.transform)
        self._texts: tuple[PromptedCLIP, Tensor | None] | None = None
        self._others: tuple[list[str], PromptedCLIP] | None = None

    def __repr__(self) -> str:
        return (
            f"Model({self.trainer}, {len(self.classnames)} classes, "
            f"{self.cfg.MODEL.BACKBONE.NAME}, {self.device})"
        )

    @property
    def module(self) -> PromptedCLIP:
        return self._run.clip

    @property
    def classnames(self) -> list[str]:
        """In the order of the logits."""
        return list(self.module.classnames)

    @property
    def trainer(self) -> str:
        """Name of the trainer, e.g. CraftCoOp."""
        return self.cfg.TRAINER.NAME

    @property
    def device(self) -> torch.device:
        return self.module.device

    @property
    def size(self) -> int:
        """R, the pixels on each side of an image that CLIP reads."""
        return self.module.backbone.input_resolution

    def to(self, device: str | torch.device) -> "Model":
        """Move the model; returns it.

        Raises UserError for a device that is not there, and for a model in fp16 off a GPU.
        """
        target = checked_device(device)
        if target == self.device:
            return self
        if target.type != "cuda" and self.module.backbone.image.dtype == torch.half:
            raise UserError(
                "this model computes in fp16, which needs a CUDA device: load the run again with "
                f"load_run(..., device='{target}')"
            )
        self.module.backbone.to(target)
        # Texts that a method encoded before lie where the model was: it is built once more.
        self._run.clip = self.module.for_classes(self.module.classnames)
        self._texts = self._others = None
        return self

    def classify(
        self,
        images: Any,
        top: int = 5,
        classes: Sequence[str] | None = None,
        unreadable: str = "raise",
    ) -> Any:
        """The `top` most probable classes: a Prediction of one picture, a list of those of several.

        images: a path, PIL image or tensor (3, R, R); several of these, a folder, or a tensor
        (B, 3, R, R). Tensors are what `transform` gives. classes: names instead of those of the
        training. unreadable: "skip" returns a Prediction with its `error` for a picture that cannot
        be read, "raise" stops there. Raises UserError, naming the picture, class or argument.
        """
        if unreadable not in UNREADABLE:
            raise UserError(f"unreadable is '{unreadable}': choose {' or '.join(UNREADABLE)}")
        top = _from_one(top, "top")
        clip = self._for(classes)
        trained.check_several(clip.classnames, " in classes")
        items = self._items(images)
        run = Trained(self.cfg, clip, self._run.transform)
        rows = predict.probabilities(run, items, self._texts_of(clip))
        found = []
        for item, row in zip(items, rows, strict=True):
            if isinstance(row, str):
                if unreadable == "raise":
                    refuse(row, ", or set unreadable to 'skip'")
                found.append(Prediction(item.impath, [], row))
                continue
            best = predict.most_probable(row, clip.classnames, top)
            pairs = [(one["class"], one["probability"]) for one in best]
            found.append(Prediction(item.impath, pairs))
        return found[0] if is_single(images) else found

    def text_features(self, classes: Sequence[str] | None = None) -> Tensor:
        """Unit-norm features (C, D), float32, of the class texts with what was learned.

        classes: names instead of those of the training. Raises UserError for a method whose texts
        depend on the image, and for classes that do not fit.
        """
        texts = self._texts_of(self._for(classes))
        if texts is None:
            raise UserError(
                f"the class texts of {self.trainer} depend on the image: use classify, or the "
                "features of a model of another trainer"
            )
        return texts.float().clone()

    def image_features(self, images: Any) -> Tensor:
        """Unit-norm features (B, D), float32, of pictures as `classify` takes them; B is 1 for one.

        Raises UserError, naming the picture, for one that cannot be read.
        """
        rows = []
        for row in predict.of_images(self._run, self._items(images), self._encode):
            rows.append(refuse(row) if isinstance(row, str) else row)
        features = torch.stack(rows)
        check_scores(features)
        return features.to(self.device)

    def save(self, folder: str | os.PathLike) -> str:
        """Write a run folder that `load_run` and the tools read; returns its path.

        It holds results.json and the checkpoint. The folder must be new or empty: it is written
        whole or not at all. Raises UserError if it cannot be written.
        """
        path = files.absolute(os.fspath(folder))
        with as_user_errors(), inputs.new_folder(path) as part:
            for name, content in self._saved.files.items():
                mkdir_if_missing(osp.dirname(osp.join(part, name)))
                atomic_write(osp.join(part, name), content)
            config = self._saved.results["config"] | {"OUTPUT_DIR": path}
            write_json(self._saved.results | {"config": config}, osp.join(part, RESULTS))
        return path

    def _items(self, images: Any) -> list[Datum]:
        items = items_of(images, self.size)
        check_normalised(items, self.cfg, stacklevel=4)  # the caller of the public method
        return items

    @torch.no_grad()
    def _encode(self, images: Tensor) -> Tensor:
        with self.module.autocast():
            return self.module.image_features(images).float()

    def _for(self, classes: Sequence[str] | None) -> PromptedCLIP:
        """The model of these classes; the last other ones are kept."""
        if classes is None:
            return self.module
        names = checked_names(classes)
        if self._others is None or self._others[0] != names:
            self._others = names, self.module.for_classes(names)
        return self._others[1]

    def _texts_of(self, clip: PromptedCLIP) -> Tensor | None:
        """(C, D), encoded once for the classes that were asked for last."""
        if self._texts is None or self._texts[0] is not clip:
            texts = clip.encode_class_texts()
            if texts is not None:
                check_scores(texts)
            self._texts = clip, texts
        return self._texts[1]


def load_run(
    model_dir: str | os.PathLike,
    classes: Sequence[str] | None = None,
    load_epoch: int | None = None,
    weights: str = "",
    device: str | torch.device | None = None,
) -> Model:
    """The model of the finished run in the folder `model_dir`; the data set is not needed.

    classes: names instead of those of the training. load_epoch: an epoch's checkpoint instead of
    the model that the run tested. weights: the run's CLIP, if it is no longer where the run found
    it. device: without it the GPU, if there is one and the run used one. Raises UserError for a
    folder, classes or weights that do not fit.
    """
    folder = osp.expanduser(os.fspath(model_dir))
    names = None if classes is None else checked_names(classes)
    load_epoch = None if load_epoch is None else _from_one(load_epoch, "load_epoch")
    target = None if device is None else checked_device(device)
    cuda = None if target is None else target.type == "cuda"
    try:
        run = trained.load(folder, names, load_epoch, weights, "leave out classes", cuda)
        saved = saved_files(folder, trained.read(folder)[0], run, load_epoch)
    except UserError as error:  # which names arguments of the tools, as they are called here, too
        raise UserError(FLAGS.sub(lambda flag: flag[1].replace("-", "_"), str(error))) from None
    model = Model(run, saved)
    return model if target is None else model.to(target)


@contextmanager
def as_user_errors() -> Iterator[None]:
    """One kind of error for callers: the tools have another one for bad names and folders."""
    try:
        yield
    except InputError as error:
        raise UserError(str(error)) from None


def saved_files(folder: str, results: dict, run: Trained, load_epoch: int | None = None) -> Saved:
    """What `Model.save` writes of the run in `folder`, with the results of its results.json."""
    names = list(run.clip.classnames)
    config = copy.deepcopy(results["config"])
    config["MODEL"]["BACKBONE"]["NAME"] = run.cfg.MODEL.BACKBONE.NAME  # where it was found now
    found = Saved(results | {"complete": True, "config": config})
    if names != [name.replace("_", " ") for name in results.get("classnames") or ()]:
        found.results |= {"classnames": names, "metrics": {}}  # these are of other classes
    if run.clip.prompts is not None:
        home, epoch = trained.checkpoint_of(folder, results, load_epoch)
        kind = TRAINER_REGISTRY.get(run.cfg.TRAINER.NAME)
        name = osp.join(kind.model_name, files.checkpoint_name(epoch))
        with open(osp.join(home, name), "rb") as file:
            found.files[name] = file.read()
        if epoch != tested_epoch(results):
            found.results["metrics"] = {}  # these are of another epoch
        if results.get("loaded") or epoch != tested_epoch(results):
            # As the record of a test tells its model's folder; here it is the same one.
            found.results["loaded"] = {"model_dir": ".", "epoch": epoch}
            content = files.checksum_of(kind.model_name, found.files[name])
            found.results["model_sha256"] = content
        elif found.results.get("began_from"):  # of another folder; the saved model needs it no more
            found.results |= {"began_from": None, "model_sha256": None}
    if osp.isfile(osp.join(folder, LIST)):
        with open(osp.join(folder, LIST), "rb") as file:
            found.files[LIST] = file.read()
    return found


def checked_names(classes: Sequence[str], where: str = "classes") -> list[str]:
    """The names of classes. Raises UserError, which begins with `where`, for what can be none."""
    check_order(classes, f"{where} is", "a list of names, in the order of their numbers")
    several = isinstance(classes, Iterable) and not isinstance(classes, str)
    names = list(classes) if several else []  # once: a generator has no second time
    if not several or not all(isinstance(name, str) for name in names):
        raise UserError(f"{where} is {classes!r}: give a list of names")
    trained.check_names(names, where)
    return names


def _from_one(number: Any, name: str) -> int:
    """The number. Raises UserError, which begins with `name`, unless it is a whole one from 1."""
    whole = int(number) if isinstance(number, np.integer) else number
    if type(whole) is not int or whole < 1:
        raise UserError(f"{name} is {number!r}: give a whole number from 1")
    return whole


def checked_device(device: str | torch.device) -> torch.device:
    """The device. Raises UserError if torch knows none of that name, or finds none."""
    try:
        target = torch.device(device)
    except (RuntimeError, TypeError):
        raise UserError(f"device is '{device}': choose cpu, cuda or cuda:0") from None
    if target.type not in ("cpu", "cuda"):
        raise UserError(f"device is '{device}': choose cpu, cuda or cuda:0")
    if target.type == "cuda" and (target.index or 0) >= torch.cuda.device_count():
        raise UserError(f"device is '{device}', but torch finds no such CUDA device: choose cpu")
    return target
