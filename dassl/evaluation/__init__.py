from dassl.evaluation.build import EVALUATOR_REGISTRY, build_evaluator
from dassl.evaluation.evaluator import (
    Classification,
    EvaluatorBase,
    GroupClassification,
    check_scores,
)
from dassl.evaluation.metrics import METRICS, Metric

__all__ = [
    "EVALUATOR_REGISTRY",
    "Classification",
    "EvaluatorBase",
    "GroupClassification",
    "METRICS",
    "Metric",
    "build_evaluator",
    "check_scores",
]
