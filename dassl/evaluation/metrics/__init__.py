"""Further metrics of a test, named by TEST.METRICS. Each module holds one; all of them are found
here.
"""

import pkgutil

from torch import Tensor

from dassl.program import import_file
from dassl.utils import Registry

# What the result of a test holds anyway: of groups in the second line, of all classes together in
# the third.
BUILT_IN = ("accuracy", "error_rate", "macro_f1", "perclass_accuracy", "total", "correct")
BUILT_IN += ("worst_group_accuracy", "gap", "adjusted_accuracy", "groups")
BUILT_IN += ("base_accuracy", "new_accuracy", "auroc", "openworld_auc")

METRICS = Registry("METRIC", reserved=BUILT_IN)


class Metric:
    """A number that a test computes from the scores of all its images.

    higher_is_better: whether TEST.SELECT_BY may choose a model by it. percent: whether one digit
    after the point is enough to print it; else four digits are printed.
    """

    higher_is_better = True
    percent = False

    def update(self, scores: Tensor, labels: Tensor) -> None:
        """Take a batch: scores (B, classes), finite; labels (B,), whole numbers, on the same
        device.
        """
        raise NotImplementedError

    def value(self) -> float:
        """The metric over all batches so far."""
        raise NotImplementedError


for _module in pkgutil.iter_modules(__path__):
    import_file(f"{__name__}.{_module.name}")
