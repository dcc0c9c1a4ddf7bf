"""What a run learned, in one file: `python -m tools.export --model-dir DIR OUT.safetensors`.

Holds unit-norm text features of the classes, the scale of the logits, and the learned prompts, for
other programs. With `--format clip`, `open_clip` or `hf` OUT is a folder, in which that library
also finds the run's CLIP. docs/using.md shows how to load both.
"""

import argparse
import json
import os.path as osp
import sys
from pathlib import Path

import torch
from safetensors.torch import save
from torch import Tensor
from yacs.config import CfgNode

from dassl.utils import UserError, mkdir_if_missing
from dassl.utils.tools import atomic_write
from tools import inputs, trained
from tools.arguments import Parser
from tools.inputs import Output, check_new, check_outputs, new_folder
from tools.layouts import LAYOUTS, SIDE, normalisation, rounded_by_clip
from tools.trained import Trained
from trainers.cache import reading_options
from trainers.maple import MultiModalPrompts
from trainers.model import PromptedCLIP

SUFFIX = ".safetensors"
FEATURES = "features"
FROZEN = (
    "probabilities are softmax(scale * image @ text_features.T), with image the unit-norm features "
    "of frozen CLIP"
)
PROMPTED = (
    "probabilities are softmax(scale * image @ text_features.T), with image the unit-norm features "
    "of CLIP's image tower with the visual prompts of this file: features of CLIP alone do not go "
    "with these texts"
)
PLAIN = "; this CLIP was trained with plain GELU, which clip.load does not compute"
CONDITIONAL = (
    "class texts depend on the image: this file holds the prompts only, and a prediction needs "
    "both towers"
)


def visual_prompts(clip: PromptedCLIP) -> list[Tensor]:
    """Prompts (n, W) at the input of the image tower's layers 1, 2, ...; none without any."""
    visual = getattr(clip.prompts, "image_encoder", None)
    if visual is not None:
        return [visual.VPT, *visual.deep]
    learner = getattr(clip.prompts, "prompt_learner", None)
    if isinstance(learner, MultiModalPrompts):
        first, deep = learner.visual()
        return [first, *deep]
    return []


@torch.no_grad()
def contents(run: Trained) -> tuple[dict[str, Tensor], dict[str, str]]:
    """(tensors by name, metadata: each value JSON) of the file.

    Tensors: text_features (C, D), unit-norm float32, unless they depend on the image; scale ();
    visual_prompts.<layer> (n, W), layers from 0; and the learned parameters under the names that
    the published checkpoints give them. Raises UserError for numbers that are not finite.
    """
    if not run.clip.compares_features:
        raise UserError(
            f"{run.cfg.TRAINER.NAME} has logits that features of images and texts do not tell, and "
            "no file of features predicts as it does: use tools.predict"
        )
    clip, text = run.clip, run.clip.encode_class_texts()
    learned = {} if clip.prompts is None else clip.prompts.state_dict()
    tensors = {"scale": clip.backbone.scale.float(), **learned}
    for layer, prompt in enumerate(visual_prompts(clip)):
        tensors[f"visual_prompts.{layer}"] = prompt
    if text is not None:
        tensors["text_features"] = text.float()
    for name, value in tensors.items():
        if not value.isfinite().all():
            raise UserError(
                f"'{name}' of the run holds NaN or infinite numbers, which no program can use: "
                "choose another epoch with --load-epoch, or train again with PREC fp32 or a lower "
                "OPTIM.LR"
            )
    about = description(run, list(learned), text is None)
    # Copies: the format takes no tensors that share memory.
    copies = {name: value.detach().cpu().clone().contiguous() for name, value in tensors.items()}
    return copies, {key: json.dumps(value) for key, value in about.items()}


def description(run: Trained, learned: list[str], conditional: bool) -> dict:
    """The metadata.

    learned: names of parameters. conditional: whether class texts depend on the image.
    """
    cfg, clip = run.cfg, run.clip
    prompted = not clip.images_stay_frozen
    use = CONDITIONAL if conditional else PROMPTED if prompted else FROZEN
    backbone, activation = cfg.MODEL.BACKBONE.NAME, clip.backbone.activation
    return {
        "method": cfg.TRAINER.NAME,
        "classnames": clip.classnames,
        "prompts": learned,
        "use": use + (PLAIN if activation == "gelu" else ""),
        "image_tower_needs_prompts": prompted,
        "text_depends_on_image": conditional,
        "backbone": osp.basename(backbone) if osp.isabs(backbone) else backbone,
        "activation": activation,
        "precision": clip.precision,
        "preprocess": preprocessing(cfg),
    }


def preprocessing(cfg: CfgNode) -> dict:
    """How the run turns a picture into numbers.

    Resize the short side to the larger number of `size`, crop the centre, scale to 0..1, subtract
    `mean`, divide by `std`.
    """
    mean, std = normalisation(cfg)
    return {
        "size": list(cfg.INPUT.SIZE),
        "interpolation": cfg.INPUT.INTERPOLATION,
        "mean": mean,
        "std": std,
        "instance_norm": "instance_norm" in cfg.INPUT.TRANSFORMS,
        **reading_options(cfg),
    }


def check_layout(run: Trained, layout: str) -> None:
    """Raise UserError if a plain CLIP of that layout cannot predict as the run does."""
    name, instead = run.cfg.TRAINER.NAME, f"leave out --format {layout}"
    if not run.clip.images_stay_frozen:
        raise UserError(
            f"{name} learns visual prompts, which are more tokens in the image tower than a plain "
            f"CLIP has, so that no weights can stand for them: {instead}"
        )
    if run.clip.compares_features and run.clip.encode_class_texts() is None:
        raise UserError(
            f"{name} makes class texts of its own for each image, which no weights of a plain "
            f"CLIP can stand for: {instead}"
        )
    if "instance_norm" in run.cfg.INPUT.TRANSFORMS:
        raise UserError(
            "INPUT.TRANSFORMS has instance_norm, which the other libraries do not do before their "
            f"image tower: {instead}"
        )


def files_of(run: Trained, layout: str, side: bytes) -> dict[str, bytes]:
    """{name: content} of the folder for a library. Raises UserError as `check_layout`."""
    check_layout(run, layout)
    if layout == "clip" and (rounded := rounded_by_clip(run.clip.backbone)):
        sys.stderr.write(
            f"note: clip.load rounds weights to half precision, which changes {len(rounded)} "
            f"tensors of this CLIP (first '{rounded[0]}'): predictions with it will differ a "
            "little; --format open_clip or hf is exact\n"
        )
    return LAYOUTS[layout](run.clip.backbone, run.cfg) | {SIDE: side}


def write_folder(path: str, contents: dict[str, bytes]) -> None:
    """Write the files into the folder `path`, all or none.

    Raises UserError if it is there and not empty, or cannot be written.
    """
    with new_folder(path) as part:
        for name, content in contents.items():
            atomic_write(osp.join(part, name), content)
            sys.stdout.write(f"{osp.join(path, name)}  {len(content):,} bytes\n")


def run(args: argparse.Namespace) -> int:
    plain = args.format == FEATURES
    if plain and (not args.out.endswith(SUFFIX) or osp.isdir(args.out)):
        raise UserError(
            f"'{args.out}' is not the name of a file that ends in {SUFFIX}: give one to write to"
        )
    if plain:
        check_outputs([Output("OUT", Path(args.out))], trained.files_of(args))
    else:
        check_new(args.out)
    model = trained.load_from(args)
    tensors, metadata = contents(model)
    side = save(tensors, metadata)
    if plain:
        mkdir_if_missing(osp.dirname(args.out))
        atomic_write(args.out, side)
    else:
        write_folder(args.out, files_of(model, args.format, side))
    for name, value in tensors.items():
        kind = str(value.dtype).removeprefix("torch.")
        sys.stdout.write(f"{name}  {tuple(value.shape)}  {kind}\n")
    method, use = json.loads(metadata["method"]), json.loads(metadata["use"])
    sys.stdout.write(f"{args.out}: {method}, {len(model.clip.classnames)} classes; {use}\n")
    return 0


def main(arguments: list[str] | None = None) -> int:
    parser = Parser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        prog="python -m tools.export",
    )
    parser.add_argument(
        "out",
        type=osp.expanduser,
        metavar="OUT",
        help=f"name of a file that ends in {SUFFIX}; of a new folder with another --format",
    )
    parser.add_argument(
        "--format",
        choices=(FEATURES, *LAYOUTS),
        default=FEATURES,
        help=f"{FEATURES}: class texts and prompts only, the default; others: with the run's CLIP, "
        "as that library reads it",
    )
    trained.add_arguments(parser)
    return inputs.main(run, parser.parse_args(arguments))


if __name__ == "__main__":
    sys.exit(main())
