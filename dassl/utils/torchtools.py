"""Checkpoints: written atomically, read without running code."""

import logging
import math
import os
import os.path as osp
import re
import shutil
from collections.abc import Iterable, Mapping
from contextlib import suppress
from numbers import Number

import torch
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from dassl import files
from dassl.utils.tensorfile import Opaque, Unreadable, read_file, unread
from dassl.utils.tools import UserError, atomic_write, mkdir_if_missing, unreadable

log = logging.getLogger(__name__)


def load_checkpoint(fpath: str, where: str = "--model-dir, --load-epoch or RESUME") -> dict:
    """Read a checkpoint to the CPU without running anything in it; say what else it holds.

    Checkpoints of upstream Dassl hold a scheduler with its optimizer: these come as `Opaque`.
    where: what the user would correct if the file does not exist. Raises UserError for a file that
    is missing, cannot be read, is damaged, or holds no tensors by name.
    """
    if not fpath or not osp.isfile(fpath):
        there: list[int] = []
        with suppress(OSError):  # no folder
            there = [epoch for epoch, _ in _numbered(osp.dirname(fpath))]
        named = ", ".join(map(str, reversed(there)))
        more = f"; its folder has the epochs {named}" if there else ""
        raise UserError(f"checkpoint '{fpath}' does not exist: check {where}{more}")
    try:
        content, skipped = read_file(fpath)
    except (Unreadable, OSError, MemoryError) as error:
        raise unreadable(f"checkpoint '{fpath}'", error) or UserError(
            f"checkpoint '{fpath}' cannot be read: it is truncated or not a checkpoint; "
            "copy it again, or move it away"
        ) from None
    weights = content.get("state_dict", content) if isinstance(content, dict) else None
    named = isinstance(weights, dict) and all(isinstance(name, str) for name in weights)
    if not named or not all(isinstance(value, torch.Tensor) for value in weights.values()):
        raise UserError(
            f"'{fpath}' is not a checkpoint: it holds no tensors by name; give a file that a "
            "training run wrote"
        )
    if skipped:
        log.info(unread(fpath, skipped))
    return content


def save_checkpoint(
    state: dict,
    save_dir: str,
    is_best: bool = False,
    remove_module_from_state_dict: bool = True,
    model_name: str = "",
) -> None:
    """Write `state` (with keys state_dict and epoch) to `save_dir`, then name it in the text file
    `checkpoint`.

    Raises UserError if it cannot be written; the files there before are then intact.
    """
    mkdir_if_missing(save_dir)
    if remove_module_from_state_dict:
        state = {**state, "state_dict": _plain_names(state["state_dict"])}
    name = model_name or f"model.pth.tar-{state['epoch']}"
    path = osp.join(save_dir, name)
    atomic_write(path, lambda file: torch.save(state, file))
    log.info(f"Checkpoint saved to {path}")
    if is_best and name != "model-best.pth.tar":
        atomic_write(osp.join(save_dir, "model-best.pth.tar"), lambda file: torch.save(state, file))
        log.info(f'Best checkpoint saved to "{osp.join(save_dir, "model-best.pth.tar")}"')
    atomic_write(osp.join(save_dir, files.LATEST), f"{name}\n".encode())


def copy_checkpoint(path: str, save_dir: str) -> None:
    """Copy the checkpoint `path` to `save_dir`, whole or not at all, and name it there."""
    load_checkpoint(path)  # so that a damaged file is refused and not spread
    mkdir_if_missing(save_dir)
    with open(path, "rb") as source:
        atomic_write(
            osp.join(save_dir, osp.basename(path)), lambda file: shutil.copyfileobj(source, file)
        )
    atomic_write(osp.join(save_dir, files.LATEST), f"{osp.basename(path)}\n".encode())


def load_state(model: nn.Module, state_dict: dict, fpath: str) -> None:
    """Strict load.

    Raises UserError naming the first key that is missing, unknown or of another shape.
    """
    mine = model.state_dict()
    state_dict = (
        _plain_names(state_dict)
        if not any(key.startswith("module.") for key in mine)
        else state_dict
    )
    for key, value in state_dict.items():
        if key in mine and mine[key].shape != value.shape:
            raise UserError(
                f"checkpoint '{fpath}' does not fit: '{key}' is {tuple(value.shape)} there and "
                f"{tuple(mine[key].shape)} in this model; use the config (classes, sizes) it was "
                "trained with"
            )
    for keys, which in (
        (mine.keys() - state_dict.keys(), "lacks"),
        (state_dict.keys() - mine.keys(), "has an unknown key"),
    ):
        if keys:
            raise UserError(
                f"checkpoint '{fpath}' does not fit: it {which} '{sorted(keys)[0]}'; "
                "use the trainer and config it was trained with"
            )
    model.load_state_dict(state_dict)


def resume_from_checkpoint(fdir: str, model: nn.Module, optimizer=None, scheduler=None) -> int:
    """Restore model, optimizer and scheduler from the checkpoint that `fdir`/checkpoint names ->
    epochs done.
    """
    path = osp.join(fdir, _named(osp.join(fdir, files.LATEST)))
    return restore(load_checkpoint(path), path, model, optimizer, scheduler)


def restore(checkpoint: dict, path: str, model: nn.Module, optimizer=None, scheduler=None) -> int:
    """Put a loaded checkpoint into its objects -> epochs done.

    Raises UserError if it does not fit.
    """
    lacking = next((key for key in ("state_dict", "epoch") if key not in checkpoint), "")
    if not lacking and (type(checkpoint["epoch"]) is not int or checkpoint["epoch"] < 0):
        lacking = "epoch"
    if lacking:
        raise UserError(
            f"checkpoint '{path}' lacks '{lacking}', so no run can go on from it: load it with "
            "--model-dir, or move it away"
        )
    load_state(model, checkpoint["state_dict"], path)
    for what, target in (("optimizer", optimizer), ("scheduler", scheduler)):
        if target is None or checkpoint.get(what) is None:
            continue
        try:
            state = checkpoint[what]
            if what == "optimizer":
                _check_groups(state)
            elif isinstance(target, LRScheduler):
                state = fitting(state, target.state_dict())
            target.load_state_dict(state)
            if what == "optimizer":
                _check_slots(target)
        except (ValueError, LookupError, AttributeError, TypeError, RuntimeError) as error:
            raise UserError(
                f"checkpoint '{path}' does not fit: its {what} state is of another kind "
                f"({error}); continue with the OPTIM config it was trained with"
            ) from None
    return checkpoint["epoch"]


def fitting(state: Mapping, present: Mapping) -> dict:
    """Return the values of a stored scheduler `state` that its present state has, too.

    Raises ValueError for a value of another kind: text for a number, a list of another length.
    """
    taken = {}
    for key, value in present.items():
        if key in state and not isinstance(state[key], Opaque):
            if not _alike(state[key], value):
                raise ValueError(f"'{key}' is not such as {value!r}")
            taken[key] = type(value)(state[key]) if isinstance(value, dict) else state[key]
    return taken


def _alike(value: object, present: object) -> bool:
    """Whether a value of a file can replace the present one."""
    if isinstance(present, dict):
        return isinstance(value, dict) and all(
            isinstance(one, int) for pair in value.items() for one in pair
        )
    if isinstance(present, (list, tuple)):
        same = isinstance(value, (list, tuple)) and len(value) == len(present)
        return same and all(map(_alike, value, present))
    if isinstance(present, (int, float)) and not isinstance(present, bool):
        return isinstance(value, (int, float)) and math.isfinite(value)
    return value is None or isinstance(value, (bool, int, float, str))


def _check_groups(state: Mapping) -> None:
    """Raise ValueError unless the settings of an optimizer's parameter groups are plain values."""
    for group in state["param_groups"]:
        for key, value in group.items():
            plain = (Number, str, tuple, list, torch.Tensor, type(None))
            if isinstance(value, Opaque) or not isinstance(value, plain):
                raise ValueError(f"'{key}' is no number")
            if key == "lr" and not (
                isinstance(value, (int, float, torch.Tensor)) and math.isfinite(value)
            ):
                raise ValueError(f"'{key}' is {value!r}")


def _check_slots(optimizer: Optimizer) -> None:
    """Raise ValueError if the state of a parameter is of another shape than the parameter."""
    for parameter, slots in optimizer.state.items():
        for name, value in slots.items():
            if isinstance(value, torch.Tensor) and value.dim() and value.shape != parameter.shape:
                raise ValueError(f"'{name}' is {tuple(value.shape)} for {tuple(parameter.shape)}")


def load_pretrained_weights(model: nn.Module, weight_path: str) -> None:
    """Load weights that fit by name and shape, and log the others.

    Raises UserError as load_checkpoint does.
    """
    checkpoint = load_checkpoint(weight_path, "MODEL.INIT_WEIGHTS")
    state_dict = _plain_names(checkpoint.get("state_dict", checkpoint))
    present = model.state_dict()
    fits = {
        key: value
        for key, value in state_dict.items()
        if key in present and present[key].shape == value.shape
    }
    if not fits:
        log.warning(
            f"Warning: nothing in '{weight_path}' fits the model by name and shape: it is left as "
            "it was"
        )
        return
    model.load_state_dict({**present, **fits})
    log.info(f"Loaded {len(fits)} of the model's {len(present)} tensors from '{weight_path}'")
    if unused := [key for key in state_dict if key not in fits]:
        log.info(f"Not used, since name or shape differ: {', '.join(unused)}")


def count_num_param(model: nn.Module | None = None, params: Iterable | None = None) -> int:
    """Number of scalars in a model or in parameters (tensors, or optimizer groups)."""
    if model is not None:
        return sum(p.numel() for p in model.parameters())
    if params is None:
        raise ValueError("give a model or params")
    return sum(
        count_num_param(params=p["params"]) if isinstance(p, dict) else p.numel() for p in params
    )


def newest_first(directory: str) -> list[str]:
    """Checkpoint files of a model's folder, the most recent first: the one named in `checkpoint`,
    then by epoch.

    Raises UserError if the folder, or the file `checkpoint`, cannot be read.
    """
    if not osp.isdir(directory):
        return []
    try:
        names = [name for _, name in _numbered(directory)]
    except OSError as error:
        raise unreadable(f"folder '{directory}'", error) or error from None
    if osp.isfile(named := osp.join(directory, files.LATEST)):
        names.insert(0, _named(named))
    return [name for name in dict.fromkeys(names) if name and osp.isfile(osp.join(directory, name))]


def _numbered(directory: str) -> list[tuple[int, str]]:
    """(epoch, file) of the checkpoints in a model's folder, the last epoch first.

    Raises OSError if the folder cannot be read.
    """
    numbers = {
        name: name.rpartition("-")[2]
        for name in os.listdir(directory)
        if name.startswith("model.pth.tar-")
    }
    found = [
        (int(number), name) for name, number in numbers.items() if re.fullmatch("[0-9]+", number)
    ]
    return sorted(found, key=lambda one: one[0], reverse=True)


def _named(path: str) -> str:
    """The checkpoint that the text file `checkpoint` names.

    Raises UserError if the file cannot be read.
    """
    try:
        with open(
            path, encoding="utf-8", errors="replace"
        ) as file:  # what is no name is the name of no file
            return file.readline(1000).strip()
    except OSError as error:
        raise unreadable(f"'{path}'", error) or error from None


def _plain_names(state_dict: dict) -> dict:
    """Names without the `module.` that DataParallel puts before them."""
    return type(state_dict)(
        (key.removeprefix("module."), value) for key, value in state_dict.items()
    )
