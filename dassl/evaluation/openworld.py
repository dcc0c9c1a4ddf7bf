"""Base and new classes tested together, by a model that does not know which half an image is of.

Zhou et al. (DeCoOp), ICML 2024, arXiv 2406.00345; Hua et al. (OpenworldAUC), ICML 2025, arXiv
2505.05180.
"""

import logging
from collections import OrderedDict

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score

from dassl.evaluation.evaluator import Classification
from dassl.utils import UserError

log = logging.getLogger(__name__)


def openworld_auc(
    base: tuple[NDArray, NDArray], new: tuple[NDArray, NDArray]
) -> tuple[float, float]:
    """(AUROC of base against new images, OpenworldAUC), in percent.

    base, new: (how much an image looks like a base class (N,), whether its class is found among
    those of its own half (N,)). AUROC: how often a base image looks more like base than a new one
    does. OpenworldAUC: how often it does, and both are classified right. Ties count half.
    """
    scores = np.concatenate([base[0], new[0]])
    of_base = np.arange(len(scores)) < len(base[0])
    found = np.concatenate([base[1], new[1]]).astype(bool)
    pairs = found[of_base].sum() * found[~of_base].sum() / (len(base[0]) * len(new[0]))
    among_found = roc_auc_score(of_base[found], scores[found]) if pairs else 0.0
    return 100.0 * float(roc_auc_score(of_base, scores)), 100.0 * float(pairs * among_found)


class OpenWorld(Classification):
    """Classification over all classes, and how well base and new ones are told apart.

    Adds to the results, in percent: base_accuracy and new_accuracy (of the images of each half,
    among all classes), auroc and openworld_auc. An image looks as much like a base class as the
    highest probability that one has, of the softmax over all classes.
    """

    higher_is_better = (
        *Classification.higher_is_better,
        *("base_accuracy", "new_accuracy", "auroc", "openworld_auc"),
    )
    _base: frozenset[int] | None = None

    def use_dataset(self, dataset) -> None:
        """Take from the data set which labels are base classes (`base_labels`).

        Raises UserError for a data set without two halves of its classes.
        """
        labels = getattr(dataset, "base_labels", None)
        if not labels or len(labels) == dataset.num_classes:
            raise UserError(
                "TEST.EVALUATOR is OpenWorld, which needs base and new classes together, but "
                f"DATASET.SUBSAMPLE_CLASSES is {self.cfg.DATASET.get('SUBSAMPLE_CLASSES', 'all')} "
                f"of {self.cfg.DATASET.NAME}: set it to all, for a data set of two classes or more"
            )
        self._base = frozenset(labels)

    def reset(self) -> None:
        super().reset()
        self._looks: list[float] = []
        self._found: list[bool] = []

    def process(self, mo: torch.Tensor, gt: torch.Tensor) -> None:
        super().process(mo, gt)
        if self._base is None:
            raise UserError(
                "TEST.EVALUATOR is OpenWorld, but the data set was not given to it: call "
                "use_dataset first, or set it to Classification"
            )
        base = torch.tensor([label in self._base for label in range(mo.shape[1])], device=mo.device)
        self._looks += mo.double().softmax(1)[:, base].amax(1).tolist()
        own_half = base[None] == base[gt][:, None]
        found = mo.masked_fill(~own_half, -torch.inf).argmax(1) == gt
        self._found += found.tolist()

    def evaluate(self) -> OrderedDict[str, float]:
        results = super().evaluate()
        hit = np.equal(self._y_true, self._y_pred)
        looks, found = np.array(self._looks), np.array(self._found)
        base = np.array([label in (self._base or ()) for label in self._y_true], bool)
        for half, images in (("base", base), ("new", ~base)):
            if not images.any():
                raise UserError(
                    f"the test part of {self.cfg.DATASET.NAME} has no image of a {half} class: "
                    "TEST.EVALUATOR OpenWorld needs images of both halves"
                )
            results[f"{half}_accuracy"] = 100.0 * float(hit[images].mean())
        sides = [(looks[images], found[images]) for images in (base, ~base)]
        results["auroc"], results["openworld_auc"] = openworld_auc(sides[0], sides[1])
        for name in ("base_accuracy", "new_accuracy", "auroc", "openworld_auc"):
            log.info(f"* {name}: {results[name]:.1f}%")
        return results
