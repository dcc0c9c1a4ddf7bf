"""CRAFT as a mixin: `class CraftX(Craft, X)` adds CRAFT's three terms to any PromptTrainer X."""

from typing import TYPE_CHECKING

from yacs.config import CfgNode

from trainers.craft.alignment import StaticAlignment, StochasticAlignment
from trainers.craft.anchors import Anchors
from trainers.craft.discrepancy import DomainDiscrepancy
from trainers.craft.losses import DIRECTIONS, TARGETS
from trainers.craft.mmd import (
    BANDWIDTHS,
    ESTIMATORS,
    KERNELS,
    MULTIPLIERS,
    NORMALISATIONS,
    SPACES,
    VARIANCES,
)
from trainers.options import rules
from trainers.terms import Term

if TYPE_CHECKING:
    from trainers.base import PromptTrainer as Trainer
else:
    Trainer = object

TEXT_SAMPLES = ("prompt", "template")
DOMAINS = ("none", "unlabelled", "group")


def extend_cfg(cfg: CfgNode) -> None:
    """Add TRAINER.CRAFT.

    A weight of 0 leaves its term out; with all 0 the trainer is its baseline, to the bit.
    """
    weight = rules.number(0, words="set it to 0 or a positive number")
    widths = rules.several(rules.positive(), "give one or more positive numbers", least=1)
    rules.declare(
        cfg,
        "TRAINER.CRAFT",
        {
            # weight of text against static image anchors
            "LAMBDA_STATIC": rules.key(0.5, weight),
            # weight of batch against batch
            "LAMBDA_STOCHASTIC": rules.key(0.5, weight),
            # weight of the discrepancy between domains in anchor space
            "LAMBDA_MMD": rules.key(0.0, weight),
            # image anchors per class; 1 is the class mean
            "ANCHORS_PER_CLASS": rules.key(1, rules.whole(1)),
            "KMEANS_SEED": rules.key(0, rules.whole(0, 2**32 - 1)),
            # a sample's text: prompt (its class feature), template (deep prompts only)
            "TEXT_SAMPLES": rules.key("prompt", rules.one_of(*TEXT_SAMPLES)),
            # positives: label (same class), index (same sample)
            "STOCHASTIC_TARGETS": rules.key("label", rules.one_of(*TARGETS)),
            "STOCHASTIC_DIRECTIONS": rules.key("both", rules.one_of(*DIRECTIONS)),
            "MMD": mmd_options(widths),
        },
    )


def mmd_options(widths: object) -> dict:
    """The keys of TRAINER.CRAFT.MMD. widths: the rule of a list of positive numbers."""
    return {
        # who is compared: unlabelled (train_x with train_u), group (groups of a class in the batch)
        "DOMAINS": rules.key("none", rules.one_of(*DOMAINS)),
        # through what: anchor (cosines to the text anchors), feature, probability, logits
        "SPACE": rules.key("anchor", rules.one_of(*SPACES)),
        # of each sample before the comparison: none, minmax (every column to 0..1)
        "NORMALISE": rules.key("none", rules.one_of(*NORMALISATIONS)),
        # biased (V-statistic), unbiased (U-statistic)
        "ESTIMATOR": rules.key("biased", rules.one_of(*ESTIMATORS)),
        # median (distance in the pooled sample, times MULTIPLIERS), fixed (SIGMAS), variances
        # (VARIANCES)
        "BANDWIDTH": rules.key("median", rules.one_of(*BANDWIDTHS)),
        "MULTIPLIERS": rules.key(list(MULTIPLIERS), widths),
        "SIGMAS": rules.key([1.0], widths),
        # squared sigmas a of exp(-d^2 / 2a)
        "VARIANCES": rules.key(list(VARIANCES), widths),
        # how Gaussians of several bandwidths make one kernel: mean, sum
        "KERNELS": rules.key("mean", rules.one_of(*KERNELS)),
    }


class Craft(Trainer):
    """Adds CRAFT's terms to the trainer it is mixed into, whatever the structure.

    `build_model` prepares the terms with a weight above 0, which builds the anchors, and
    `forward_backward` adds them to the loss. They are in the log under their names, weights
    included.
    """

    @classmethod
    def term_kinds(cls, cfg: CfgNode) -> list[type[Term]]:
        ours = [StaticAlignment, StochasticAlignment, DomainDiscrepancy]
        return [*ours, *(kind for kind in super().term_kinds(cfg) if kind not in ours)]

    @classmethod
    def config_nodes(cls, cfg: CfgNode | None = None) -> tuple[str, ...]:
        return tuple(dict.fromkeys((*super().config_nodes(cfg), "CRAFT")))

    @property
    def anchors(self) -> Anchors | None:
        """The static image anchors; None without their term, and where nothing is trained."""
        term = self.terms.get(StaticAlignment.name)
        return term.anchors if isinstance(term, StaticAlignment) else None
