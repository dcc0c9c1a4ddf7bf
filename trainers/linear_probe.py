"""Linear probe on CLIP's image features that starts from the class texts and stays near them.

Silva-Rodríguez et al., CVPR 2024, arXiv 2312.12730 (ZS-LP, and CLAP with its penalty).
"""

import logging
from functools import cached_property

import torch
from torch import Tensor, nn
from yacs.config import CfgNode

from dassl.engine import TRAINER_REGISTRY
from trainers.backbone import PRECISIONS, unit
from trainers.base import PromptTrainer
from trainers.model import PromptedCLIP
from trainers.options import PRECISION_HELP, rules
from trainers.parallel import from_main
from trainers.step import Features, Step

log = logging.getLogger(__name__)

PENALTIES = ("class", "equal", "none")


def extend_cfg(cfg: CfgNode) -> None:
    """Add TRAINER.LINEAR_PROBE."""
    rules.declare(
        cfg,
        "TRAINER.LINEAR_PROBE",
        {
            "PREC": rules.key("fp16", rules.one_of(*PRECISIONS), PRECISION_HELP),
            "PENALTY": rules.key(
                "class",
                rules.one_of(*PENALTIES),
                "Weights of the squared distances between a class's vector and its text: class "
                "takes zero-shot CLIP's mean probability of the class on its training images, "
                "equal takes the mean of these over the classes, none has no penalty.",
            ),
            "W": rules.key(1.0, rules.number(0), "Factor of all these weights."),
        },
    )


class ClassVectors(nn.Module):
    """A learned vector for each class, `weight` (C, D)."""

    def __init__(self, start: Tensor):
        super().__init__()
        self.weight = nn.Parameter(start.clone())


class LinearProbeModel(PromptedCLIP):
    """Learns a vector for each class, which takes the place of the class text.

    `strength` (C,), the weights of the penalty, is set before training.
    """

    prompts: ClassVectors
    strength: Tensor | None = None

    def build_prompts(self) -> ClassVectors:
        return ClassVectors(self.start)

    @cached_property
    def start(self) -> Tensor:
        """(C, D): frozen CLIP's features of the class texts, as published not at length 1."""
        with torch.no_grad(), torch.autocast(self.device.type, enabled=False):
            return self.backbone.encode_texts(self.class_texts(), at_length_1=False)

    def text_features(self) -> Tensor:
        return unit(self.prompts.weight)

    def loss_terms(self, step: Step) -> dict[str, Tensor]:
        terms = super().loss_terms(step)
        if self.options.PENALTY == "none" or not self.options.W:
            return terms
        if self.strength is None:
            raise ValueError("the weights of the penalty are not set: call class_strength first")
        distance = (self.prompts.weight - self.start).square().sum(1)
        return terms | {"distance": self.options.W * (self.strength * distance).mean()}


def class_strength(probabilities: Tensor, labels: Tensor, classes: int) -> Tensor:
    """(C,): the mean of probabilities (N, C) of each class on its own images, labels (N,).

    0 for a class without an image.
    """
    own = probabilities[torch.arange(len(labels), device=labels.device), labels]
    zeros = own.new_zeros(classes)
    number = zeros.index_add(0, labels, torch.ones_like(own))
    return zeros.index_add(0, labels, own) / number.clamp(min=1)


@TRAINER_REGISTRY.register()
class LinearProbe(PromptTrainer):
    """Trains a `LinearProbeModel`; its checkpoint is of no use for other classes."""

    clip: LinearProbeModel
    structure = LinearProbeModel
    options = "LINEAR_PROBE"

    def before_train(self) -> None:
        """Weights of the penalty from the images that the run trains on, not augmented."""
        options = self.cfg.TRAINER.LINEAR_PROBE
        if options.PENALTY != "none" and options.W:
            self.clip.strength = from_main(self._strength).to(self.device)
        super().before_train()

    def _strength(self) -> Tensor:
        transform = self.transform_of(self.test_loader, is_train=False)
        batches = self.encoded_images(self.dm.dataset.train_x, transform)
        features, labels = (torch.cat(parts) for parts in zip(*batches, strict=True))
        logits = Features(features, unit(self.clip.start), self.backbone.scale).logits()
        strength = class_strength(logits.softmax(1), labels, self.num_classes)
        if self.cfg.TRAINER.LINEAR_PROBE.PENALTY == "equal":
            strength = strength.mean().expand(self.num_classes)
        log.info(
            f"Penalty: weights of {strength.min():.2f} to {strength.max():.2f} for "
            f"{self.num_classes} classes"
        )
        return strength.cpu()
