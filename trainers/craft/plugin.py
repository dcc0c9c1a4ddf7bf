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
            "LAMBDA_STATIC": rules.key(
                0.5, weight, "Weight of the alignment of texts with static image anchors."
            ),
            "LAMBDA_STOCHASTIC": rules.key(
                0.5, weight, "Weight of the alignment of texts and images within a batch."
            ),
            "LAMBDA_MMD": rules.key(
                0.0, weight, "Weight of the discrepancy (MMD) between domains."
            ),
            "ANCHORS_PER_CLASS": rules.key(
                1, rules.whole(1), "Image anchors per class; 1 is the class mean."
            ),
            "KMEANS_SEED": rules.key(
                0, rules.whole(0, 2**32 - 1), "Seed of the k-means that makes the anchors."
            ),
            "TEXT_SAMPLES": rules.key(
                "prompt",
                rules.one_of(*TEXT_SAMPLES),
                "Text of an image: prompt is the feature of its class; template (deep prompts "
                "only) is a template filled with the class name.",
            ),
            "STOCHASTIC_TARGETS": rules.key(
                "label",
                rules.one_of(*TARGETS),
                "Positives: label takes all of the same class, index only the same sample.",
            ),
            "STOCHASTIC_DIRECTIONS": rules.key(
                "both", rules.one_of(*DIRECTIONS), "Directions of the contrast within a batch."
            ),
            "MMD": mmd_options(widths),
        },
    )


def mmd_options(widths: object) -> dict:
    """The keys of TRAINER.CRAFT.MMD. widths: the rule of a list of positive numbers."""
    return {
        "DOMAINS": rules.key(
            "none",
            rules.one_of(*DOMAINS),
            "Samples to compare: unlabelled compares the labelled batch with a batch of the "
            "target's unlabelled images; group compares the groups of a class within the labelled "
            "batch, as a mean over the classes that have two.",
        ),
        "SPACE": rules.key(
            "anchor",
            rules.one_of(*SPACES),
            "Space of the comparison: anchor takes cosines to the text anchors, feature takes "
            "image features, probability takes class probabilities, logits takes class logits.",
        ),
        "NORMALISE": rules.key(
            "none",
            rules.one_of(*NORMALISATIONS),
            "Normalisation of each sample before the comparison: minmax maps every column to 0..1.",
            as_before=("none",),
        ),
        "ESTIMATOR": rules.key(
            "biased",
            rules.one_of(*ESTIMATORS),
            "biased is the V-statistic, never negative; unbiased is the U-statistic, which needs "
            "two samples on each side.",
        ),
        **bandwidth_options(widths),
        "KERNELS": rules.key(
            "mean",
            rules.one_of(*KERNELS),
            "How several Gaussians make one kernel: their mean or their sum.",
            as_before=("mean",),
        ),
    }


def bandwidth_options(widths: object) -> dict:
    """The keys of TRAINER.CRAFT.MMD that set the widths of the Gaussians."""
    return {
        "BANDWIDTH": rules.key(
            "median",
            rules.one_of(*BANDWIDTHS),
            "Widths σ of the Gaussians exp(-d² / 2σ²): median takes the median distance of the "
            "pooled sample times MULTIPLIERS, fixed takes SIGMAS, variances takes σ² from "
            "VARIANCES.",
        ),
        "MULTIPLIERS": rules.key(
            list(MULTIPLIERS), widths, "Factors of the median, one Gaussian each."
        ),
        "SIGMAS": rules.key([1.0], widths, "Widths of the Gaussians with BANDWIDTH fixed."),
        "VARIANCES": rules.key(
            list(VARIANCES),
            widths,
            "Squared widths a of the Gaussians exp(-d² / 2a) with BANDWIDTH variances.",
            as_before=(list(VARIANCES),),
        ),
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
