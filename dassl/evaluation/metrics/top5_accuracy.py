"""Accuracy of the five best classes, in percent."""

from torch import Tensor

from dassl.evaluation.metrics import METRICS, Metric

K = 5


@METRICS.register("top5_accuracy")
class Top5Accuracy(Metric):
    """Percentage of images whose label is among the K classes with the highest scores."""

    percent = True

    def __init__(self) -> None:
        self.hits = self.total = 0

    def update(self, scores: Tensor, labels: Tensor) -> None:
        best = scores.topk(min(K, scores.shape[1]), dim=1).indices
        self.hits += int((best == labels[:, None]).sum())
        self.total += len(labels)

    def value(self) -> float:
        return 100.0 * self.hits / max(self.total, 1)
