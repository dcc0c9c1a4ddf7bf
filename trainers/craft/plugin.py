"""CRAFT as a mixin: `class CraftX(Craft, X)` adds anchors and alignment terms to any PromptTrainer X."""

import math

import torch
from torch import Tensor
from yacs.config import CfgNode

from trainers.base import Features, check_least, check_option
from trainers.craft.anchors import Anchors, image_anchors
from trainers.craft.losses import DIRECTIONS, TARGETS, static_alignment, stochastic_alignment
from trainers.errors import UserError

TEXT_SAMPLES = ("prompt", "template")
WEIGHTS = ("LAMBDA_STATIC", "LAMBDA_STOCHASTIC")


def extend_cfg(cfg: CfgNode) -> None:
    """Add TRAINER.CRAFT. A weight of 0 leaves its term out; with both 0 the trainer is its baseline, to the bit."""
    cfg.TRAINER.CRAFT = CfgNode({
        "LAMBDA_STATIC": 0.5,  # weight of text against static image anchors
        "LAMBDA_STOCHASTIC": 0.5,  # weight of batch against batch
        "ANCHORS_PER_CLASS": 1,  # image anchors per class; 1 is the class mean
        "KMEANS_SEED": 0,
        "TEXT_SAMPLES": "prompt",  # a sample's text: prompt (its class feature), template (deep prompts only)
        "STOCHASTIC_TARGETS": "label",  # positives: label (same class), index (same sample)
        "STOCHASTIC_DIRECTIONS": "both",  # both, image_to_text
    })


class Craft:
    """Adds to `loss_terms` of the trainer it is mixed into, and knows of it only features, labels and anchors.

    The terms are in the log under their names, weights included.
    """

    def check_cfg(self, cfg: CfgNode) -> None:
        super().check_cfg(cfg)
        craft = cfg.TRAINER.CRAFT
        for key, allowed in (("TEXT_SAMPLES", TEXT_SAMPLES), ("STOCHASTIC_TARGETS", TARGETS), ("STOCHASTIC_DIRECTIONS", DIRECTIONS)):
            check_option(cfg, f"TRAINER.CRAFT.{key}", allowed)
        for key in WEIGHTS:
            if not 0 <= craft[key] < math.inf:
                raise UserError(f"TRAINER.CRAFT.{key} is {craft[key]}: set it to 0 or a positive number")
        check_least(cfg, "TRAINER.CRAFT.ANCHORS_PER_CLASS")

    @classmethod
    def config_nodes(cls) -> tuple[str, ...]:
        return (*super().config_nodes(), "CRAFT")

    def build_model(self) -> None:
        super().build_model()
        self.craft = self.cfg.TRAINER.CRAFT
        if self.craft.LAMBDA_STOCHASTIC and self.cfg.DATALOADER.TRAIN_X.BATCH_SIZE == 1:
            print("CRAFT: with batches of one image craft_stochastic is 0 at every step: raise DATALOADER.TRAIN_X.BATCH_SIZE to use it")
        self.anchors = self._build_anchors() if self.craft.LAMBDA_STATIC else None
        self._idle_said = False

    def loss_terms(self, features: Features, images: Tensor, labels: Tensor) -> dict[str, Tensor]:
        terms, craft = super().loss_terms(features, images, labels), self.craft
        if not (craft.LAMBDA_STATIC or craft.LAMBDA_STOCHASTIC):
            return terms
        text = features.text_of(labels) if craft.TEXT_SAMPLES == "prompt" else self.template_features(labels)
        own = {}
        if craft.LAMBDA_STATIC:
            own["craft_static"] = craft.LAMBDA_STATIC * static_alignment(
                text, labels, self.anchors.features, self.anchors.labels, features.scale)
        if craft.LAMBDA_STOCHASTIC:
            own["craft_stochastic"] = craft.LAMBDA_STOCHASTIC * stochastic_alignment(
                features.image, text, labels, features.scale, craft.STOCHASTIC_TARGETS, craft.STOCHASTIC_DIRECTIONS)
        idle = [name for name, term in own.items() if not term.requires_grad]
        if idle and torch.is_grad_enabled() and not self._idle_said:
            self._idle_said = True
            print(f"CRAFT: {' and '.join(idle)} cannot teach this method anything with TRAINER.CRAFT.TEXT_SAMPLES "
                  f"'{craft.TEXT_SAMPLES}': none of the features compared depends on what it learns")
        return terms | own

    def _build_anchors(self) -> Anchors:
        """From exactly the images and classes this run trains on, without augmentation."""
        description = self.describe_images(self.dm.tfm_test)
        return image_anchors(description, lambda: self.encoded_training_images(self.dm.tfm_test), self.craft.ANCHORS_PER_CLASS,
                             self.craft.KMEANS_SEED, self.cache_folder("anchors")).to(self.device)
