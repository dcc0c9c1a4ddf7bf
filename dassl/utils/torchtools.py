"""Checkpoints: written atomically, read without running code."""

import collections
import os
import os.path as osp
import re
from collections.abc import Iterable

import numpy as np
import torch
from torch import nn, optim
from torch.optim import lr_scheduler

from dassl.utils.tools import UserError, atomic_write, mkdir_if_missing, unreadable


def _old_scalar(dtype: np.dtype, data: bytes) -> np.generic:
    return np.frombuffer(data, dtype)[0]


# Published checkpoints hold more than tensors: numpy numbers (under numpy 1's private path), and, inside the state of a
# warm-up scheduler, the scheduler it hands over to together with its optimizer. All of these only carry data.
_old_scalar.__module__, _old_scalar.__name__, _old_scalar.__qualname__ = "numpy.core.multiarray", "scalar", "scalar"
torch.serialization.add_safe_globals(
    [_old_scalar, np._core.multiarray.scalar, np.dtype, collections.defaultdict, collections.Counter]
    + [getattr(np.dtypes, f"{name}DType") for name in ("Float64", "Float32", "Float16", "Int64", "Int32", "Bool")]
    + [lr_scheduler.StepLR, lr_scheduler.MultiStepLR, lr_scheduler.CosineAnnealingLR]
    + [optim.SGD, optim.Adam, optim.AdamW, optim.RAdam, optim.RMSprop]
)


def load_checkpoint(fpath: str, where: str = "--model-dir, --load-epoch or RESUME") -> dict:
    """Read a checkpoint to the CPU, with `weights_only`. Raises UserError for a file that is missing, truncated, unsafe or holds no weights by name.

    where: what the user would correct if the file does not exist.
    """
    if not fpath or not osp.isfile(fpath):
        raise UserError(f"checkpoint '{fpath}' does not exist: check {where}")
    try:
        found = torch.load(fpath, map_location="cpu", weights_only=True)
    except Exception as error:  # zip reader, unpickler and tensor storage each raise their own kind
        if refused := unreadable(f"checkpoint '{fpath}'", error):
            raise refused from None
        unsafe = "Unsupported global" in str(error) or "weights_only" in str(error) and "GLOBAL" in str(error)
        reason = "it holds objects other than weights" if unsafe else "it is truncated or not a checkpoint"
        raise UserError(f"checkpoint '{fpath}' cannot be read: {reason}; delete it or copy it again") from None
    weights = found.get("state_dict", found) if isinstance(found, dict) else None
    if not isinstance(weights, dict) or not all(isinstance(value, torch.Tensor) for value in weights.values()):
        raise UserError(f"'{fpath}' is not a checkpoint: it holds no tensors by name; give a file that a training run wrote")
    return found


def save_checkpoint(state: dict, save_dir: str, is_best: bool = False, remove_module_from_state_dict: bool = True,
                    model_name: str = "") -> None:
    """Write `state` (with keys state_dict and epoch) to `save_dir`, then name it in the text file `checkpoint`.

    Raises UserError if it cannot be written; the files there before are then intact.
    """
    mkdir_if_missing(save_dir)
    if remove_module_from_state_dict:
        state = {**state, "state_dict": _plain_names(state["state_dict"])}
    name = model_name or f"model.pth.tar-{state['epoch']}"
    path = osp.join(save_dir, name)
    atomic_write(path, lambda file: torch.save(state, file))
    print(f"Checkpoint saved to {path}")
    if is_best and name != "model-best.pth.tar":
        atomic_write(osp.join(save_dir, "model-best.pth.tar"), lambda file: torch.save(state, file))
        print(f'Best checkpoint saved to "{osp.join(save_dir, "model-best.pth.tar")}"')
    atomic_write(osp.join(save_dir, "checkpoint"), lambda file: file.write(f"{name}\n".encode()))


def load_state(model: nn.Module, state_dict: dict, fpath: str) -> None:
    """Strict load. Raises UserError naming the first key that is missing, unknown or of another shape."""
    own = model.state_dict()
    state_dict = _plain_names(state_dict) if not any(key.startswith("module.") for key in own) else state_dict
    for key, value in state_dict.items():
        if key in own and own[key].shape != value.shape:
            raise UserError(f"checkpoint '{fpath}' does not fit: '{key}' is {tuple(value.shape)} there and "
                            f"{tuple(own[key].shape)} in this model; use the config (classes, sizes) it was trained with")
    for keys, which in ((own.keys() - state_dict.keys(), "lacks"), (state_dict.keys() - own.keys(), "has an unknown key")):
        if keys:
            raise UserError(f"checkpoint '{fpath}' does not fit: it {which} '{sorted(keys)[0]}'; "
                            "use the trainer and config it was trained with")
    model.load_state_dict(state_dict)


def resume_from_checkpoint(fdir: str, model: nn.Module, optimizer=None, scheduler=None) -> int:
    """Restore model, optimizer and scheduler from the checkpoint that `fdir`/checkpoint names -> epochs done."""
    path = osp.join(fdir, _named(osp.join(fdir, "checkpoint")))
    return restore(load_checkpoint(path), path, model, optimizer, scheduler)


def restore(checkpoint: dict, path: str, model: nn.Module, optimizer=None, scheduler=None) -> int:
    """Put a loaded checkpoint into its objects -> epochs done. Raises UserError if it does not fit."""
    if lacking := next((key for key in ("state_dict", "epoch") if key not in checkpoint), ""):
        raise UserError(f"checkpoint '{path}' lacks '{lacking}', so no run can go on from it: load it with --model-dir, or delete it")
    load_state(model, checkpoint["state_dict"], path)
    for what, target in (("optimizer", optimizer), ("scheduler", scheduler)):
        if target is None or checkpoint.get(what) is None:
            continue
        try:
            target.load_state_dict(checkpoint[what])
        except (ValueError, KeyError, AttributeError) as error:
            raise UserError(f"checkpoint '{path}' does not fit: its {what} state is of another kind ({error}); "
                            "continue with the OPTIM config it was trained with") from None
    return checkpoint["epoch"]


def load_pretrained_weights(model: nn.Module, weight_path: str) -> None:
    """Load what fits by name and shape, and report the rest. Raises UserError as load_checkpoint does."""
    checkpoint = load_checkpoint(weight_path, "MODEL.INIT_WEIGHTS")
    state_dict = _plain_names(checkpoint.get("state_dict", checkpoint))
    own = model.state_dict()
    fits = {key: value for key, value in state_dict.items() if key in own and own[key].shape == value.shape}
    if not fits:
        print(f"Warning: nothing in '{weight_path}' fits the model by name and shape: it is left as it was")
        return
    model.load_state_dict({**own, **fits})
    print(f"Loaded {len(fits)} of the model's {len(own)} tensors from '{weight_path}'")
    if left := [key for key in state_dict if key not in fits]:
        print(f"Not used, since name or shape differ: {', '.join(left)}")


def count_num_param(model: nn.Module | None = None, params: Iterable | None = None) -> int:
    """Number of scalars in a model or in parameters (tensors, or optimizer groups)."""
    if model is not None:
        return sum(p.numel() for p in model.parameters())
    if params is None:
        raise ValueError("give a model or params")
    return sum(count_num_param(params=p["params"]) if isinstance(p, dict) else p.numel() for p in params)


def newest_first(directory: str) -> list[str]:
    """Checkpoint files of a model's folder, the most recent first: the one named in `checkpoint`, then by epoch.

    Raises UserError if the folder, or the file `checkpoint`, cannot be read.
    """
    if not osp.isdir(directory):
        return []
    try:
        numbers = {name: name.rpartition("-")[2] for name in os.listdir(directory) if name.startswith("model.pth.tar-")}
    except OSError as error:
        raise unreadable(f"folder '{directory}'", error) or error from None
    names = sorted((name for name, number in numbers.items() if re.fullmatch("[0-9]+", number)), key=lambda name: int(numbers[name]), reverse=True)
    if osp.isfile(named := osp.join(directory, "checkpoint")):
        names.insert(0, _named(named))
    return [name for name in dict.fromkeys(names) if name and osp.isfile(osp.join(directory, name))]


def _named(path: str) -> str:
    """The checkpoint that the text file `checkpoint` names. Raises UserError if the file cannot be read."""
    try:
        with open(path, encoding="utf-8", errors="replace") as file:  # what is no name is the name of no file
            return file.readline(1000).strip()
    except OSError as error:
        raise unreadable(f"'{path}'", error) or error from None


def _plain_names(state_dict: dict) -> dict:
    """Names without the `module.` that DataParallel puts before them."""
    return type(state_dict)((key.removeprefix("module."), value) for key, value in state_dict.items())
