"""CRAFT as a mixin: `class CraftX(Craft, X)` adds anchors and alignment terms to any PromptTrainer X."""

import torch
from torch import Tensor
from yacs.config import CfgNode

from dassl.engine import TrainerXU
from trainers.base import Features
from trainers.craft.anchors import Anchors, image_anchors
from trainers.craft.losses import DIRECTIONS, TARGETS, static_alignment, stochastic_alignment
from trainers.craft.mmd import (
    BANDWIDTHS,
    ESTIMATORS,
    MULTIPLIERS,
    SAMPLES_NEEDED,
    SPACES,
    group_mmd2,
    mmd2,
    relative,
)
from trainers.errors import UserError
from trainers.options import rules
from trainers.parallel import gather

TEXT_SAMPLES = ("prompt", "template")
DOMAINS = ("none", "unlabelled", "group")


def extend_cfg(cfg: CfgNode) -> None:
    """Add TRAINER.CRAFT. A weight of 0 leaves its term out; with all 0 the trainer is its baseline, to the bit."""
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
                "Text of an image: prompt is the feature of its class; template (deep prompts only) is "
                "a template filled with the class name.",
            ),
            "STOCHASTIC_TARGETS": rules.key(
                "label",
                rules.one_of(*TARGETS),
                "Positives: label takes all of the same class, index only the same sample.",
            ),
            "STOCHASTIC_DIRECTIONS": rules.key(
                "both", rules.one_of(*DIRECTIONS), "Directions of the contrast within a batch."
            ),
            "MMD": {
                "DOMAINS": rules.key(
                    "none",
                    rules.one_of(*DOMAINS),
                    "Samples to compare: unlabelled compares the labelled batch with a batch of the target's "
                    "unlabelled images; group compares the groups of a class within the labelled batch, as a "
                    "mean over the classes that have two.",
                ),
                "SPACE": rules.key(
                    "anchor",
                    rules.one_of(*SPACES),
                    "Space of the comparison: cosines to the text anchors, image features, or class probabilities.",
                ),
                "ESTIMATOR": rules.key(
                    "biased",
                    rules.one_of(*ESTIMATORS),
                    "biased is the V-statistic, never negative; unbiased is the U-statistic, which needs two "
                    "samples on each side.",
                ),
                "BANDWIDTH": rules.key(
                    "median",
                    rules.one_of(*BANDWIDTHS),
                    "Widths σ of the Gaussians exp(-d² / 2σ²) whose mean is the kernel: median takes the median "
                    "distance of the pooled sample times MULTIPLIERS, fixed takes SIGMAS.",
                ),
                "MULTIPLIERS": rules.key(
                    list(MULTIPLIERS), widths, "Factors of the median, one kernel each."
                ),
                "SIGMAS": rules.key([1.0], widths, "Widths of the kernels with BANDWIDTH fixed."),
            },
        },
    )


class Craft:
    """Adds to `loss_terms` of the trainer it is mixed into, and knows of it only features, labels and anchors.

    The terms are in the log under their names, weights included.
    """

    def check_cfg(self, cfg: CfgNode) -> None:
        super().check_cfg(cfg)
        craft = cfg.TRAINER.CRAFT
        if craft.LAMBDA_MMD and craft.MMD.DOMAINS == "none":
            raise UserError(
                f"TRAINER.CRAFT.LAMBDA_MMD is {craft.LAMBDA_MMD} but MMD.DOMAINS is none: set it to unlabelled or group, or the weight to 0"
            )

    @classmethod
    def config_nodes(cls) -> tuple[str, ...]:
        return (*super().config_nodes(), "CRAFT")

    def build_model(self) -> None:
        super().build_model()
        self.craft = self.cfg.TRAINER.CRAFT
        if self.craft.LAMBDA_STOCHASTIC and self.cfg.DATALOADER.TRAIN_X.BATCH_SIZE == 1:
            print(
                "CRAFT: with batches of one image craft_stochastic is 0 at every step: raise DATALOADER.TRAIN_X.BATCH_SIZE to use it"
            )
        # Only training compares with anchors: a test of a thousand classes does not first encode their training images.
        self.anchors = (
            self._build_anchors()
            if self.craft.LAMBDA_STATIC and not self.cfg.get("EVAL_ONLY", False)
            else None
        )
        self._said: set[str] = set()

    # A step

    @property
    def trains_on_unlabelled(self) -> bool:
        """Whether a step takes a batch of the target domain, too."""
        return bool(self.craft.LAMBDA_MMD) and self.craft.MMD.DOMAINS == "unlabelled"

    def before_train(self) -> None:
        if self.craft.LAMBDA_MMD:
            self._check_samples()
        super().before_train()

    def run_epoch(self) -> None:
        """With unlabelled images as Dassl's TrainerXU does; without, the wrapped trainer's own."""
        TrainerXU.run_epoch(self) if self.trains_on_unlabelled else super().run_epoch()

    def forward_backward(self, batch_x: dict, batch_u: dict | None = None) -> dict[str, float]:
        """batch_u: of the target domain; nothing of it but its images is looked at."""
        self._unlabelled = None if batch_u is None else batch_u["img"].to(self.device)
        self._domains = (
            gather(batch_x["domain"].to(self.device)) if self.craft.MMD.DOMAINS == "group" else None
        )
        return super().forward_backward(batch_x)

    def loss_terms(self, features: Features, images: Tensor, labels: Tensor) -> dict[str, Tensor]:
        terms, craft = super().loss_terms(features, images, labels), self.craft
        own = {}
        if craft.LAMBDA_STATIC or craft.LAMBDA_STOCHASTIC:
            text = (
                features.text_of(labels)
                if craft.TEXT_SAMPLES == "prompt"
                else self.template_features(labels)
            )
        if craft.LAMBDA_STATIC:
            own["craft_static"] = craft.LAMBDA_STATIC * static_alignment(
                text, labels, self.anchors.features, self.anchors.labels, features.scale
            )
        if craft.LAMBDA_STOCHASTIC:
            own["craft_stochastic"] = craft.LAMBDA_STOCHASTIC * stochastic_alignment(
                features.image,
                text,
                labels,
                features.scale,
                craft.STOCHASTIC_TARGETS,
                craft.STOCHASTIC_DIRECTIONS,
            )
        if craft.LAMBDA_MMD:
            own["craft_mmd"] = craft.LAMBDA_MMD * self._discrepancy(features, labels)
        idle = (
            {name for name, term in own.items() if not term.requires_grad} - self._said
            if torch.is_grad_enabled()
            else set()
        )
        for key, value, names in (
            ("TEXT_SAMPLES", craft.TEXT_SAMPLES, idle - {"craft_mmd"}),
            ("MMD.SPACE", craft.MMD.SPACE, idle & {"craft_mmd"}),
        ):
            if names:
                print(
                    f"CRAFT: {' and '.join(sorted(names))} cannot teach this method anything with TRAINER.CRAFT.{key} '{value}': none of the features "
                    "compared depends on what it learns"
                )
        self._said |= idle
        return terms | own

    def _discrepancy(self, features: Features, labels: Tensor) -> Tensor:
        """MMD^2 between the batch and the target domain's, or between the groups of the batch."""
        mmd = self.craft.MMD
        options = {
            "estimator": mmd.ESTIMATOR,
            "bandwidth": mmd.BANDWIDTH,
            "multipliers": mmd.MULTIPLIERS,
            "sigmas": mmd.SIGMAS,
        }
        own = relative(features.image, features.text, features.scale, mmd.SPACE)
        if mmd.DOMAINS == "group":
            return group_mmd2(own, labels, self._domains, **options)
        other = self.more_features(self._unlabelled, features).gathered()
        return mmd2(own, relative(other.image, other.text, other.scale, mmd.SPACE), **options)

    def _check_samples(self) -> None:
        """Raises UserError if what MMD compares is not there, or too few of it in some batch, before the first step."""
        mmd, least = self.craft.MMD, SAMPLES_NEEDED[self.craft.MMD.ESTIMATOR]
        loaders = [("TRAIN_X", self.train_loader_x)]
        if mmd.DOMAINS == "group":
            domains: dict[int, set[int]] = {}
            for item in self.dm.dataset.train_x:
                domains.setdefault(item.label, set()).add(item.domain)
            if all(len(found) < 2 for found in domains.values()):
                raise UserError(
                    f"TRAINER.CRAFT.MMD.DOMAINS is group, but no class of {self.cfg.DATASET.NAME} has training images of two domains: "
                    "use a data set with groups, or set it to unlabelled"
                )
            least *= 2
        else:
            if self.train_loader_u is None:
                raise UserError(
                    f"TRAINER.CRAFT.MMD.DOMAINS is unlabelled, but {self.cfg.DATASET.NAME} has no unlabelled images: name the target "
                    "domain's data set in DATASET.TARGET"
                )
            loaders.append(
                (
                    "TRAIN_X" if self.cfg.DATALOADER.TRAIN_U.SAME_AS_X else "TRAIN_U",
                    self.train_loader_u,
                )
            )
        for node, loader in loaders:
            # Batches of groups may miss one; only those that never can hold two groups are refused.
            size = loader.batch_size if mmd.DOMAINS == "group" else smallest_batch(loader)
            if size < least:
                raise UserError(
                    f"a batch of DATALOADER.{node} has {size} image(s), but MMD with the {mmd.ESTIMATOR} estimator needs {least}: "
                    f"change BATCH_SIZE, set DATALOADER.{node}.DROP_LAST True, or another TRAINER.CRAFT.MMD.ESTIMATOR"
                )

    def _build_anchors(self) -> Anchors:
        """From exactly the images and classes this run trains on, without augmentation."""
        items = self.dm.dataset.train_x
        transform = self.transform_of(self.test_loader, is_train=False)
        return image_anchors(
            self.describe_images(items, transform),
            lambda: self.encoded_images(items, transform),
            self.craft.ANCHORS_PER_CLASS,
            self.craft.KMEANS_SEED,
            self.cache_folder("anchors"),
        ).to(self.device)


def smallest_batch(loader) -> int:
    """Images in the smallest batch of a loader's epoch."""
    left = len(loader.sampler) % loader.batch_size
    return loader.batch_size if loader.drop_last or not left else left
