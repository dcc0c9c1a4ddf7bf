"""Optimizers by name."""

from collections.abc import Iterable

import torch
from torch import nn, optim

from dassl.optim.radam import RAdam
from dassl.utils import UserError, check_availability

AVAI_OPTIMS = ["adam", "amsgrad", "sgd", "rmsprop", "radam", "adamw"]


def build_optimizer(
    model: nn.Module | Iterable, optim_cfg, param_groups: list[dict] | None = None
) -> optim.Optimizer:
    """The optimizer that `optim_cfg` (cfg.OPTIM) names, over a model, parameters or groups, or
    `param_groups`.

    With STAGED_LR the children of the model that NEW_LAYERS does not name learn at LR *
    BASE_LR_MULT. Raises UserError for an unknown name, of an optimizer or in NEW_LAYERS.
    """
    name, lr, decay = optim_cfg.NAME, optim_cfg.LR, optim_cfg.WEIGHT_DECAY
    check_availability(name, AVAI_OPTIMS, "optimizer")
    if param_groups is None:
        param_groups = _staged(model, optim_cfg) if optim_cfg.STAGED_LR else model
        if isinstance(param_groups, nn.Module):
            param_groups = param_groups.parameters()
    if name == "sgd":
        return optim.SGD(
            param_groups,
            lr=lr,
            momentum=optim_cfg.MOMENTUM,
            weight_decay=decay,
            dampening=optim_cfg.SGD_DAMPNING,
            nesterov=optim_cfg.SGD_NESTEROV,
        )
    if name == "rmsprop":
        return optim.RMSprop(
            param_groups,
            lr=lr,
            momentum=optim_cfg.MOMENTUM,
            weight_decay=decay,
            alpha=optim_cfg.RMSPROP_ALPHA,
        )
    betas = (optim_cfg.ADAM_BETA1, optim_cfg.ADAM_BETA2)
    if name == "radam":
        return RAdam(param_groups, lr=lr, weight_decay=decay, betas=betas)
    eps = optim_cfg.get("ADAM_EPS", 1e-8)
    if name == "adamw":
        return optim.AdamW(param_groups, lr=lr, weight_decay=decay, betas=betas, eps=eps)
    return optim.Adam(
        param_groups, lr=lr, weight_decay=decay, betas=betas, eps=eps, amsgrad=name == "amsgrad"
    )


def _staged(model: nn.Module, optim_cfg) -> list[dict]:
    if not isinstance(model, nn.Module):
        raise TypeError("OPTIM.STAGED_LR needs the whole model, not its parameters")
    model = model.module if isinstance(model, nn.DataParallel) else model
    parts = [name for name, _ in model.named_children()]
    if unknown := [name for name in optim_cfg.NEW_LAYERS if name not in parts]:
        raise UserError(
            f"OPTIM.NEW_LAYERS names '{unknown[0]}': the model's parts are "
            f"{', '.join(parts) or 'not named, set OPTIM.STAGED_LR False'}"
        )
    groups: dict[bool, list[torch.nn.Parameter]] = {
        False: list(model.parameters(recurse=False)),
        True: [],
    }
    for name, child in model.named_children():
        groups[name in optim_cfg.NEW_LAYERS].extend(child.parameters())
    return [
        {"params": groups[False], "lr": optim_cfg.LR * optim_cfg.BASE_LR_MULT},
        {"params": groups[True]},
    ]
