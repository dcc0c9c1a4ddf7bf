"""The words that learned contexts are nearest to: `python -m tools.interpret --model-dir DIR`.

For each context vector of the first text layer, the tokens of CLIP's vocabulary whose embeddings
are nearest by Euclidean distance, as in CoOp's interpret_prompt.py (Zhou et al., IJCV 2022, arXiv
2109.01134). A token that only begins a word ends in "-".
"""

import argparse
import sys
from collections.abc import Iterator

import torch
from torch import Tensor
from tqdm import tqdm

from dassl.utils import UserError, write_json
from dassl.utils.logger import progress_bar
from tools import inputs, trained
from tools.arguments import Parser
from tools.trained import Trained
from trainers.backbone import SimpleTokenizer
from trainers.prompts import Context


def word(tokenizer: SimpleTokenizer, token: int) -> str:
    """A token as text."""
    text = tokenizer.decode([token])
    text = text[:-1] if text.endswith(" ") else text if text.startswith("<|") else f"{text}-"
    return text if text.isprintable() else ascii(text)[1:-1]


def nearest(vectors: Tensor, vocabulary: Tensor, top: int) -> tuple[Tensor, Tensor]:
    """Distances (N, top), ascending, and tokens (N, top) of the nearest rows of a vocabulary.

    vectors (N, W), vocabulary (V, W).
    """
    # By differences: matrix products are faster, but off by more than some neighbours differ.
    distances = torch.cdist(
        vectors.float(), vocabulary.float(), compute_mode="donot_use_mm_for_euclid_dist"
    )
    values, tokens = distances.topk(min(top, len(vocabulary)), largest=False)
    return values, tokens


@torch.no_grad()
def contexts(run: Trained, top: int) -> Iterator[tuple[str | None, list[list[tuple[str, float]]]]]:
    """(class name, nearest words): for each vector its nearest words and their distances.

    The class name is None for the context that all classes share. Raises UserError for a method
    that learns no text context.
    """
    clip = run.clip
    modules = () if clip.prompts is None else clip.prompts.modules()
    context = next((module.ctx for module in modules if isinstance(module, Context)), None)
    if context is None:
        raise UserError(
            f"{run.cfg.TRAINER.NAME} learns no text context, so there are no words to compare: "
            "give --model-dir a run of another method"
        )
    tokenizer, vocabulary = SimpleTokenizer(), clip.backbone.text.token_embedding_weight
    vocabulary = vocabulary[: len(tokenizer.decoder)]
    owners = clip.classnames if context.dim() == 3 else [None]
    per_owner = context.view(len(owners), *context.shape[-2:])
    with progress_bar(len(owners), "contexts") as bar:
        for name, vectors in zip(owners, per_owner, strict=True):
            rows = zip(*nearest(vectors, vocabulary, top), strict=True)
            yield name, [_words(tokenizer, tokens, distances) for distances, tokens in rows]
            bar.update()


def _words(
    tokenizer: SimpleTokenizer, tokens: Tensor, distances: Tensor
) -> list[tuple[str, float]]:
    """Tokens (top,) as text, each with its distance."""
    pairs = zip(tokens.tolist(), distances.tolist(), strict=True)
    return [(word(tokenizer, token), distance) for token, distance in pairs]


def run(args: argparse.Namespace) -> int:
    if args.top < 1:
        raise UserError(f"--top is {args.top}: set it to 1 or more")
    inputs.check_outputs([inputs.Output("--json", args.json)], trained.files_of(args))
    model = trained.load_from(args)
    results = []
    for name, vectors in contexts(model, args.top):
        lines = [] if name is None else [f"{name}:"]
        lines += [
            f"{number:3}  " + "  ".join(f"{text} ({distance:.4f})" for text, distance in row)
            for number, row in enumerate(vectors, 1)
        ]
        tqdm.write("\n".join(lines))
        rows = [[{"word": text, "distance": value} for text, value in row] for row in vectors]
        results.append({"class": name, "vectors": rows})
    if deep := len(model.clip.deep_text_prompts()):
        sys.stderr.write(
            f"note: the prompts of {deep} deeper layer(s) are not shown: what they replace is the "
            "output of a layer, not a word\n"
        )
    if args.json:
        name = model.cfg.TRAINER.NAME
        write_json(
            {"model_dir": args.model_dir, "trainer": name, "contexts": results}, str(args.json)
        )
    return 0


def main(arguments: list[str] | None = None) -> int:
    parser = Parser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        prog="python -m tools.interpret",
    )
    trained.add_arguments(parser, classes=False)
    parser.add_argument("--top", type=int, default=5, help="how many words to show")
    parser.add_argument("--json", type=inputs.path, metavar="FILE", help="write the same there")
    return inputs.main(run, parser.parse_args(arguments))


if __name__ == "__main__":
    sys.exit(main())
