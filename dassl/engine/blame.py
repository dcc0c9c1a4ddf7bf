"""Why a loss is not finite: the weights, the images, the start, or the steps that were made."""

from collections.abc import Iterable, Iterator

import torch
from torch import Tensor, nn

from dassl.utils import UserError
from dassl.utils.torchtools import newest_first


def reason(trainer) -> str:
    """How the sentence about a loss that is not finite goes on: the culprit and the remedy.

    Only what was finite before the steps of this run makes their learning rate the culprit.
    """
    if culprit := _frozen(trainer):
        return culprit
    if path := _image(getattr(trainer, "_batch", ())):
        return (
            f", since the input made of the image '{path}' is not finite: look at that image, and "
            "at INPUT.PIXEL_STD"
        )
    stepped = trainer.batch_idx > 0 or trainer.epoch > trainer.start_epoch
    learned = _not_finite(
        (name, value)
        for model in _models(trainer)
        for name, value in model.named_parameters()
        if value.requires_grad
    )
    if learned and not stepped:
        return (
            f", since '{learned}' is not finite before the first step: correct MODEL.INIT_WEIGHTS, "
            "or the checkpoint that the run goes on from"
        )
    if not stepped:
        return (
            ", although weights, images and parameters are finite: use PREC fp32, or lower the "
            "weights of the loss terms"
        )
    return f": {steps(trainer)}"


def steps(trainer) -> str:
    """The remedy where the steps made something not finite."""
    return "lower OPTIM.LR or use PREC fp32" + (
        "; the last checkpoint is from before" if _has_checkpoint(trainer) else ""
    )


def _models(trainer) -> list[nn.Module]:
    return [model for model in trainer._models.values() if model is not None]


def _frozen(trainer) -> str:
    """That the pretrained weights, which no step changes, are not finite; "" if they are."""
    learning = {id(module) for model in _models(trainer) for module in model.modules()}
    attributes = [module for module in vars(trainer).values() if isinstance(module, nn.Module)]
    name = trainer.cfg.MODEL.BACKBONE.NAME if "cfg" in vars(trainer) else ""
    for module in [*attributes, *_models(trainer)]:
        broken = _not_finite(_unlearned(module, learning))
        if broken.rpartition(".")[2] in ("scale", "logit_scale"):
            return (
                f", since exp(logit_scale) of the CLIP '{name}' is not finite: give "
                "MODEL.BACKBONE.NAME a file with the right logit_scale"
            )
        if broken:
            return (
                f", since the pretrained weights '{name}' hold numbers that are not finite "
                f"('{broken}'): give MODEL.BACKBONE.NAME a sound copy of that file"
            )
    return ""


def _unlearned(module: nn.Module, learning: set[int]) -> Iterator[tuple[str, Tensor]]:
    """Parameters without gradient, and buffers of modules that no step changes."""
    for prefix, part in module.named_modules():
        tensors = dict(part.named_parameters(recurse=False)) | (
            dict(part.named_buffers(recurse=False)) if id(part) not in learning else {}
        )
        for name, value in tensors.items():
            if not value.requires_grad:
                yield (
                    f"{prefix}.{name}" if prefix else name,
                    value.exp() if name == "logit_scale" else value,
                )


def _not_finite(tensors: Iterable[tuple[str, Tensor]]) -> str:
    """The first name of a tensor that is not finite; "" if there is none."""
    return next(
        (
            name
            for name, value in tensors
            if value.is_floating_point() and not torch.isfinite(value).all()
        ),
        "",
    )


def _image(batches: Iterable[dict]) -> str:
    """Path of the first image of a step whose pixels are not finite; "" if there is none."""
    for batch in batches:
        images = batch.get("img") if isinstance(batch, dict) else None
        if isinstance(images, Tensor) and images.is_floating_point():
            wrong = (~torch.isfinite(images.flatten(1)).all(1)).nonzero().flatten().tolist()
            if wrong:
                return (
                    str(batch["impath"][wrong[0]])
                    if "impath" in batch
                    else f"number {wrong[0]} of the batch"
                )
    return ""


def _has_checkpoint(trainer) -> bool:
    folder = vars(trainer).get("output_dir", "")
    try:
        return bool(folder) and any(newest_first(f"{folder}/{name}") for name in trainer._models)
    except UserError:  # a folder without the right to read it
        return False
