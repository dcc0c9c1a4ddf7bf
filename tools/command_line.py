"""The command line of train.py. Nothing here imports torch, so that --help is quick."""

import argparse
import os.path as osp
import sys

from tools.arguments import PAIRS, Parser

DESCRIPTION = "One run: a configuration in; checkpoints, log.txt and results.json out."

# Flag -> config key.
FLAGS = {
    "root": "DATASET.ROOT",
    "output_dir": "OUTPUT_DIR",
    "resume": "RESUME",
    "seed": "SEED",
    "eval_only": "EVAL_ONLY",
    "source_domains": "DATASET.SOURCE_DOMAINS",
    "target_domains": "DATASET.TARGET_DOMAINS",
    "transforms": "INPUT.TRANSFORMS",
    "trainer": "TRAINER.NAME",
    "backbone": "MODEL.BACKBONE.NAME",
    "head": "MODEL.HEAD.NAME",
}

# Flags that are "" where they are not given.
TEXTS = ("dataset_config_file", "model_dir", "protocol", "study", "source", "target")


def parse_args(arguments: list[str] | None = None) -> argparse.Namespace:
    """The command line of train.py. Exits: code 2 after a mistake in it, 0 after --help."""
    parser = Parser(prog="train.py", description=DESCRIPTION)
    parser.add_argument(
        "--list",
        action="store_true",
        help="print trainers, their configs and data sets, with what is below --root, and end",
    )
    _add_settings(parser)
    _add_model(parser)
    _add_description(parser)
    parser.add_argument(
        "opts",
        nargs=argparse.REMAINDER,
        metavar=PAIRS,
        help="KEY VALUE pairs, which win over everything else",
    )
    args = parser.parse_args(arguments)
    args.words = list(sys.argv[1:] if arguments is None else arguments)  # as the log begins
    # "--" is needed before KEY VALUE pairs that follow a flag of several values.
    args.opts = [word for word in args.opts if word != "--"]
    for name in TEXTS:
        vars(args)[name] = vars(args)[name] or ""
    return args


def _add_settings(parser: argparse.ArgumentParser) -> None:
    """Flags for config keys and config files."""
    parser.add_argument("--root", help="folder of the data sets (DATASET.ROOT)")
    parser.add_argument("--output-dir", help="where checkpoints, log.txt and results.json go")
    parser.add_argument(
        "--resume",
        help="folder of an earlier run to go on from; the output folder is looked at anyway",
    )
    parser.add_argument("--seed", type=int, help="seed of everything random; negative: not seeded")
    parser.add_argument("--source-domains", nargs="+")
    parser.add_argument("--target-domains", nargs="+")
    parser.add_argument("--transforms", nargs="+", help="data augmentation (INPUT.TRANSFORMS)")
    parser.add_argument(
        "--config-file",
        type=osp.expanduser,
        action="append",
        default=[],
        help="trainer config; may be repeated, e.g. a baseline's, then one of configs/craft",
    )
    parser.add_argument("--dataset-config-file", type=osp.expanduser, help="data set config")
    parser.add_argument("--trainer", help="TRAINER.NAME")
    parser.add_argument(
        "--backbone",
        help="OpenAI's name of a CLIP, open_clip:ARCH/PRETRAINED, hf:ORG/MODEL, or the path of a "
        "weights file or model folder (MODEL.BACKBONE.NAME); see docs/backbones.md",
    )
    parser.add_argument("--head", help="MODEL.HEAD.NAME")
    parser.add_argument(
        "--eval-only", action="store_true", default=None, help="test only (EVAL_ONLY)"
    )


def _add_model(parser: argparse.ArgumentParser) -> None:
    """Flags for the model to load, and for what the run does."""
    parser.add_argument(
        "--model-dir", type=osp.expanduser, help="load the model of this run's folder"
    )
    parser.add_argument("--load-epoch", type=int, help="epoch to load; without it the best one")
    parser.add_argument("--no-train", action="store_true", help="do not train")
    parser.add_argument(
        "--skip-done",
        action="store_true",
        help="do nothing if the output folder holds this very run, complete",
    )


def _add_description(parser: argparse.ArgumentParser) -> None:
    """Flags for what the record tells of the run: see `dassl.record.Description`."""
    group = parser.add_argument_group(
        "what the run is for",
        "results.json repeats it, and tables read it; no result depends on it",
    )
    group.add_argument("--protocol", help="e.g. base2new")
    group.add_argument("--study", help="folder above the protocol's, e.g. an ablation's variant")
    group.add_argument(
        "--source", help="of a further test: data set trained on, in configs/datasets"
    )
    group.add_argument("--target", help="data set of unlabelled images, in configs/datasets")
