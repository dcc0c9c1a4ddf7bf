"""Values of a configuration that no trainer can work with."""

from dassl.config import rules
from dassl.evaluation import EVALUATOR_REGISTRY, METRICS
from dassl.utils import UserError


def check_basics(cfg) -> None:
    """Raise UserError for values that no trainer can work with, alone or together."""
    rules.check(cfg)
    optim, spec, test = cfg.OPTIM, cfg.INPUT, cfg.TEST
    if (
        optim.NAME == "sgd"
        and optim.SGD_NESTEROV
        and not (optim.MOMENTUM > 0 and optim.SGD_DAMPNING == 0)
    ):
        raise UserError(
            "OPTIM.SGD_NESTEROV is True: it needs OPTIM.MOMENTUM above 0 and OPTIM.SGD_DAMPNING 0"
        )
    if optim.LR_SCHEDULER == "multi_step" and min(optim.STEPSIZE) < 1:
        raise UserError(
            f"OPTIM.STEPSIZE is {optim.STEPSIZE}: with OPTIM.LR_SCHEDULER multi_step give the "
            "epochs at which the rate falls, such as (10, 20)"
        )
    if "gaussian_blur" in spec.TRANSFORMS and spec.GB_K // 2 >= min(spec.SIZE):
        raise UserError(
            f"INPUT.GB_K is {spec.GB_K}: set it to less than twice the picture's {min(spec.SIZE)} "
            "pixels (INPUT.SIZE)"
        )
    known = getattr(EVALUATOR_REGISTRY.get(test.EVALUATOR), "higher_is_better", None)
    if not (select_by := test.get("SELECT_BY", "")) or known is None:
        return
    further = test.get("METRICS", ())
    known = (*known, *(name for name in further if METRICS.get(name).higher_is_better))
    if select_by not in known:
        raise UserError(
            f"TEST.SELECT_BY is '{select_by}': with TEST.EVALUATOR {test.EVALUATOR} choose one of "
            f"{', '.join(known)}"
        )
