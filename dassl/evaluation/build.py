from dassl.evaluation.evaluator import Classification, EvaluatorBase
from dassl.utils import Registry

EVALUATOR_REGISTRY = Registry("EVALUATOR")
EVALUATOR_REGISTRY.register()(Classification)


def build_evaluator(cfg, **kwargs) -> EvaluatorBase:
    """The evaluator named TEST.EVALUATOR. Raises UserError for an unknown name."""
    return EVALUATOR_REGISTRY.get(cfg.TEST.EVALUATOR)(cfg, **kwargs)
