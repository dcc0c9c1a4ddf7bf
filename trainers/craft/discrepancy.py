"""CRAFT's third term: the maximum mean discrepancy of two domains, through the text anchors."""

from collections.abc import Iterable, Sized
from typing import TYPE_CHECKING, cast

from torch import Tensor
from torch.utils.data import DataLoader
from yacs.config import CfgNode

from trainers.craft.mmd import group_mmd2, mmd2, relative, samples_needed
from trainers.errors import UserError
from trainers.step import Step
from trainers.terms import Term, register

if TYPE_CHECKING:
    from trainers.base import PromptTrainer


@register
class DomainDiscrepancy(Term):
    """MMD^2 between the batch and the target domain's, or between the groups of the batch."""

    name = "craft_mmd"
    node = "CRAFT"

    def __init__(self, options: CfgNode):
        super().__init__(options)
        self.unlabelled = options.MMD.DOMAINS == "unlabelled"
        self.domains = options.MMD.DOMAINS == "group"

    @classmethod
    def weight(cls, options: CfgNode) -> float:
        return options.LAMBDA_MMD

    @classmethod
    def check_cfg(cls, cfg: CfgNode) -> None:
        craft = cfg.TRAINER.CRAFT
        if craft.MMD.DOMAINS == "none":
            raise UserError(
                f"TRAINER.CRAFT.LAMBDA_MMD is {craft.LAMBDA_MMD} but MMD.DOMAINS is none: set it "
                "to unlabelled or group, or the weight to 0"
            )

    def inputs(self) -> str:
        return f"TRAINER.CRAFT.MMD.SPACE '{self.options.MMD.SPACE}'"

    def forward(self, step: Step) -> Tensor:
        mmd, features = self.options.MMD, step.features
        options = {
            "estimator": mmd.ESTIMATOR,
            "bandwidth": mmd.BANDWIDTH,
            "multipliers": mmd.MULTIPLIERS,
            "sigmas": mmd.SIGMAS,
            "variances": mmd.VARIANCES,
            "kernels": mmd.KERNELS,
            "normalise": mmd.NORMALISE,
        }
        sample = relative(features.image, features.text, features.scale, mmd.SPACE)
        if self.domains:
            if step.domains is None:
                raise ValueError("this step has no domains to tell groups by")
            return group_mmd2(sample, step.labels, step.domains, **options)
        target = step.unlabelled_features
        return mmd2(sample, relative(target.image, target.text, target.scale, mmd.SPACE), **options)

    def check_data(self, trainer: "PromptTrainer") -> None:
        """Raise UserError if the domains are missing, or have too few images in some batch."""
        least = samples_needed(self.options.MMD.ESTIMATOR, self.options.MMD.NORMALISE)
        if self.domains:
            self._check_groups(trainer)
            # Batches of groups may miss one; only those that never can hold two are refused.
            self._check_batch("TRAIN_X", trainer.train_loader_x.batch_size, 2 * least)
            return
        if trainer.train_loader_u is None:
            raise UserError(
                f"TRAINER.CRAFT.MMD.DOMAINS is unlabelled, but {trainer.cfg.DATASET.NAME} has no "
                "unlabelled images: name the target domain's data set in DATASET.TARGET"
            )
        same = trainer.cfg.DATALOADER.TRAIN_U.SAME_AS_X
        self._check_batch("TRAIN_X", smallest_batch(trainer.train_loader_x), least)
        node = "TRAIN_X" if same else "TRAIN_U"
        self._check_batch(node, smallest_batch(trainer.train_loader_u), least)

    def _check_groups(self, trainer: "PromptTrainer") -> None:
        domains = domains_of_classes(trainer.dm.dataset.train_x)
        if all(len(of_class) < 2 for of_class in domains.values()):
            raise UserError(
                f"TRAINER.CRAFT.MMD.DOMAINS is group, but no class of {trainer.cfg.DATASET.NAME} "
                "has training images of two domains: use a data set with groups, or set it to "
                "unlabelled"
            )

    def _check_batch(self, node: str, size: int, least: int) -> None:
        """node: the loader's under DATALOADER; size: images in its smallest batch."""
        if size < least:
            mmd = self.options.MMD
            minmax = mmd.NORMALISE == "minmax"
            way = "NORMALISE minmax" if minmax else f"the {mmd.ESTIMATOR} estimator"
            raise UserError(
                f"a batch of DATALOADER.{node} has {size} image(s), but MMD with {way} needs "
                f"{least}: change BATCH_SIZE, set DATALOADER.{node}.DROP_LAST True, or another "
                f"TRAINER.CRAFT.MMD.{'NORMALISE' if minmax else 'ESTIMATOR'}"
            )


def domains_of_classes(items: Iterable) -> dict[int, set[int]]:
    """{label: the domains that its images have}."""
    domains: dict[int, set[int]] = {}
    for item in items:
        domains.setdefault(item.label, set()).add(item.domain)
    return domains


def smallest_batch(loader: DataLoader) -> int:
    """Images in the smallest batch of a loader's epoch."""
    size = loader.batch_size or 1
    rest = len(cast(Sized, loader.sampler)) % size
    return size if loader.drop_last or not rest else rest
