"""Learning rate per epoch: step, multi-step or cosine, after an optional warm-up."""

import logging

from torch.optim import Optimizer
from torch.optim.lr_scheduler import CosineAnnealingLR, LRScheduler, MultiStepLR, StepLR

from dassl.utils import check_availability
from dassl.utils.tensorfile import Opaque
from dassl.utils.torchtools import fitting

log = logging.getLogger(__name__)

AVAI_SCHEDS = ["single_step", "multi_step", "cosine"]
AVAI_WARMUPS = ["constant", "linear"]


class _Warmup:
    """Sets the rates of the first `warmup_epoch` epochs, then hands over to `successor`.

    The successor's first own epoch (its base rate) is epoch `warmup_epoch`; each later step is the
    successor's.
    """

    def __init__(self, optimizer: Optimizer, successor: LRScheduler, warmup_epoch: int):
        self.optimizer, self.successor, self.warmup_epoch = optimizer, successor, warmup_epoch
        self.last_epoch = 0
        self._set(self.rates())

    def rates(self) -> list[float]:
        raise NotImplementedError

    def step(self) -> None:
        """Go to the next epoch's rates."""
        if self.last_epoch >= self.warmup_epoch:
            self.successor.step()
            return
        self.last_epoch += 1
        self._set(
            self.rates() if self.last_epoch < self.warmup_epoch else self.successor.get_last_lr()
        )

    def _set(self, rates: list[float]) -> None:
        for group, rate in zip(self.optimizer.param_groups, rates, strict=True):
            group["lr"] = rate

    def get_last_lr(self) -> list[float]:
        return [group["lr"] for group in self.optimizer.param_groups]

    def state_dict(self) -> dict:
        """Plain data only, unlike upstream's, which pickled the successor and its optimizer."""
        return {"last_epoch": self.last_epoch, "successor": self.successor.state_dict()}

    def load_state_dict(self, state: dict) -> None:
        """Take a state of this class, or of upstream's, which holds the successor itself."""
        successor = state["successor"]
        if isinstance(successor, Opaque):
            successor = successor.state
        self.last_epoch = state["last_epoch"]
        self.successor.load_state_dict(fitting(successor, self.successor.state_dict()))


class ConstantWarmupScheduler(_Warmup):
    """Every warm-up epoch at `cons_lr`."""

    def __init__(
        self, optimizer: Optimizer, successor: LRScheduler, warmup_epoch: int, cons_lr: float
    ):
        self.cons_lr = cons_lr
        super().__init__(optimizer, successor, warmup_epoch)

    def rates(self) -> list[float]:
        return [self.cons_lr for _ in self.successor.base_lrs]


class LinearWarmupScheduler(_Warmup):
    """The first epoch at `min_lr`, then epoch/warmup_epoch of the base rate."""

    def __init__(
        self, optimizer: Optimizer, successor: LRScheduler, warmup_epoch: int, min_lr: float
    ):
        self.min_lr = min_lr
        super().__init__(optimizer, successor, warmup_epoch)

    def rates(self) -> list[float]:
        if self.last_epoch == 0:
            return [self.min_lr for _ in self.successor.base_lrs]
        return [rate * self.last_epoch / self.warmup_epoch for rate in self.successor.base_lrs]


def build_lr_scheduler(optimizer: Optimizer, optim_cfg) -> LRScheduler | _Warmup:
    """Build the scheduler of `optim_cfg` (cfg.OPTIM); call its step() once per epoch.

    With WARMUP_RECOUNT the main schedule starts at epoch 0 when the warm-up ends, so that it never
    reaches its last WARMUP_EPOCH epochs; without, it continues from epoch WARMUP_EPOCH. Raises
    UserError for unknown names.
    """
    name, max_epoch, warmup = optim_cfg.LR_SCHEDULER, optim_cfg.MAX_EPOCH, optim_cfg.WARMUP_EPOCH
    check_availability(name, AVAI_SCHEDS, "lr scheduler")
    if name == "cosine":
        scheduler = CosineAnnealingLR(optimizer, float(max_epoch))
    elif name == "multi_step":
        stepsize = optim_cfg.STEPSIZE
        if not isinstance(stepsize, (list, tuple)):
            raise TypeError(f"OPTIM.STEPSIZE of multi_step is a list of epochs, not {stepsize!r}")
        scheduler = MultiStepLR(optimizer, list(stepsize), optim_cfg.GAMMA)
    else:
        stepsize = optim_cfg.STEPSIZE
        last = stepsize[-1] if isinstance(stepsize, (list, tuple)) else stepsize
        scheduler = StepLR(optimizer, last if last > 0 else max_epoch, optim_cfg.GAMMA)
    if warmup <= 0:
        return scheduler
    check_availability(optim_cfg.WARMUP_TYPE, AVAI_WARMUPS, "warm-up type")
    if max_epoch <= warmup:
        log.warning(
            f"Note: OPTIM.MAX_EPOCH is {max_epoch}, all of it warm-up at a tiny learning rate "
            f"(OPTIM.WARMUP_EPOCH {warmup}), so almost nothing will be learned; set "
            "OPTIM.WARMUP_EPOCH 0 for so short a run"
        )
    if not optim_cfg.WARMUP_RECOUNT:
        scheduler.last_epoch = warmup
    if optim_cfg.WARMUP_TYPE == "constant":
        return ConstantWarmupScheduler(optimizer, scheduler, warmup, optim_cfg.WARMUP_CONS_LR)
    return LinearWarmupScheduler(optimizer, scheduler, warmup, optim_cfg.WARMUP_MIN_LR)
