from dassl.evaluation.build import EVALUATOR_REGISTRY, build_evaluator
from dassl.evaluation.evaluator import (
    Classification,
    EvaluatorBase,
    GroupClassification,
    check_scores,
)

__all__ = [
    "EVALUATOR_REGISTRY",
    "Classification",
    "EvaluatorBase",
    "GroupClassification",
    "build_evaluator",
    "check_scores",
]
