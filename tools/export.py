"""What a run learned, in one file for other programs: `python -m tools.export --model-dir DIR OUT.safetensors`.

Holds unit-norm text features of the classes, the scale of the logits, and the learned prompts; docs/using.md shows how to load it.
"""

import argparse
import json
import os.path as osp
import sys

import torch
from safetensors.torch import save
from torch import Tensor

from dassl.utils import UserError, mkdir_if_missing
from dassl.utils.tools import atomic_write
from tools import trained
from trainers.base import PromptTrainer

SUFFIX = ".safetensors"
FROZEN = "probabilities are softmax(scale * image @ text_features.T), with image the unit-norm features of frozen CLIP"
PROMPTED = (
    "probabilities are softmax(scale * image @ text_features.T), with image the unit-norm features of CLIP's image tower with the visual "
    "prompts of this file: features of CLIP alone do not go with these texts"
)
PLAIN = "; this CLIP was trained with plain GELU, which clip.load does not compute"
CONDITIONAL = "class texts depend on the image: this file holds the prompts only, and a prediction needs both towers"


def visual_prompts(trainer: PromptTrainer) -> list[Tensor]:
    """Prompts (n, W) at the input of the image tower's layers 1, 2, ...; none for a method without."""
    model = getattr(trainer, "model", None)
    if hasattr(model, "image_encoder"):
        return [model.image_encoder.VPT, *model.image_encoder.deep]
    if hasattr(
        getattr(model, "prompt_learner", None), "visual"
    ):  # MaPLe: projections of the text prompts
        first, deep = model.prompt_learner.visual()
        return [first, *deep]
    return []


@torch.no_grad()
def contents(trainer: PromptTrainer) -> tuple[dict[str, Tensor], dict[str, str]]:
    """(tensors by name, metadata: each value JSON) of the file.

    Tensors: text_features (C, D), unit-norm float32, unless they depend on the image; scale (); visual_prompts.<layer> (n, W),
    layers from 0; and the learned parameters under the names that the published checkpoints give them.
    Raises UserError for numbers that are not finite.
    """
    cfg, text = trainer.cfg, trainer.encode_class_texts()
    learned = trainer.model.state_dict() if trainer.get_model_names() else {}
    tensors = {
        "scale": trainer.backbone.scale.float(),
        **learned,
        **{
            f"visual_prompts.{layer}": prompt
            for layer, prompt in enumerate(visual_prompts(trainer))
        },
    }
    if text is not None:
        tensors["text_features"] = text.float()
    for name, value in tensors.items():
        if not value.isfinite().all():
            raise UserError(
                f"'{name}' of the run holds NaN or infinite numbers, which no program can use: choose "
                "another epoch with --load-epoch, or train again with PREC fp32 or a lower OPTIM.LR"
            )
    prompted = not trainer.images_stay_frozen
    activation = trainer.backbone.activation
    use = CONDITIONAL if text is None else PROMPTED if prompted else FROZEN
    normalised, backbone = "normalize" in cfg.INPUT.TRANSFORMS, cfg.MODEL.BACKBONE.NAME
    metadata = {
        "method": cfg.TRAINER.NAME,
        "classnames": trainer.classnames,
        "prompts": list(learned),
        "use": use + (PLAIN if activation == "gelu" else ""),
        "image_tower_needs_prompts": prompted,
        "text_depends_on_image": text is None,
        "backbone": osp.basename(backbone) if osp.isabs(backbone) else backbone,
        "activation": activation,
        "precision": trainer.precision,
        # Resize the short side to the larger number of `size`, crop the centre, scale to 0..1, subtract mean, divide by std.
        "preprocess": {
            "size": list(cfg.INPUT.SIZE),
            "interpolation": cfg.INPUT.INTERPOLATION,
            "mean": list(cfg.INPUT.PIXEL_MEAN) if normalised else [0.0] * 3,
            "std": list(cfg.INPUT.PIXEL_STD) if normalised else [1.0] * 3,
            "instance_norm": "instance_norm" in cfg.INPUT.TRANSFORMS,
            **trainer.reading_options(),
        },
    }
    # Copies: the format takes no tensors that share memory.
    return {name: value.detach().cpu().clone().contiguous() for name, value in tensors.items()}, {
        key: json.dumps(value) for key, value in metadata.items()
    }


def run(args: argparse.Namespace) -> int:
    if not args.out.endswith(SUFFIX) or osp.isdir(args.out):
        raise UserError(
            f"'{args.out}' is not the name of a file that ends in {SUFFIX}: give one to write to"
        )
    trainer = trained.load_from(args)
    tensors, metadata = contents(trainer)
    mkdir_if_missing(osp.dirname(args.out))
    atomic_write(args.out, lambda file: file.write(save(tensors, metadata)))
    for name, value in tensors.items():
        sys.stdout.write(
            f"{name}  {tuple(value.shape)}  {str(value.dtype).removeprefix('torch.')}\n"
        )
    sys.stdout.write(
        f"{args.out}: {json.loads(metadata['method'])}, {len(trainer.classnames)} classes; {json.loads(metadata['use'])}\n"
    )
    return 0


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        prog="python -m tools.export",
    )
    parser.add_argument("out", type=osp.expanduser, metavar=f"OUT{SUFFIX}")
    trained.add_arguments(parser)
    return trained.main(run, parser.parse_args(arguments))


if __name__ == "__main__":
    sys.exit(main())
