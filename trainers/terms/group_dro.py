"""GroupDRO: the cross entropy of the worst groups counts most, for any structure.

Sagawa et al., ICLR 2020, arXiv 1911.08731, algorithm 1.
"""

from collections import Counter
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor
from yacs.config import CfgNode

from trainers.errors import UserError
from trainers.options import rules
from trainers.step import Step
from trainers.terms import Term, register

if TYPE_CHECKING:
    from trainers.base import PromptTrainer


def extend_cfg(cfg: CfgNode) -> None:
    """Add TRAINER.GROUP_DRO."""
    rules.declare(
        cfg,
        "TRAINER.GROUP_DRO",
        {
            "WEIGHT": rules.key(1.0, rules.number(0), "Weight of the term."),
            "STEP": rules.key(
                0.01, rules.number(0), "Step size of the groups' weights; 0 keeps them equal."
            ),
            "ADJUSTMENT": rules.key(
                0.0,
                rules.number(0),
                "C of the generalisation adjustment: C / root(n) is added to the loss of a group "
                "of n training images, also where a batch has none of it.",
            ),
        },
    )


@register
class GroupDRO(Term):
    """Takes the place of the cross entropy: sum over the groups of weight * mean loss.

    A group is a pair of class and domain. After each batch a group's weight grows with its loss,
    exp(STEP * loss); the weights sum to 1. The loss of a group without an image in the batch is 0,
    and as in the published code ADJUSTMENT is added to it, too.
    """

    name = "group_dro"
    node = "GROUP_DRO"
    domains = True
    replaces = ("cross_entropy",)
    weights: Tensor
    numbers: Tensor
    adjustment: Tensor

    def prepare(self, trainer: "PromptTrainer") -> None:
        """Count the groups of the images that the run trains on."""
        counts = Counter((item.label, item.domain) for item in trainer.dm.dataset.train_x)
        groups = sorted(counts)
        numbers = torch.full((trainer.num_classes, 1 + max(d for _, d in groups)), -1)
        for number, group in enumerate(groups):
            numbers[group] = number
        sizes = torch.tensor([float(counts[group]) for group in groups])
        self.register_buffer("weights", torch.full((len(groups),), 1 / len(groups)))
        self.register_buffer("numbers", numbers, persistent=False)
        self.register_buffer("adjustment", self.options.ADJUSTMENT / sizes.sqrt(), persistent=False)
        self.to(trainer.device)

    def check_data(self, trainer: "PromptTrainer") -> None:
        if len({item.domain for item in trainer.dm.dataset.train_x}) < 2:
            raise UserError(
                f"the term GroupDRO needs groups, and the training images of "
                f"{trainer.cfg.DATASET.NAME} have no group labels (one domain): choose a data set "
                "with groups, such as Waterbirds, or a table with a column domain"
            )

    def forward(self, step: Step) -> Tensor:
        if step.domains is None:
            raise ValueError("this step has no domains: set `domains` in the term")
        losses = F.cross_entropy(step.features.logits(), step.labels, reduction="none")
        group = self.numbers[step.labels, step.domains]
        zeros = losses.new_zeros(len(self.weights))
        count = zeros.index_add(0, group, torch.ones_like(losses))
        mean = zeros.index_add(0, group, losses) / count.clamp(min=1)
        mean = mean + self.adjustment  # as published, also of a group that is absent
        with torch.no_grad():
            grown = self.weights.log() + self.options.STEP * mean
            self.weights.copy_(grown.softmax(0))
        return (self.weights * mean).sum()
