"""What all prompt-learning trainers share: data, loop, optimiser, checkpoints of a `PromptedCLIP`.

One step: images -> features (the model) -> loss terms (the method's, then those of
`trainers.terms`) -> the sum of the terms is minimised. The walk is
`PromptTrainer.forward_backward`.
"""

import functools
import html
import logging
import operator
import os.path as osp
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, cast

import torch
from torch import Tensor
from yacs.config import CfgNode

from dassl.data.data_manager import DatasetWrapper, build_data_loader
from dassl.data.transforms import build_transform
from dassl.engine import TrainerX, TrainerXU
from dassl.metrics import compute_accuracy
from dassl.optim import build_lr_scheduler, build_optimizer
from dassl.utils import count_num_param, load_checkpoint, load_pretrained_weights
from trainers.backbone import PRECISIONS, Backbone, load_backbone, same_as_read
from trainers.cache import describe, plain_repr, reading_options
from trainers.checkpoints import class_names_of, learned_optimizer, learned_state, load_prompts
from trainers.clips import INPUT_KEYS
from trainers.errors import UserError
from trainers.model import DEFAULT_TEMPLATE, PromptedCLIP
from trainers.parallel import average_gradients, gather
from trainers.step import Features, Step
from trainers.terms import TERMS, Term
from trainers.views import encode_test_images_once, encode_training_images_once

log = logging.getLogger(__name__)

__all__ = ["Features", "PromptTrainer", "Step", "class_names_of"]


def leave_half(cfg: CfgNode, options: str) -> str:
    """Set the precision of a method, whose node is TRAINER.`options`, to fp32 where it is fp16 and
    there is no GPU to use. Returns a sentence about it, "" if nothing changed.
    """
    node = cfg.TRAINER[options] if options else CfgNode()
    if node.get("PREC") != "fp16" or cfg.USE_CUDA and torch.cuda.is_available():
        return ""
    node.PREC = "fp32"
    return f"note: TRAINER.{options}.PREC fp16 needs a CUDA device: using fp32"


class PromptTrainer(TrainerX):
    """Parent of the trainers of all methods on a frozen CLIP.

    A method sets `structure` (its model), `options` (its node under cfg.TRAINER, with the key PREC)
    and `model_name` (the checkpoint folder, as published). `clip` is the model, `model` what it
    learns, `terms` the loss terms beside the method's, by their names in the log.
    """

    structure: type[PromptedCLIP]
    options = ""
    model_name = "prompt_learner"
    # {data set: template} where a method's published code has another than CoOp's
    published_templates: Mapping[str, str] = {}
    needs_groups = False  # whether it learns from the domains of its images

    clip: PromptedCLIP
    model: Any  # the engine's is a SimpleNet
    terms: dict[str, Term]

    # The model, also without a trainer

    @classmethod
    def precision_of(cls, cfg: CfgNode) -> str:
        """One of PRECISIONS."""
        return cfg.TRAINER[cls.options].get("PREC", "fp32") if cls.options else "fp32"

    @classmethod
    def templates_of(cls, cfg: CfgNode, data: object) -> Sequence[str]:
        """The hand-written templates of a data set, or of its class."""
        given = cfg.DATASET.get("TEMPLATE", "") or cls.published_templates.get(cfg.DATASET.NAME)
        return (given,) if given else getattr(data, "templates", None) or (DEFAULT_TEMPLATE,)

    @classmethod
    def make_clip(
        cls,
        cfg: CfgNode,
        backbone: Backbone,
        classnames: Sequence[str],
        templates: Sequence[str] | Callable[[], Sequence[str]],
    ) -> PromptedCLIP:
        """The method's model with the options of `cfg`: without images, loop or optimiser.

        Arguments and errors are those of `PromptedCLIP`.
        """
        return cls.structure(backbone, classnames, cls.model_options(cfg), templates)

    @classmethod
    def model_options(cls, cfg: CfgNode) -> CfgNode:
        """What the model reads: the method's node of `cfg`, with what follows from the data set."""
        return cfg.TRAINER[cls.options] if cls.options else CfgNode()

    @property
    def classnames(self) -> list[str]:
        """Class names in label order, spaces for underscores."""
        return [name.replace("_", " ") for name in self.dm.dataset.classnames]

    @property
    def backbone(self) -> Backbone:
        return self.clip.backbone

    @classmethod
    def learns_in_epochs(cls, cfg: CfgNode) -> bool:
        """Whether epochs change what is learned; if not, OPTIM.MAX_EPOCH has to be 1."""
        return True

    # Loss terms

    @classmethod
    def term_kinds(cls, cfg: CfgNode) -> list[type[Term]]:
        """Classes of the loss terms beside the method's.

        Raises UserError for an unknown name, and for a term whose options are not declared.
        """
        names = cfg.TRAINER.get("TERMS", ())
        if unknown := [name for name in names if name not in TERMS]:
            raise UserError(
                f"TRAINER.TERMS has the unknown term '{unknown[0]}': choose of {', '.join(TERMS)}"
            )
        for name in names:
            if (node := TERMS[name].node) not in cfg.TRAINER:
                raise UserError(
                    f"the term {name} has the node '{node}', but TRAINER.{node} is not declared: "
                    f"add it in extend_cfg of {TERMS[name].__module__}"
                )
        return [TERMS[name] for name in names]

    @classmethod
    def active_terms(cls, cfg: CfgNode) -> list[type[Term]]:
        """Those with a weight above 0."""
        return [kind for kind in cls.term_kinds(cfg) if kind.weight(cfg.TRAINER[kind.node])]

    @classmethod
    def config_nodes(cls, cfg: CfgNode | None = None) -> tuple[str, ...]:
        """Groups of keys under cfg.TRAINER that the trainer reads: no other can change a run.

        cfg: for the groups of the terms that it names.
        """
        names = cfg.TRAINER.get("TERMS", ()) if cfg else ()
        nodes = [TERMS[name].node for name in names if name in TERMS]
        return tuple(dict.fromkeys([cls.options, *nodes]))

    def loss_terms(self, step: Step) -> dict[str, Tensor]:
        """All loss terms by name, weights included; the loss is their sum.

        Raises UserError if a term has the name of one of the method's.
        """
        terms = self.clip.loss_terms(step)
        for term in self.terms.values():
            for replaced in term.replaces:
                terms.pop(replaced, None)
        for name, term in self.terms.items():
            if name in terms:
                raise UserError(
                    f"the term {type(term).__name__} is called '{name}', as a term of "
                    f"{self.cfg.TRAINER.NAME} itself: give the class another `name`"
                )
            terms[name] = term.weight(term.options) * term(step)
        return terms

    @property
    def trains_on_unlabelled(self) -> bool:
        """Whether a step takes a batch of the target domain, too."""
        return any(term.unlabelled for term in self.terms.values())

    # Work on the whole training set, done once

    def encoded_images(
        self, items: Sequence, transform: Callable | None
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Frozen features (B, D) and labels (B,) of exactly these images, in their order."""
        loader = build_data_loader(
            self.data_cfg,
            "SequentialSampler",
            items,
            self.cfg.DATALOADER.TEST.BATCH_SIZE,
            tfm=transform,
            is_train=False,
        )
        for batch in loader:
            images, labels = self.parse_batch_test(batch)
            with self.clip.autocast():
                yield self.backbone.encode_images(images), labels

    def describe_images(self, items: Sequence, transform: Callable | None) -> dict:
        """What determines `encoded_images`, for a cache."""
        return describe(
            items,
            self.cfg.DATASET.ROOT,
            transform,
            device=self.device.type,
            backbone=self.backbone.fingerprint,
            **reading_options(self.data_cfg),
        )

    def transform_of(self, loader: object, is_train: bool) -> Callable | None:
        """The transform of a loader's images, or the configuration's if the loader has none.

        Upstream's DataManager keeps none.
        """
        kept = getattr(getattr(loader, "dataset", None), "transform", None)
        return build_transform(self.data_cfg, is_train=is_train) if kept is None else kept

    def cache_folder(self, name: str) -> str | None:
        """A folder beside the data set's files, hidden since folders can be classes.

        In OUTPUT_DIR if the data set has no folder.
        """
        home = getattr(self.dm.dataset, "dataset_dir", "") or self.cfg.OUTPUT_DIR
        return osp.join(home, f".{name}") if home else None

    # The engine's hooks, in the order in which they are called

    def check_cfg(self, cfg: CfgNode) -> None:
        if cfg.INPUT.NO_TRANSFORM:
            raise UserError(
                "INPUT.NO_TRANSFORM is True, but CLIP reads pictures of one size as numbers: set "
                "it to False"
            )
        for kind in self.active_terms(cfg):
            kind.check_cfg(cfg)
        if not self.options or "PREC" not in cfg.TRAINER[self.options]:
            return
        one_view = type(self).parse_batch_train is PromptTrainer.parse_batch_train
        if one_view and (views := cfg.DATALOADER.K_TRANSFORMS) != 1:
            raise UserError(
                f"DATALOADER.K_TRANSFORMS is {views}, but {cfg.TRAINER.NAME} trains on one "
                "view of an image: set it to 1"
            )
        key, precision = f"TRAINER.{self.options}.PREC", self.precision_of(cfg)
        if precision not in PRECISIONS:  # of a method that declares no rules
            raise UserError(f"{key} is '{precision}': choose one of {', '.join(PRECISIONS)}")
        if precision == "fp16" and not (cfg.USE_CUDA and torch.cuda.is_available()):
            raise UserError(f"{key} fp16 needs a CUDA device: set {key} to fp32 or amp")

    @property
    def data_cfg(self) -> CfgNode:
        """The configuration by which pictures are read: INPUT is what the CLIP tells of itself."""
        return self.__dict__.get("_data_cfg", self.cfg)

    def frozen_clip(self) -> Backbone:
        """The CLIP of the run, on its device; from then on pictures are read as it was trained."""
        backbone = make_backbone(self.cfg, self.precision_of(self.cfg), self.device)
        self._data_cfg = with_input(self.cfg, backbone)
        if self._data_cfg is not self.cfg:
            self._read_anew()
        spec = self._data_cfg.INPUT
        self.pretrained = {  # in results.json
            "sha256": backbone.sha256,
            "activation": backbone.activation,
            "input": {
                key: list(spec[key]) if isinstance(spec[key], tuple) else spec[key]
                for key in INPUT_KEYS
            },
        }
        return backbone

    def _read_anew(self) -> None:
        """Let the loaders, of which nothing was taken yet, read pictures as `data_cfg` says.

        They are not built again, which would draw the few-shot picks again. A transform that a
        trainer of another code made itself stays.
        """
        cfg = self.data_cfg
        loaders = (self.train_loader_x, self.train_loader_u, self.val_loader, self.test_loader)
        for data in (loader.dataset for loader in loaders if loader is not None):
            if not isinstance(data, DatasetWrapper):
                continue
            given, transform = (build_transform(c, is_train=data.is_train) for c in (self.cfg, cfg))
            if plain_repr(data.transform) == plain_repr(given):
                DatasetWrapper.__init__(data, cfg, data.data_source, transform, data.is_train)

    def build_model(self) -> None:
        cfg = self.cfg
        if len(self.classnames) != self.num_classes:
            raise UserError(
                f"data set {cfg.DATASET.NAME} has {len(self.classnames)} class names for labels up "
                f"to {self.num_classes - 1}: number its labels from 0 without gap"
            )
        warn_of_same_tokens(self.classnames)
        templates = self.templates_of(cfg, self.dm.dataset)
        self.clip = self.make_clip(cfg, self.frozen_clip(), self.classnames, templates)
        self.complete_clip()
        if self.clip.prompts is None:
            raise NotImplementedError(f"{type(self).__name__} learns nothing: override build_model")
        self.model = self.clip.prompts
        if cfg.MODEL.INIT_WEIGHTS:
            load_pretrained_weights(self.model, cfg.MODEL.INIT_WEIGHTS)
        names = ", ".join(name for name, _ in self.model.named_parameters())
        log.info(f"Learnable: {count_num_param(self.model):,} numbers in {names}")
        self.optim = build_optimizer(self.model, cfg.OPTIM)
        self.sched = build_lr_scheduler(self.optim, cfg.OPTIM)
        self.register_model(self.model_name, self.model, self.optim, self.sched)
        if cfg.MODEL.INIT_WEIGHTS:
            theirs = class_names_of(load_checkpoint(cfg.MODEL.INIT_WEIGHTS))
            if theirs is None or len(theirs) == self.num_classes:  # else their shapes differ
                self.clip.check_classes(theirs, cfg.MODEL.INIT_WEIGHTS)
        scaled = self.clip.precision == "amp" and self.device.type == "cuda"
        self.scaler = torch.amp.GradScaler(self.device.type) if scaled else None
        self._skipped = 0  # steps of an epoch that the scaler left out
        self.build_terms()

    def complete_clip(self) -> None:
        """Fill what of a new model comes from the images of the run; most have nothing."""

    def build_terms(self) -> None:
        """Build the terms with a weight above 0, and prepare them.

        Not before a test alone: a test of a thousand classes does not first encode their training
        images for anchors. Raises UserError for two terms of one name.
        """
        self._idle: set[str] = set()
        self.terms = {}
        if self.cfg.get("EVAL_ONLY", False):
            return
        for kind in self.active_terms(self.cfg):
            if (other := self.terms.get(kind.name)) is not None:
                raise UserError(
                    f"the terms {type(other).__name__} and {kind.__name__} are both called "
                    f"'{kind.name}': give one of the classes another `name`"
                )
            self.terms[kind.name] = kind(self.cfg.TRAINER[kind.node])
        active = {kind.__name__ for kind in map(type, self.terms.values())}
        if idle := [name for name in self.cfg.TRAINER.get("TERMS", ()) if name not in active]:
            log.warning(
                f"TRAINER.TERMS names {', '.join(idle)}, with a weight of 0: left out of the loss"
            )
        for term in self.terms.values():
            term.prepare(self)

    def before_train(self) -> None:
        for term in self.terms.values():
            term.check_data(self)
            if term.unlabelled and self.train_loader_u is None:
                raise UserError(
                    f"the term {type(term).__name__} needs unlabelled images of a target domain: "
                    "name its data set in DATASET.TARGET"
                )
        encode_training_images_once(self)
        super().before_train()

    def run_epoch(self) -> None:
        """Without unlabelled images as the parent does, with them as Dassl's TrainerXU."""
        if self.trains_on_unlabelled:
            TrainerXU.run_epoch(cast(TrainerXU, self))
        else:
            super().run_epoch()

    def parse_batch_train(  # type: ignore[override] # the engine's returns domains, too
        self, batch: dict
    ) -> tuple[Tensor, Tensor]:
        """Images (B, 3, R, R), or their features (B, D), and labels (B,), on the device."""
        return self.parse_batch_test(batch)

    def step_of(self, batch: dict, batch_u: dict | None) -> Step:
        """The inputs of a step and their features; of `batch_u` nothing but the images is used."""
        wanted = any(term.domains for term in self.terms.values())
        domains = gather(batch["domain"].to(self.device)) if wanted else None
        unlabelled = None if batch_u is None else batch_u["img"].to(self.device)
        images, labels = self.parse_batch_train(batch)
        features = self.clip.features(images).gathered()
        return Step(self.clip, images, gather(labels), features, domains, unlabelled)

    def forward_backward(self, batch: dict, batch_u: dict | None = None) -> dict[str, float]:
        """A step on a batch, and with `trains_on_unlabelled` on one of the target domain.

        Returns numbers for the log: the loss, the accuracy in percent, and several loss terms.
        """
        step = self.step_of(batch, batch_u)
        terms = self.loss_terms(step)
        self._warn_of_idle_terms(terms)
        loss = functools.reduce(operator.add, terms.values())
        self._update(loss)
        accuracy = compute_accuracy(step.features.logits().detach(), step.labels)[0]
        summary = {"loss": loss.item(), "acc": accuracy.item()}
        if len(terms) > 1:
            summary |= {name: term.item() for name, term in terms.items()}
        if self.batch_idx + 1 == self.num_batches:
            self.update_lr()
        return summary

    def _update(self, loss: Tensor) -> None:
        """Backward, and a step of the optimiser; scaled in mixed precision on a GPU."""
        if self.scaler is None:
            self.model_backward_and_update(loss)
            return
        self.model_zero_grad()
        self.detect_anomaly(loss)
        self.scaler.scale(loss).backward()
        # scaled gradients, so that all processes see the same overflow
        average_gradients(self.model.parameters())
        self.scaled_step()

    def scaled_step(self) -> None:
        """A step of the optimiser by scaled gradients, left out where one is not finite."""
        scaler = self.scaler
        assert scaler is not None
        scaler.step(self.optim)
        scale = scaler.get_scale()
        scaler.update()
        self._skipped += scaler.get_scale() < scale

    def log_epoch(self) -> None:
        super().log_epoch()
        if self._skipped and self.scaler:
            log.info(
                f"amp left out {self._skipped} step(s) of this epoch, whose gradients were too "
                f"large for half precision: they are now scaled by {self.scaler.get_scale():g}. "
                "In the first epoch this is usual"
            )
            self._skipped = 0

    def _warn_of_idle_terms(self, values: dict[str, Tensor]) -> None:
        """Name, once, terms without a gradient: none of their inputs depends on what is learned."""
        if not torch.is_grad_enabled():
            return
        idle: dict[str, list[str]] = {}
        for name, term in self.terms.items():
            if not values[name].requires_grad and name not in self._idle:
                idle.setdefault(term.inputs(), []).append(name)
                self._idle.add(name)
        for inputs, names in idle.items():
            verb = "has" if len(names) == 1 else "have"
            log.warning(
                f"{' and '.join(sorted(names))} {verb} no gradient for this method with "
                f"{inputs}: none of the inputs depends on a learned parameter"
            )

    @torch.no_grad()
    def model_inference(self, images: Tensor) -> Tensor:
        """Logits (B, C)."""
        return self.clip.logits(images, self.evaluated_texts)

    evaluated_texts: Tensor | None = None  # (C, D), during an evaluation: encoded once

    @contextmanager
    def class_texts_once(self) -> Iterator[None]:
        """Inside, `model_inference` takes class texts that are encoded here: prompts must stay."""
        self.evaluated_texts = self.clip.encode_class_texts()
        try:
            yield
        finally:
            self.evaluated_texts = None

    def test(self, split: str | None = None) -> float:
        encode_test_images_once(self, self.cfg.TEST.SPLIT if split is None else split)
        with self.class_texts_once():
            return super().test(split)

    # Checkpoints

    def extra_state(self) -> dict:
        scaler = {} if self.scaler is None else {"scaler": self.scaler.state_dict()}
        terms = {name: dict(term.state_dict()) for name, term in self.terms.items()}
        kept = {name: state for name, state in terms.items() if state}
        return scaler | ({"terms": kept} if kept else {})

    def load_extra_state(self, state: dict) -> None:
        if self.scaler is not None and "scaler" in state:
            self.scaler.load_state_dict(state["scaler"])
        for name, term in self.terms.items():
            if kept := state.get("terms", {}).get(name):
                term.load_state_dict(kept)

    def own_form(self, name: str, checkpoint: dict, path: str) -> dict:
        """A published checkpoint, reduced to learned parameters and their optimiser's state."""
        if "state_dict" not in checkpoint:
            return checkpoint  # none that a run can go on from
        self.clip.check_classes(class_names_of(checkpoint), path)
        if "config_hash" in checkpoint:
            return checkpoint  # this project's
        state = checkpoint["state_dict"]
        made = checkpoint | {"state_dict": learned_state(self.model, state, path)}
        if checkpoint.get("optimizer") is not None:
            try:
                made["optimizer"] = learned_optimizer(self.model, state, checkpoint["optimizer"])
            except (AttributeError, LookupError, TypeError):
                raise UserError(
                    f"checkpoint '{path}' does not fit: its optimizer state is none; load it with "
                    "--model-dir"
                ) from None
            if made["optimizer"] is None:
                log.warning(
                    f"The optimizer's state in '{path}' is of other parameters: its momentum "
                    "starts anew"
                )
        return made

    def load_model(self, directory: str, epoch: int | None = None) -> None:
        """As `load_prompts`; nothing is loaded without a directory."""
        if not directory:
            log.info("Note that load_model() is skipped as no pretrained model is given")
            return
        for name in self.get_model_names():
            load_prompts(self.clip, directory, name, epoch)

    def check_classes(self, theirs: Sequence[str] | None, path: str) -> None:
        """As `PromptedCLIP.check_classes`; train.py sees by it that classes are compared."""
        self.clip.check_classes(theirs, path)


def make_backbone(cfg: CfgNode, precision: str, device: torch.device) -> Backbone:
    """Frozen CLIP on `device`, as `cfg` says.

    Raises UserError as `load_backbone` does, and if CLIP does not read images of INPUT.SIZE, unless
    it tells which it reads and MODEL.BACKBONE.INPUT says to ask it.
    """
    name, size = cfg.MODEL.BACKBONE.NAME, tuple(cfg.INPUT.SIZE)
    log.info(f"Loading CLIP (backbone: {name})")
    activation = cfg.MODEL.BACKBONE.get("ACTIVATION", "auto")
    backbone = load_backbone(name, precision, activation).to(device)
    pixels = backbone.input_resolution
    told = bool(backbone.input) and _asks_model(cfg)
    if size != (pixels, pixels) and not told:
        raise UserError(
            f"INPUT.SIZE is {size} but {name} reads {pixels} x {pixels} pixels: set INPUT.SIZE to "
            f"({pixels}, {pixels})"
        )
    backbone.text.checkpointing = cfg.TRAINER.TEXT_CHECKPOINTING
    if cfg.TRAINER.COMPILE:
        backbone.compile_blocks()
    return backbone


def _asks_model(cfg: CfgNode) -> bool:
    return cfg.MODEL.BACKBONE.get("INPUT", "model") == "model"


def with_input(cfg: CfgNode, backbone: Backbone) -> CfgNode:
    """`cfg` with what the CLIP tells about its pictures under INPUT, with a note of what differs.

    `cfg` itself if nothing does, or MODEL.BACKBONE.INPUT is config.
    """
    different = {
        key: value
        for key, value in (backbone.input if _asks_model(cfg) else {}).items()
        if list(cfg.INPUT[key]) != list(value)
    }
    if different:
        old = ", ".join(f"{key} {cfg.INPUT[key]}" for key in different)
        new = ", ".join(f"{key} {value}" for key, value in different.items())
        keep = " (MODEL.BACKBONE.INPUT config keeps the configuration's)"
        log.info(
            f"Note: pictures are read as {cfg.MODEL.BACKBONE.NAME} was trained: INPUT has {new} "
            f"instead of {old}{'' if 'SIZE' in different else keep}"
        )
    if backbone.squashed:
        log.info(
            f"Note: {cfg.MODEL.BACKBONE.NAME} was published with pictures squeezed to a square; "
            "tests here crop the centre, as for every CLIP"
        )
    if not different:
        return cfg
    completed = cfg.clone()
    completed.defrost()
    for key, value in different.items():
        completed.INPUT[key] = type(cfg.INPUT[key])(value)
    completed.freeze()
    return completed


def warn_of_same_tokens(classnames: Sequence[str]) -> None:
    """Name classes that CLIP's tokenizer cannot tell apart, such as "t-shirt" and "t - shirt".

    The data set's warning names those that differ in case, underscores, blanks and entities.
    """
    spelled = {" ".join(html.unescape(name).lower().split()): name for name in classnames}
    same = same_as_read(spelled.values())
    if same:
        named = "; ".join(" and ".join(f"'{name}'" for name in names) for names in same[:5])
        log.warning(
            f"Warning: CLIP reads the names of {len(same)} group(s) of classes as the same words "
            f"and cannot tell them apart: {named}; rename one class of each"
        )
