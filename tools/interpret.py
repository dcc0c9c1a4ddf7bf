"""The words that learned contexts are nearest to: `python -m tools.interpret --model-dir DIR`.

For each context vector of the first text layer, the tokens of CLIP's vocabulary whose embeddings are nearest by Euclidean distance,
as in CoOp's interpret_prompt.py (Zhou et al., IJCV 2022, arXiv 2109.01134). A token that only begins a word ends in "-".
"""

import argparse
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor
from tqdm import tqdm

from dassl.utils import UserError, write_json
from dassl.utils.logger import progress_bar
from tools import inputs, trained
from trainers.backbone import SimpleTokenizer
from trainers.base import PromptTrainer
from trainers.prompts import Context


def word(tokenizer: SimpleTokenizer, token: int) -> str:
    """A token as text."""
    text = tokenizer.decode([token])
    text = text[:-1] if text.endswith(" ") else text if text.startswith("<|") else f"{text}-"
    return text if text.isprintable() else ascii(text)[1:-1]


def nearest(vectors: Tensor, vocabulary: Tensor, top: int) -> tuple[Tensor, Tensor]:
    """Distances (N, top), ascending, and tokens (N, top) of the rows of `vocabulary` (V, W) nearest to each of `vectors` (N, W)."""
    # By differences: the faster way, through matrix products, is off by more than some neighbours differ.
    distances = torch.cdist(
        vectors.float(), vocabulary.float(), compute_mode="donot_use_mm_for_euclid_dist"
    )
    return tuple(distances.topk(min(top, len(vocabulary)), largest=False))


@torch.no_grad()
def contexts(
    trainer: PromptTrainer, top: int
) -> Iterator[tuple[str | None, list[list[tuple[str, float]]]]]:
    """(class name, or None for the context that all classes share; for each vector its nearest words and distances).

    Raises UserError for a method that learns no text context.
    """
    modules = trainer.model.modules() if trainer.get_model_names() else ()
    context = next((module.ctx for module in modules if isinstance(module, Context)), None)
    if context is None:
        raise UserError(
            f"{trainer.cfg.TRAINER.NAME} learns no text context, so there are no words to compare: give --model-dir a run of another method"
        )
    tokenizer, vocabulary = SimpleTokenizer(), trainer.backbone.text.token_embedding_weight
    vocabulary = vocabulary[: len(tokenizer.decoder)]
    owners = trainer.classnames if context.dim() == 3 else [None]
    with progress_bar(len(owners), "contexts") as bar:
        for name, vectors in zip(
            owners, context.view(len(owners), *context.shape[-2:]), strict=True
        ):
            distances, tokens = (found.tolist() for found in nearest(vectors, vocabulary, top))
            yield (
                name,
                [
                    [
                        (word(tokenizer, token), distance)
                        for token, distance in zip(*row, strict=True)
                    ]
                    for row in zip(tokens, distances, strict=True)
                ],
            )
            bar.update()


def run(args: argparse.Namespace) -> int:
    if args.top < 1:
        raise UserError(f"--top is {args.top}: set it to 1 or more")
    if args.json:
        inputs.check_name(Path(args.json), "--json")
    trainer = trained.load_from(args)
    found = []
    for name, vectors in contexts(trainer, args.top):
        lines = [] if name is None else [f"{name}:"]
        lines += [
            f"{number:3}  " + "  ".join(f"{text} ({distance:.4f})" for text, distance in row)
            for number, row in enumerate(vectors, 1)
        ]
        tqdm.write("\n".join(lines))
        found.append(
            {
                "class": name,
                "vectors": [
                    [{"word": text, "distance": distance} for text, distance in row]
                    for row in vectors
                ],
            }
        )
    if deep := len(trainer.deep_text_prompts()):
        sys.stderr.write(
            f"note: the prompts of {deep} deeper layer(s) are not shown: what they replace is the output of a layer, not a word\n"
        )
    if args.json:
        write_json(
            {"model_dir": args.model_dir, "trainer": trainer.cfg.TRAINER.NAME, "contexts": found},
            args.json,
        )
    return 0


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        prog="python -m tools.interpret",
    )
    trained.add_arguments(parser, classes=False)
    parser.add_argument("--top", type=int, default=5, help="how many words to show")
    parser.add_argument(
        "--json", type=os.path.expanduser, metavar="FILE", help="write the same there"
    )
    return trained.main(run, parser.parse_args(arguments))


if __name__ == "__main__":
    sys.exit(main())
