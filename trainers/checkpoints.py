"""Checkpoints of learned prompts: this project's, and those of the published codes."""

import logging
import os.path as osp
from typing import TYPE_CHECKING

from torch import Tensor, nn

from dassl.utils import load_checkpoint, read_json
from trainers.errors import UserError

if TYPE_CHECKING:
    from trainers.model import PromptedCLIP

log = logging.getLogger(__name__)

# Published checkpoints carry token embeddings of the class names and a copy of the frozen CLIP.
TOKEN_BUFFERS = ("token_prefix", "token_suffix")
BUFFERS = (*TOKEN_BUFFERS, "running_mean", "running_var", "num_batches_tracked")
FROZEN_PARTS = (
    "image_encoder.",
    "text_encoder.",
    "logit_scale",
    "prompt_learner.ZS_image_encoder.",
)


def stored_classes(directory: str) -> list[str] | None:
    """Class names in `directory`/results.json; None if there is none, as other codes leave it."""
    path = osp.join(directory, "results.json")
    return class_names_of(read_json(path)) if osp.isfile(path) else None


def class_names_of(record: object) -> list[str] | None:
    """The class names in a results.json or checkpoint; None if `record` holds none."""
    names = record.get("classnames") if isinstance(record, dict) else None
    good = isinstance(names, list) and names and all(isinstance(name, str) for name in names)
    return names if good else None


def load_prompts(
    model: "PromptedCLIP", directory: str, name: str, epoch: int | None = None
) -> None:
    """Load `directory`/`name`/model.pth.tar-<epoch>, or model-best.pth.tar without epoch.

    Takes this project's checkpoints and published ones, and prints what of the latter is ignored.
    Raises UserError if a checkpoint does not fit, or holds what was learned for each of other
    classes.
    """
    if model.prompts is None:
        return
    file = "model-best.pth.tar" if epoch is None else f"model.pth.tar-{epoch}"
    path = osp.join(directory, name, file)
    checkpoint = load_checkpoint(path)
    model.check_classes(class_names_of(checkpoint) or stored_classes(directory), path)
    state = checkpoint.get("state_dict", checkpoint)
    model.prompts.load_state_dict(learned_state(model.prompts, state, path))
    log.info(f"Loaded the weights of {name} from '{path}' (epoch = {checkpoint.get('epoch')})")


def learned_state(model: nn.Module, state: dict[str, Tensor], path: str) -> dict[str, Tensor]:
    """The part of `state`, read from `path`, that `model` learns; prints what is ignored.

    Raises UserError if a tensor is missing, of another shape or not finite, or if `state` has
    parameters of another method.
    """
    state = {name.removeprefix("module."): value for name, value in state.items()}
    fit_to = getattr(model, "fit_to", None)
    if callable(fit_to):  # what the model holds is of as many images as the checkpoint says
        fit_to(state)
    learned = model.state_dict()
    others = [name for name in state if name not in learned]
    buffers = [name for name in others if name.endswith(TOKEN_BUFFERS)]
    frozen = [name for name in others if name.startswith(FROZEN_PARTS) and "VPT" not in name]
    # what the published code saves, and never uses
    idle = [name for name in others if name.startswith(getattr(model, "published_without_use", ()))]
    for name, value in learned.items():
        _check_tensor(name, state.get(name), value, path)
    for name in others:
        if name not in buffers and name not in frozen and name not in idle:
            raise UserError(
                f"checkpoint '{path}' has '{name}', which this trainer does not learn: use the "
                "trainer that wrote it"
            )
    if buffers or frozen or idle:
        ignored = buffers + idle + ([f"{len(frozen)} tensors of frozen CLIP"] if frozen else [])
        log.info(f"Ignored in '{path}', since not learned: {', '.join(ignored)}")
    return {name: state[name] for name in learned}


def _check_tensor(name: str, stored: Tensor | None, value: Tensor, path: str) -> None:
    """Raise UserError unless `stored` can take the place of the learned tensor `value`."""
    if stored is None:
        raise UserError(f"checkpoint '{path}' lacks '{name}': use the trainer that wrote it")
    if stored.shape != value.shape:
        raise UserError(
            f"checkpoint '{path}' does not fit: '{name}' is {tuple(stored.shape)} there and "
            f"{tuple(value.shape)} here; use the backbone, context options and, with "
            "class-specific contexts, the classes it was trained with"
        )
    if not stored.isfinite().all():
        raise UserError(
            f"checkpoint '{path}' holds NaN or infinite numbers in '{name}': load another epoch, "
            "or train again with a lower OPTIM.LR"
        )


def learned_optimizer(model: nn.Module, state: dict[str, Tensor], optimizer: dict) -> dict | None:
    """The state of a published optimizer for the parameters that `model` learns.

    Published codes give all parameters to the optimizer, the frozen CLIP included, in the order of
    the checkpoint's `state`; buffers are in `state` only. None if the numbers do not tell which
    parameter is which.
    """
    names = [name.removeprefix("module.") for name in state if not name.endswith(BUFFERS)]
    learned = [name for name, _ in model.named_parameters()]
    groups, slots = optimizer["param_groups"], optimizer["state"]
    complete = groups[0]["params"] == list(range(len(names)))
    if len(groups) != 1 or not complete or set(learned) - set(names):
        return None
    group = groups[0] | {"params": list(range(len(learned)))}
    places = enumerate(names.index(name) for name in learned)
    kept = {here: slots[there] for here, there in places if there in slots}
    return {"state": kept, "param_groups": [group]}
