"""What all prompt-learning trainers share. A method adds its learnable parameters and its own loss terms, nothing else.

One step: images -> `features` (the method's prompts in frozen encoders) -> `loss_terms` (the method's, then those of
mixins such as CRAFT, through super()) -> the sum of the terms is minimised. A mixin sees features and labels only.
"""

import copy
import html
import io
import os.path as osp
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, redirect_stdout
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dassl.data.data_manager import DatasetWrapper, build_data_loader
from dassl.data.transforms import build_transform
from dassl.engine import TrainerX
from dassl.metrics import compute_accuracy
from dassl.optim import build_lr_scheduler, build_optimizer
from dassl.utils import count_num_param, load_checkpoint, load_pretrained_weights, read_json
from trainers.backbone import PRECISIONS, as_read, load_backbone, same_as_read, unit
from trainers.cache import describe, plain_repr, rng_untouched
from trainers.errors import UserError
from trainers.parallel import average_gradients, gather
from trainers.views import FIXED, FeatureViews, encoded_views

DEFAULT_TEMPLATE = "a photo of a {}."
# Published checkpoints carry token embeddings of the class names and a copy of the frozen CLIP.
TOKEN_BUFFERS = ("token_prefix", "token_suffix")
BUFFERS = (*TOKEN_BUFFERS, "running_mean", "running_var", "num_batches_tracked")
FROZEN_PARTS = (
    "image_encoder.",
    "text_encoder.",
    "logit_scale",
    "prompt_learner.ZS_image_encoder.",
)


def filled(templates: Sequence[str], names: Sequence[str]) -> list[str]:
    """Every template filled with every name, which may have braces of its own: the first template's texts first.

    Raises UserError for a template without exactly one {}, or with other braces.
    """
    for template in templates:
        if not template.count("{}") == template.count("{") == template.count("}") == 1:
            raise UserError(
                f"the template '{template}' needs one {{}} where the class name goes, and no other braces: correct the data "
                "set's templates, or set DATASET.TEMPLATE"
            )
    return [template.replace("{}", name) for template in templates for name in names]


@dataclass
class Features:
    """Unit-norm features of a step in float32 and CLIP's inverse temperature (a scalar).

    image (B, D); text (C, D), or (B, C, D) where every image has class texts of its own.
    """

    image: Tensor
    text: Tensor
    scale: Tensor

    def logits(self) -> Tensor:
        """(B, C)."""
        if self.text.dim() == 2:
            return self.scale * self.image @ self.text.t()
        return self.scale * torch.einsum("bd,bcd->bc", self.image, self.text)

    def gathered(self) -> "Features":
        """Of the whole batch, if several processes have a share of its images each."""
        return Features(
            gather(self.image), self.text if self.text.dim() == 2 else gather(self.text), self.scale
        )

    def text_of(self, labels: Tensor) -> Tensor:
        """(B, D), the text feature of each image's own class; labels (B,)."""
        return (
            self.text[labels]
            if self.text.dim() == 2
            else self.text[torch.arange(len(labels), device=labels.device), labels]
        )


class PromptTrainer(TrainerX):
    """Parent of all methods on a frozen CLIP.

    A method sets `options` (its node under cfg.TRAINER, with the key PREC) and `model_name` (the checkpoint
    folder, as published), builds its parameters in `build_prompts`, and overrides what it prompts: `text_features`,
    `image_features`, `deep_text_prompts`, `loss_terms`.
    """

    options = ""
    model_name = "prompt_learner"

    # What a method overrides

    def build_prompts(self) -> nn.Module:
        """The learnable parameters, all that a checkpoint holds; their names are the published ones."""
        raise NotImplementedError

    def text_features(self) -> Tensor:
        """Unit-norm features (C, D) of the class texts."""
        raise NotImplementedError

    def image_features(self, images: Tensor) -> Tensor:
        """Unit-norm features (B, D) of images (B, 3, R, R). Here: of frozen CLIP; cached ones (B, D) pass through."""
        return images if images.dim() == 2 else self.backbone.encode_images(images)

    def deep_text_prompts(self) -> Sequence[Tensor]:
        """Prompts that the text encoder takes at its deeper layers."""
        return ()

    def loss_terms(self, features: Features, images: Tensor, labels: Tensor) -> dict[str, Tensor]:
        """Named terms, weights included; the loss is their sum. A mixin adds its own to super()'s.

        Features and labels are of the whole batch; images are this process's share of it: `gather` what is computed from them.
        """
        return {"cross_entropy": F.cross_entropy(features.logits(), labels)}

    # What it gets

    @property
    def precision(self) -> str:
        return self.cfg.TRAINER[self.options].PREC if self.options else "fp32"

    def autocast(self) -> AbstractContextManager:
        """For the encoders only: similarities and losses are computed in float32 (PREC amp: half on CUDA, bfloat16 on CPU)."""
        low = torch.float16 if self.device.type == "cuda" else torch.bfloat16
        return torch.autocast(self.device.type, low, enabled=self.precision == "amp")

    @property
    def classnames(self) -> list[str]:
        """Class names in label order, spaces for underscores."""
        return [name.replace("_", " ") for name in self.dm.dataset.classnames]

    @property
    def template(self) -> str:
        """The data set's first template."""
        return (getattr(self.dm.dataset, "templates", None) or [DEFAULT_TEMPLATE])[0]

    def class_texts(self) -> list[str]:
        """The data set's first template, filled with each class name."""
        self._warn_of_templates([self.template])
        return filled([self.template], self.classnames)

    def _warn_of_templates(self, templates: Sequence[str]) -> None:
        """Name those with words that CLIP has never learned, rather than each text made of them."""
        self.backbone.tokenize([text.replace("{}", "") for text in templates], told=templates)

    def ensemble_features(self, templates: Sequence[str], at_length_1: bool = True) -> Tensor:
        """Unit-norm mean (C, D) over templates of frozen CLIP's text features, each at length 1 or as it was encoded."""
        self._warn_of_templates(templates)
        texts = filled(templates, self.classnames)
        return unit(
            self.backbone.encode_texts(texts, at_length_1)
            .unflatten(0, (len(templates), -1))
            .mean(0)
        )

    def template_features(self, labels: Tensor) -> Tensor:
        """Unit-norm features (B, D) of the template text of each label, with deep prompts but no learned context."""
        if not hasattr(self, "_template_tokens"):
            self._template_tokens = self.backbone.tokenize(self.class_texts()).to(self.device)
            self.backbone.text.check_texts(self._template_tokens, self.deep_text_prompts())
        classes, position = labels.unique(return_inverse=True)
        with self.autocast():
            found = self.backbone.text.encode_tokens(
                self._template_tokens[classes], self.deep_text_prompts()
            )
        return unit(found)[position]

    def features(self, images: Tensor) -> Features:
        """Features of a batch; with the class texts of `class_texts_once`, inside it."""
        with self.autocast():
            text = self.text_features() if self._cached_text is None else self._cached_text
            return Features(self.image_features(images), text, self.backbone.scale)

    def more_features(self, images: Tensor, features: Features) -> Features:
        """Features of further images in the same step: class texts that do not depend on the image are those of `features`.

        NotImplementedError if they do: a structure that overrides `features` for that overrides this, too.
        """
        if features.text.dim() == 3:
            raise NotImplementedError(
                f"{type(self).__name__} has class texts for each image: override more_features"
            )
        with self.autocast():
            return Features(self.image_features(images), features.text, features.scale)

    # Work on the whole training set, done once

    trains_on_unlabelled = False

    def encoded_images(self, items: Sequence, transform) -> Iterator[tuple[Tensor, Tensor]]:
        """Frozen features (B, D) and labels (B,) of exactly these images, in their order."""
        loader = build_data_loader(
            self.cfg,
            "SequentialSampler",
            items,
            self.cfg.DATALOADER.TEST.BATCH_SIZE,
            tfm=transform,
            is_train=False,
        )
        for batch in loader:
            images, labels = self.parse_batch_test(batch)
            with self.autocast():
                yield self.backbone.encode_images(images), labels

    def reading_options(self) -> dict:
        """What decides about the pixels of a file, if not the default. Upstream has no such keys."""
        spec, found = self.cfg.INPUT, {}
        if spec.get("DRAFT", False):
            found["draft"] = list(spec.SIZE)
        if (transparency := spec.get("TRANSPARENCY", "drop")) != "drop":
            found["transparency"] = transparency
        if spec.get("UPRIGHT", False):
            found["upright"] = True
        return found

    def describe_images(self, items: Sequence, transform) -> dict:
        """What determines `encoded_images`, for a cache."""
        return describe(
            items,
            self.cfg.DATASET.ROOT,
            transform,
            device=self.device.type,
            backbone=self.backbone.fingerprint,
            **self.reading_options(),
        )

    def transform_of(self, loader, is_train: bool):
        """The transform of a loader's images, or the configuration's if the loader tells none.

        Upstream's DataManager keeps none.
        """
        own = getattr(getattr(loader, "dataset", None), "transform", None)
        return build_transform(self.cfg, is_train=is_train) if own is None else own

    @property
    def images_stay_frozen(self) -> bool:
        """Whether nothing is learned about images: their features are those of frozen CLIP."""
        return type(self).image_features is PromptTrainer.image_features

    def cache_folder(self, name: str) -> str | None:
        """Beside the data set's files, hidden since folders can be classes; in OUTPUT_DIR if the data set has no folder."""
        home = getattr(self.dm.dataset, "dataset_dir", "") or self.cfg.OUTPUT_DIR
        return osp.join(home, f".{name}") if home else None

    def encode_training_images_once(self) -> None:
        """If nothing is learned about images and their features stay the same, trains on features instead of images."""
        cfg = self.cfg
        fixed = set(cfg.INPUT.TRANSFORMS) <= FIXED and not cfg.INPUT.NO_TRANSFORM
        views = cfg.TRAINER.CACHED_VIEWS
        frozen = self.images_stay_frozen
        if views and not frozen:
            raise UserError(
                f"TRAINER.CACHED_VIEWS is {views} but {cfg.TRAINER.NAME} learns visual prompts: set it to 0"
            )
        if not frozen or not (fixed or views) or cfg.DATALOADER.K_TRANSFORMS != 1:
            return
        transform, data = self.transform_of(self.train_loader_x, is_train=True), self.dm.dataset
        plain = all(
            type(getattr(loader, "dataset", None)) is DatasetWrapper
            for loader in (self.train_loader_x, self.train_loader_u)
            if loader is not None
        )
        named = plain_repr(transform) == plain_repr(
            build_transform(cfg, is_train=True)
        )  # and not one that a trainer brings along
        if not plain or not named:
            return
        labelled, unlabelled = (
            cfg.DATALOADER.TRAIN_X,
            cfg.DATALOADER.TRAIN_X if cfg.DATALOADER.TRAIN_U.SAME_AS_X else cfg.DATALOADER.TRAIN_U,
        )
        for loader, items, spec in (
            ("train_loader_x", data.train_x, labelled),
            *[("train_loader_u", data.train_u, unlabelled)] * self.trains_on_unlabelled,
        ):
            description = self.describe_images(
                items, transform
            ) | {  # what the random draws depend on
                "workers": cfg.DATALOADER.NUM_WORKERS,
                "batch": cfg.DATALOADER.TEST.BATCH_SIZE,
            }
            features = encoded_views(
                1 if fixed else views,
                lambda items=items: (found for found, _ in self.encoded_images(items, transform)),
                max(cfg.SEED, 0),
                description,
                self.cache_folder("views") if views else None,
            )
            setattr(
                self,
                loader,
                build_data_loader(
                    cfg,
                    spec.SAMPLER,
                    items,
                    spec.BATCH_SIZE,
                    spec.get("N_DOMAIN", 0),
                    spec.get("N_INS", 0),
                    **({"drop_last": spec.DROP_LAST} if "DROP_LAST" in spec else {}),
                    dataset_wrapper=lambda *_, items=items, features=features, **__: FeatureViews(
                        items, features
                    ),
                ),
            )

    # The engine's hooks

    @classmethod
    def config_nodes(cls) -> tuple[str, ...]:
        """Groups of keys under cfg.TRAINER that the trainer reads: what else is there cannot change a run."""
        return (cls.options,)

    def extra_state(self) -> dict:
        return {} if self.scaler is None else {"scaler": self.scaler.state_dict()}

    def load_extra_state(self, state: dict) -> None:
        if self.scaler is not None and "scaler" in state:
            self.scaler.load_state_dict(state["scaler"])

    def before_train(self) -> None:
        self.encode_training_images_once()
        super().before_train()

    _cached_text: Tensor | None = None

    def check_cfg(self, cfg) -> None:
        if cfg.INPUT.NO_TRANSFORM:
            raise UserError(
                "INPUT.NO_TRANSFORM is True, but CLIP reads pictures of one size as numbers: set it to False"
            )
        if not self.options:
            return
        one_view = type(self).parse_batch_train is PromptTrainer.parse_batch_train
        if one_view and (views := cfg.DATALOADER.K_TRANSFORMS) != 1:
            raise UserError(
                f"DATALOADER.K_TRANSFORMS is {views}, but {cfg.TRAINER.NAME} trains on one "
                "view of an image: set it to 1"
            )
        key, precision = f"TRAINER.{self.options}.PREC", cfg.TRAINER[self.options].PREC
        if precision not in PRECISIONS:  # of a method that declares no rules
            raise UserError(f"{key} is '{precision}': choose one of {', '.join(PRECISIONS)}")
        if precision == "fp16" and not (cfg.USE_CUDA and torch.cuda.is_available()):
            raise UserError(f"{key} fp16 needs a CUDA device: set {key} to fp32 or amp")

    def build_backbone(self) -> None:
        """Load frozen CLIP to the device. Raises UserError if images of INPUT.SIZE are not what it reads."""
        name, size = self.cfg.MODEL.BACKBONE.NAME, tuple(self.cfg.INPUT.SIZE)
        print(f"Loading CLIP (backbone: {name})")
        activation = self.cfg.MODEL.BACKBONE.get("ACTIVATION", "auto")
        self.backbone = load_backbone(name, self.precision, activation).to(self.device)
        own = self.backbone.input_resolution
        if size != (own, own):
            raise UserError(
                f"INPUT.SIZE is {size} but {name} reads {own} x {own} pixels: set INPUT.SIZE to ({own}, {own})"
            )
        self.backbone.text.checkpointing = self.cfg.TRAINER.TEXT_CHECKPOINTING
        if self.cfg.TRAINER.COMPILE:
            self.backbone.compile_blocks()

    def build_model(self) -> None:
        cfg = self.cfg
        if len(self.classnames) != self.num_classes:
            raise UserError(
                f"data set {cfg.DATASET.NAME} has {len(self.classnames)} class names for labels up to {self.num_classes - 1}: number its "
                "labels from 0 without gap"
            )
        self._warn_of_same_tokens()
        self.build_backbone()
        self.model = self.build_prompts().to(self.device)
        if cfg.MODEL.INIT_WEIGHTS:
            load_pretrained_weights(self.model, cfg.MODEL.INIT_WEIGHTS)
        print(
            f"Learnable: {count_num_param(self.model):,} numbers in {', '.join(name for name, _ in self.model.named_parameters())}"
        )
        self.optim = build_optimizer(self.model, cfg.OPTIM)
        self.sched = build_lr_scheduler(self.optim, cfg.OPTIM)
        self.register_model(self.model_name, self.model, self.optim, self.sched)
        if cfg.MODEL.INIT_WEIGHTS:
            theirs = class_names_of(load_checkpoint(cfg.MODEL.INIT_WEIGHTS))
            if theirs is None or len(theirs) == self.num_classes:  # else their shapes differ
                self.check_classes(theirs, cfg.MODEL.INIT_WEIGHTS)
        scaled = self.precision == "amp" and self.device.type == "cuda"
        self.scaler = torch.amp.GradScaler(self.device.type) if scaled else None

    def _warn_of_same_tokens(self) -> None:
        """Name classes whose names differ, but not for CLIP's tokenizer ("t-shirt" and "t - shirt").

        The data set's warning names those that differ in case, underscores, blanks and entities.
        """
        spelled = {" ".join(html.unescape(name).lower().split()): name for name in self.classnames}
        same = same_as_read(spelled.values())
        if same:
            named = "; ".join(" and ".join(f"'{name}'" for name in names) for names in same[:5])
            print(
                f"Warning: CLIP reads the names of {len(same)} group(s) of classes as the same words "
                f"and cannot tell them apart: {named}; rename one class of each"
            )

    def parse_batch_train(self, batch: dict) -> tuple[Tensor, Tensor]:
        """Images (B, 3, R, R), or their features (B, D), and labels (B,), on the device."""
        return self.parse_batch_test(batch)

    def forward_backward(self, batch: dict) -> dict[str, float]:
        images, labels = self.parse_batch_train(batch)
        features, labels = self.features(images).gathered(), gather(labels)
        terms = self.loss_terms(features, images, labels)
        loss = sum(terms.values())
        if self.scaler is None:
            self.model_backward_and_update(loss)
        else:
            self.model_zero_grad()
            self.detect_anomaly(loss)
            self.scaler.scale(loss).backward()
            average_gradients(
                self.model.parameters()
            )  # scaled, so that all processes see the same overflow
            self.scaler.step(self.optim)
            self.scaler.update()
        summary = {
            "loss": loss.item(),
            "acc": compute_accuracy(features.logits().detach(), labels)[0].item(),
        }
        if len(terms) > 1:
            summary |= {name: term.item() for name, term in terms.items()}
        if self.batch_idx + 1 == self.num_batches:
            self.update_lr()
        return summary

    @torch.no_grad()
    def model_inference(self, images: Tensor) -> Tensor:
        """Logits (B, C)."""
        return self.features(images).logits()

    def encode_class_texts(self) -> Tensor | None:
        """Class texts of an evaluation, computed once; None if they depend on the image."""
        with torch.no_grad(), self.autocast():
            return self.text_features()

    @contextmanager
    def class_texts_once(self) -> Iterator[None]:
        """Inside, `features` takes class texts that are encoded once, here: prompts must not change meanwhile."""
        self._cached_text = self.encode_class_texts()
        try:
            yield
        finally:
            self._cached_text = None

    def test(self, split: str | None = None) -> float:
        with self.class_texts_once():
            return super().test(split)

    def own_form(self, name: str, checkpoint: dict, path: str) -> dict:
        """A published checkpoint with nothing but learned parameters and their optimizer's state."""
        if "state_dict" not in checkpoint:
            return checkpoint  # none that a run can go on from
        self.check_classes(class_names_of(checkpoint), path)
        if "config_hash" in checkpoint:
            return checkpoint  # this project's own
        model, state = self._models[name], checkpoint["state_dict"]
        made = checkpoint | {"state_dict": learned_state(model, state, path)}
        if checkpoint.get("optimizer") is not None:
            try:
                made["optimizer"] = learned_optimizer(model, state, checkpoint["optimizer"])
            except (AttributeError, LookupError, TypeError):
                raise UserError(
                    f"checkpoint '{path}' does not fit: its optimizer state is none; load it with --model-dir"
                ) from None
            if made["optimizer"] is None:
                print(
                    f"The optimizer's state in '{path}' is of other parameters: its momentum starts anew"
                )
        return made

    def load_model(self, directory: str, epoch: int | None = None) -> None:
        """Load `directory`/<model name>/model.pth.tar-<epoch>, or model-best.pth.tar without epoch.

        Takes own checkpoints and published ones; says what of the latter is ignored. Raises UserError
        if one does not fit, or holds what was learned for each of other classes.
        """
        if not directory:
            print("Note that load_model() is skipped as no pretrained model is given")
            return
        file = "model-best.pth.tar" if epoch is None else f"model.pth.tar-{epoch}"
        for name in self.get_model_names():
            path = osp.join(directory, name, file)
            checkpoint = load_checkpoint(path)
            self.check_classes(class_names_of(checkpoint) or stored_classes(directory), path)
            load_learned(self._models[name], checkpoint.get("state_dict", checkpoint), path)
            print(f"Loaded the weights of {name} from '{path}' (epoch = {checkpoint.get('epoch')})")

    def check_classes(self, theirs: Sequence[str] | None, path: str) -> None:
        """Raise UserError if something was learned per class, but for other classes or another order.

        theirs: class names that the checkpoint `path` was trained on; None if they are not known, which
        is said.
        """
        if theirs and list(map(as_read, theirs)) == list(map(as_read, self.classnames)):
            return
        if not (names := ", ".join(f"'{name}'" for name in self.learned_per_class())):
            return
        if not theirs:
            print(
                f"Warning: '{path}' does not tell which classes it was trained on, but {names} was "
                "learned for each of them: the result means something only for the same classes in the "
                "same order"
            )
            return
        raise UserError(
            f"checkpoint '{path}' does not fit: {names} was learned for each class, and "
            f"{_other_classes(theirs, self.classnames)}; use it for the classes it was trained on, in "
            "that order"
        )

    def learned_per_class(self) -> list[str]:
        """Names of learned tensors whose shapes follow the number of classes: others cannot use them.

        Found by building the prompts once more, for one class more; nothing else changes.
        """
        if not self.get_model_names():
            return []
        names = [*self.classnames, self.classnames[0]]  # a name that structures know
        number = len(names)
        changed = {"classnames": names, "num_classes": number, "lab2cname": dict(enumerate(names))}
        other = copy.copy(self)
        other.num_classes, other.lab2cname = number, changed["lab2cname"]
        other.dm = _Changed(self.dm, **changed, dataset=_Changed(self.dm.dataset, **changed))
        with rng_untouched(), redirect_stdout(io.StringIO()):
            there = other.build_prompts().state_dict()
        here = self.model.state_dict()
        return [name for name in here if name not in there or here[name].shape != there[name].shape]


class _Changed:
    """Stands for an object, with other values of some attributes."""

    def __init__(self, original: object, **values):
        self.__dict__.update(values)
        self._original = original

    def __getattr__(self, name: str):
        return getattr(self._original, name)


def stored_classes(directory: str) -> list[str] | None:
    """Class names in `directory`/results.json; None if there is none, as other codes leave it."""
    path = osp.join(directory, "results.json")
    return class_names_of(read_json(path)) if osp.isfile(path) else None


def class_names_of(found: object) -> list[str] | None:
    """The class names in a results.json or checkpoint; None if it tells none."""
    names = found.get("classnames") if isinstance(found, dict) else None
    good = isinstance(names, list) and names and all(isinstance(name, str) for name in names)
    return names if good else None


def _other_classes(theirs: Sequence[str], ours: Sequence[str]) -> str:
    """How two lists of class names differ, in words."""
    if len(theirs) != len(ours):
        return f"there are {len(theirs)} classes there and {len(ours)} here"
    pairs = enumerate(zip(theirs, ours, strict=True))
    label = next(label for label, (one, other) in pairs if as_read(one) != as_read(other))
    return f"class {label} is '{theirs[label]}' there and '{ours[label]}' here"


def load_learned(model: nn.Module, state: dict[str, Tensor], path: str) -> None:
    """Copy the learned parameters out of `state`, read from `path`, and say what of it is ignored.

    Raises UserError if one is missing, of another shape, or if there are parameters of another method.
    """
    model.load_state_dict(learned_state(model, state, path))


def learned_state(model: nn.Module, state: dict[str, Tensor], path: str) -> dict[str, Tensor]:
    """The part of `state` that `model` learns; otherwise as `load_learned`."""
    own = model.state_dict()
    state = {name.removeprefix("module."): value for name, value in state.items()}
    buffers = [name for name in state if name not in own and name.endswith(TOKEN_BUFFERS)]
    frozen = [
        name
        for name in state
        if name not in own and name.startswith(FROZEN_PARTS) and "VPT" not in name
    ]
    for name, value in own.items():
        if name not in state:
            raise UserError(f"checkpoint '{path}' lacks '{name}': use the trainer that wrote it")
        if state[name].shape != value.shape:
            raise UserError(
                f"checkpoint '{path}' does not fit: '{name}' is {tuple(state[name].shape)} there and "
                f"{tuple(value.shape)} here; use the backbone, context options and, with class-specific contexts, "
                "the classes it was trained with"
            )
        if not state[name].isfinite().all():
            raise UserError(
                f"checkpoint '{path}' holds NaN or infinite numbers in '{name}': load another epoch, "
                "or train again with a lower OPTIM.LR"
            )
    for name in state:
        if name not in own and name not in buffers and name not in frozen:
            raise UserError(
                f"checkpoint '{path}' has '{name}', which this trainer does not learn: use the trainer that wrote it"
            )
    if buffers or frozen:
        ignored = buffers + ([f"{len(frozen)} tensors of frozen CLIP"] if frozen else [])
        print(f"Ignored in '{path}', since not learned: {', '.join(ignored)}")
    return {name: state[name] for name in own}


def learned_optimizer(model: nn.Module, state: dict[str, Tensor], optimizer: dict) -> dict | None:
    """The state of a published optimizer for the parameters that `model` learns.

    Published codes give all parameters to the optimizer, the frozen CLIP included, in the order of
    the checkpoint's `state`; buffers are in `state` only. None if the numbers do not tell which
    parameter is which.
    """
    names = [name.removeprefix("module.") for name in state if not name.endswith(BUFFERS)]
    own = [name for name, _ in model.named_parameters()]
    groups, slots = optimizer["param_groups"], optimizer["state"]
    if len(groups) != 1 or groups[0]["params"] != list(range(len(names))) or set(own) - set(names):
        return None
    group = groups[0] | {"params": list(range(len(own)))}
    places = [names.index(name) for name in own]
    found = {here: slots[there] for here, there in enumerate(places) if there in slots}
    return {"state": found, "param_groups": [group]}
