from dassl.evaluation.build import EVALUATOR_REGISTRY, build_evaluator
from dassl.evaluation.evaluator import (
    Classification,
    EvaluatorBase,
    GroupClassification,
    check_scores,
)
from dassl.evaluation.metrics import METRICS, Metric
from dassl.evaluation.openworld import OpenWorld

__all__ = [
    "EVALUATOR_REGISTRY",
    "Classification",
    "EvaluatorBase",
    "GroupClassification",
    "METRICS",
    "Metric",
    "OpenWorld",
    "build_evaluator",
    "check_scores",
]
