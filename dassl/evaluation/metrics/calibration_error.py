"""Expected calibration error, in percent (Guo et al., "On calibration of modern neural networks",
ICML 2017).
"""

import torch
from torch import Tensor

from dassl.evaluation.metrics import METRICS, Metric

BINS = 15  # of equal width, as in the paper


@METRICS.register("calibration_error")
class CalibrationError(Metric):
    """Mean distance between confidence and accuracy over bins of confidence, weighted by the bins'
    images.

    Confidence is the largest softmax probability of an image.
    """

    higher_is_better = False
    percent = True

    def __init__(self) -> None:
        self.images = torch.zeros(BINS, dtype=torch.float64)
        self.correct = torch.zeros(BINS, dtype=torch.float64)
        self.confidence = torch.zeros(BINS, dtype=torch.float64)

    def update(self, scores: Tensor, labels: Tensor) -> None:
        confidence, predicted = scores.double().softmax(1).max(1)
        correct = (predicted == labels).double().cpu()
        confidence = confidence.cpu()
        # A bin holds its upper end: (0, 1/15], (1/15, 2/15], ...
        number = (confidence * BINS).ceil().long().sub(1).clamp(0, BINS - 1)
        self.images.index_add_(0, number, torch.ones_like(confidence))
        self.correct.index_add_(0, number, correct)
        self.confidence.index_add_(0, number, confidence)

    def value(self) -> float:
        distance = (self.correct - self.confidence).abs().sum()
        return 100.0 * float(distance) / max(float(self.images.sum()), 1.0)
