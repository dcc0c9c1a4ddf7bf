from dassl.evaluation.evaluator import Classification, EvaluatorBase, GroupClassification
from dassl.evaluation.openworld import OpenWorld
from dassl.utils import Registry

EVALUATOR_REGISTRY = Registry("EVALUATOR")
for _evaluator in (Classification, GroupClassification, OpenWorld):
    EVALUATOR_REGISTRY.register()(_evaluator)


def build_evaluator(cfg, **kwargs) -> EvaluatorBase:
    """The evaluator named TEST.EVALUATOR. Raises UserError for an unknown name."""
    return EVALUATOR_REGISTRY.get(cfg.TEST.EVALUATOR)(cfg, **kwargs)
