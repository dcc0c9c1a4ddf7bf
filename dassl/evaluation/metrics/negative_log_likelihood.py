"""Negative log likelihood of the labels, in nats per image."""

from torch import Tensor
from torch.nn.functional import cross_entropy

from dassl.evaluation.metrics import METRICS, Metric


@METRICS.register("negative_log_likelihood")
class NegativeLogLikelihood(Metric):
    """Mean over the images of -log p(label), p being the softmax of the scores; 0 is the best."""

    higher_is_better = False

    def __init__(self) -> None:
        self.sum = 0.0
        self.total = 0

    def update(self, scores: Tensor, labels: Tensor) -> None:
        self.sum += float(cross_entropy(scores.double(), labels, reduction="sum"))
        self.total += len(labels)

    def value(self) -> float:
        return self.sum / max(self.total, 1)
