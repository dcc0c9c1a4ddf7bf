"""Pretrain the tiny CLIP of the bundled benchmark on the pictures of `tools.pretrain_data`.

    python -m tools.pretrain_clip --bank BANK_DIR --out assets/openmoji_clip.pt --minutes 90

OpenAI architecture, so `clip.load(path)` reads the file. A batch holds emoji, each drawn by two
artists, and icons. Three losses, all on the shared embedding: picture against caption (CLIP; every
picture of a concept is a positive), picture against the names of all Unicode subgroups (icons: of
their sets' categories), and picture against picture of the same concept by another artist. No
benchmark picture is used (see `tools.pretrain_data`); progress is judged on the validation split
only.
"""

import argparse
import json
import logging
import math
import random
import sys
import time
from collections import Counter, defaultdict
from dataclasses import dataclass
from pathlib import Path

import clip
import numpy as np
import torch
import torch.nn.functional as F
from clip.model import CLIP
from torch import Tensor, nn

from dassl.utils import load_checkpoint
from tools import inputs

log = logging.getLogger(__name__)
MEAN = torch.tensor([0.48145466, 0.4578275, 0.40821073]).view(3, 1, 1)  # CLIP's pixel statistics
STD = torch.tensor([0.26862954, 0.26130258, 0.27577711]).view(3, 1, 1)
TEMPLATES = (
    "a photo of a {}.",
    "a picture of a {}.",
    "a drawing of a {}.",
    "an emoji of a {}.",
    "an icon of a {}.",
    "{}",
    "a {}.",
    "a photo of a {}",
    "a sketch of a {}.",
    "a line drawing of a {}.",
    "an illustration of the {}.",
    "this is a {}.",
    "a black and white drawing of a {}.",
    "a colourful picture of a {}.",
    "a clean image of one {}.",
    "a cartoon {}.",
)

LONGEST = 90  # characters of a caption
SHOWN = ("contrast", "subgroup", "pair")  # losses in the log


class Vocabulary:
    """Only tokens that captions use are trained: a small embedding in training, a full one (other
    rows zero) in the file.
    """

    def __init__(self, captions: list[str]):
        tokens = clip.tokenize(captions, truncate=True)
        self.ids = torch.unique(tokens)
        self.size = int(tokens.max()) + 1
        self.small = torch.zeros(self.size, dtype=torch.long)
        self.small[self.ids] = torch.arange(len(self.ids))

    def __call__(self, captions: list[str]) -> tuple[Tensor, Tensor]:
        """Return tokens (N, L), cut to the longest caption, and (N,) where each text ends."""
        tokens = clip.tokenize([caption[:LONGEST] for caption in captions], truncate=True)
        end = tokens.argmax(1)
        return self.small[tokens[:, : int(end.max()) + 1]], end


def build(vocabulary: int, args: argparse.Namespace) -> CLIP:
    """A new CLIP of the sizes in `args`."""
    model = CLIP(
        embed_dim=args.embed,
        image_resolution=args.image,
        vision_layers=args.layers,
        vision_width=args.vision_width,
        vision_patch_size=args.patch,
        context_length=clip.tokenize("").shape[1],
        vocab_size=vocabulary,
        transformer_width=args.text_width,
        transformer_heads=max(1, args.text_width // 64),
        transformer_layers=args.layers,
    )
    return model.float()


def encode_text(model: CLIP, tokens: Tensor, end: Tensor) -> Tensor:
    """Unit-norm features (N, D); runs as many positions as the longest caption has."""
    length = tokens.shape[1]
    mask = torch.full((length, length), -math.inf).triu(1)
    x = model.token_embedding(tokens) + model.positional_embedding[:length]
    x = x.permute(1, 0, 2)
    for block in model.transformer.resblocks:
        block.attn_mask = mask
        x = block(x)
    x = model.ln_final(x.permute(1, 0, 2))
    return F.normalize((x[torch.arange(len(x)), end] @ model.text_projection).float(), dim=1)


def encode_image(model: CLIP, images: Tensor, keep: Tensor | None = None) -> Tensor:
    """Unit-norm features (N, D); `keep` (N, K) are the patches to run, in training half of them
    (FLIP, arXiv 2212.00794).
    """
    if keep is None:
        return F.normalize(model.visual(images).float(), dim=1)
    visual = model.visual
    patches = visual.conv1(images).flatten(2).transpose(1, 2) + visual.positional_embedding[1:]
    patches = patches.gather(1, keep[..., None].expand(-1, -1, patches.shape[2]))
    first = (visual.class_embedding + visual.positional_embedding[0]).expand(len(images), 1, -1)
    x = visual.transformer(visual.ln_pre(torch.cat([first, patches], 1)).transpose(0, 1))
    return F.normalize((visual.ln_post(x[0]) @ visual.proj).float(), dim=1)


def augment(pictures: Tensor, size: int, generator: torch.Generator) -> Tensor:
    """(N, S, S, 3) uint8 -> normalised (N, 3, size, size): moved, turned, mirrored, recoloured,
    thicker, outlines only, on coloured paper.
    """

    def uniform(*shape: int, low: float = 0.0, high: float = 1.0) -> Tensor:
        return torch.rand(shape, generator=generator) * (high - low) + low

    n = len(pictures)
    # White paper is 0, so that padding is paper.
    ink = 1 - pictures.permute(0, 3, 1, 2).float() / 255
    thick = uniform(n) < 0.2
    ink[thick] = F.max_pool2d(ink[thick], 3, 1, 1)
    angle, scale = uniform(n, low=-0.25, high=0.25), uniform(n, low=0.85, high=1.25)
    mirror = torch.where(uniform(n) < 0.3, -1.0, 1.0)
    stretch = uniform(n, low=0.88, high=1.14)
    cos, sin = torch.cos(angle) * scale, torch.sin(angle) * scale
    shift = uniform(n, 2, low=-0.12, high=0.12)
    matrix = torch.stack(
        [cos * mirror * stretch, -sin, shift[:, 0], sin * mirror * stretch, cos, shift[:, 1]], 1
    ).view(n, 2, 3)
    ink = F.grid_sample(
        ink, F.affine_grid(matrix, [n, 3, size, size], align_corners=False), align_corners=False
    )
    image = 1 - ink
    grey = image.mean(1, keepdim=True)
    # A line drawing of sorts, of any picture.
    edges = F.max_pool2d(grey, 3, 1, 1) + F.max_pool2d(-grey, 3, 1, 1)
    image = torch.where(uniform(n, 1, 1, 1) < 0.08, (1 - 1.5 * edges).clamp(0, 1), image)
    image = torch.where(uniform(n, 1, 1, 1) < 0.2, grey, image)
    image = torch.where(
        uniform(n, 1, 1, 1) < 0.15, image[:, torch.randperm(3, generator=generator)], image
    )
    saturation = uniform(n, 1, 1, 1, low=0.5, high=1.5)
    image = grey + (image - grey) * saturation
    image = image * torch.where(
        uniform(n, 1, 1, 1) < 0.3, uniform(n, 3, 1, 1, low=0.6, high=1.0), torch.ones(())
    )
    image = (
        (image - 0.5) * uniform(n, 1, 1, 1, low=0.75, high=1.2)
        + 0.5
        + uniform(n, 1, 1, 1, low=-0.1, high=0.1)
    ).clamp(0, 1)
    return (image - MEAN) / STD


def build_optimizers(model: CLIP, lr: float) -> list[torch.optim.Optimizer]:
    """Muon for the matrices of the blocks, AdamW for the rest: on this little data Muon needs about
    half the steps.
    """
    if not hasattr(torch.optim, "Muon"):
        raise SystemExit(
            f"error: torch {torch.__version__} has no torch.optim.Muon, with which the small CLIP "
            "was trained: install torch 2.9 or newer"
        )
    matrices = [p for name, p in model.named_parameters() if ".resblocks." in name and p.ndim == 2]
    inside = {id(p) for p in matrices}
    rest = [p for p in model.parameters() if id(p) not in inside]
    return [
        torch.optim.Muon(matrices, lr=lr, weight_decay=0.1, adjust_lr_fn="match_rms_adamw"),
        torch.optim.AdamW(
            [
                {"params": [p for p in rest if p.ndim > 1], "weight_decay": 0.1},
                {"params": [p for p in rest if p.ndim <= 1], "weight_decay": 0.0},
            ],
            lr=lr,
            betas=(0.9, 0.98),
        ),
    ]


class Bank:
    """Pictures by concept and artist, captions by concept."""

    def __init__(self, folder: Path):
        self.pictures = torch.from_numpy(np.load(folder / "pictures.npy", mmap_mode="c"))
        self.concepts = json.loads((folder / "concepts.json").read_text())
        self.of: dict[str, dict[str, list[int]]] = defaultdict(lambda: defaultdict(list))
        for number, row in enumerate(json.loads((folder / "index.json").read_text())):
            self.of[row["concept"]][row["artist"]].append(number)
        self.emoji = [key for key in self.of if not key.startswith("icon ")]
        self.flags = [key for key in self.emoji if self.concepts[key]["class"].endswith("flag")]
        self.others = [
            key for key in self.emoji if not self.concepts[key]["class"].endswith("flag")
        ]
        self.icons = [key for key in self.of if key.startswith("icon ")]
        self.classes = sorted({self.concepts[key]["class"] for key in self.emoji})
        count = Counter(self.concepts[key]["class"] for key in self.icons)
        self.categories = sorted(name for name, number in count.items() if name and number >= 15)

    def draw(self, number: int, rng: random.Random) -> list[str]:
        """Different emoji; flags, a seventh of all and of little use, are one in 24."""
        flags = number // 24
        return rng.sample(self.others, number - flags) + rng.sample(self.flags, flags)

    def views(self, concept: str, number: int, rng: random.Random) -> list[int]:
        artists = list(self.of[concept].values())
        chosen = (
            rng.sample(artists, number)
            if len(artists) >= number
            else rng.choices(artists, k=number)
        )
        return [rng.choice(pictures) for pictures in chosen]

    def caption(self, concept: str, rng: random.Random) -> str:
        facts = self.concepts[concept]
        kind = rng.random()
        if not facts["class"] or kind < 0.4:
            text = facts["label"]
        elif kind < 0.75:
            text = f"{facts['label']}, {rng.choice(('a', 'a kind of', 'one'))} {facts['class']}"
        else:
            text = " ".join(
                [facts["label"], *rng.sample(facts["tags"], min(2, len(facts["tags"])))]
            )
        return rng.choice(TEMPLATES).format(text)


def all_captions(bank: Bank) -> list[str]:
    words = [*TEMPLATES, "a kind of, one", *bank.classes, *bank.categories]
    return words + [
        " ".join([facts["label"], *facts["tags"]]) + "," for facts in bank.concepts.values()
    ]


def soft_cross_entropy(logits: Tensor, positive: Tensor) -> Tensor:
    """Cross entropy to the uniform distribution over each row's positives."""
    target = positive / positive.sum(1, keepdim=True)
    return -(target * F.log_softmax(logits, 1)).sum(1).mean()


def validation(root: Path | None, size: int) -> dict[str, tuple[Tensor, Tensor, list[str]]]:
    """{data set: (images, labels, class names)} of the validation splits under `root`."""
    if root is None:
        return {}
    from torchvision.transforms.functional import pil_to_tensor, resize

    from dassl.utils import read_image

    sets = {}
    for path in sorted(root.glob("openmoji/split_zhou_*.json")):
        rows = json.loads(path.read_text())["val"]
        images = [
            pil_to_tensor(
                resize(read_image(str(root / "openmoji" / "images" / row[0])), [size, size])
            )
            for row in rows
        ]
        names = {label: name for _, label, name in rows}
        sets[path.stem.removeprefix("split_zhou_")] = (
            (torch.stack(images).float() / 255 - MEAN) / STD,
            torch.tensor([row[1] for row in rows]),
            [names[i] for i in sorted(names)],
        )
    return sets


@torch.no_grad()
def zero_shot(
    model: CLIP, vocabulary: Vocabulary, images: Tensor, labels: Tensor, names: list[str]
) -> float:
    text = encode_text(model, *vocabulary([f"a picture of a {name}." for name in names]))
    return (
        (encode_image(model, images) @ text.t()).argmax(1) == labels
    ).float().mean().item() * 100


def save(model: CLIP, vocabulary: Vocabulary, path: Path) -> None:
    """State dict in half precision; rows of tokens never trained are zero, which packs to nothing.

    Matrices keep 7 of the 10 bits of the mantissa, as in bfloat16, so that the file packs to four
    fifths.
    """
    weights = {key: value.detach().to(torch.float16) for key, value in model.state_dict().items()}
    for key, value in weights.items():
        if value.ndim > 1:
            bits = value.view(torch.int16).int()
            weights[key] = ((bits + 4) & ~7).to(torch.int16).view(torch.half)
    full = torch.zeros(
        vocabulary.size, weights["token_embedding.weight"].shape[1], dtype=torch.half
    )
    full[vocabulary.ids] = weights["token_embedding.weight"]
    weights["token_embedding.weight"] = full
    temporary = path.with_suffix(".tmp")
    torch.save(weights, temporary)
    temporary.replace(path)


@dataclass
class Batch:
    """Pictures of emoji, two each and first, and of icons; B of them, E emoji, I icons.

    images (B, 3, S, S), normalised; owner (B,): number of the concept that a picture is of;
    labels (E,): subgroup of each emoji; categories (I,): category of each icon, -1 without one;
    captions: one for each concept, then the names of all subgroups and of all categories.
    """

    images: Tensor
    owner: Tensor
    labels: Tensor
    categories: Tensor
    captions: list[str]


def draw_batch(
    bank: Bank, args: argparse.Namespace, rng: random.Random, generator: torch.Generator
) -> Batch:
    emoji, icons = bank.draw(args.emoji, rng), rng.sample(bank.icons, args.icons)
    numbers = [n for key in emoji for n in bank.views(key, 2, rng)]
    numbers += [bank.views(key, 1, rng)[0] for key in icons]
    images = augment(bank.pictures[numbers], args.image, generator)
    captions = [bank.caption(key, rng) for key in emoji + icons]
    captions += [rng.choice(TEMPLATES).format(name) for name in bank.classes + bank.categories]
    known = {name: number for number, name in enumerate(bank.categories)}
    return Batch(
        images,
        torch.cat(
            [torch.arange(len(emoji)).repeat_interleave(2), len(emoji) + torch.arange(len(icons))]
        ),
        torch.tensor([bank.classes.index(bank.concepts[key]["class"]) for key in emoji]),
        torch.tensor([known.get(bank.concepts[key]["class"], -1) for key in icons]),
        captions,
    )


def losses(
    model: CLIP, vocabulary: Vocabulary, bank: Bank, batch: Batch, keep: Tensor | None
) -> dict[str, Tensor]:
    """{"contrast", "subgroup", "category", "pair"}: scalars. keep: as for `encode_image`."""
    with torch.autocast("cpu", torch.bfloat16):
        v = encode_image(model, batch.images, keep)
        w = encode_text(model, *vocabulary(batch.captions))
    concepts = len(batch.labels) + len(batch.categories)
    w, names, category_names = w.split([concepts, len(bank.classes), len(bank.categories)])
    scale = model.logit_scale.exp().clamp(max=100)
    positive = (batch.owner[:, None] == torch.arange(len(w))[None]).float()
    logits = scale * v @ w.t()
    both = soft_cross_entropy(logits, positive) + soft_cross_entropy(logits.t(), positive.t())
    drawn = 2 * len(batch.labels)
    alike = (v[:drawn] @ v[:drawn].t()) * 14 - 1e4 * torch.eye(drawn)
    return {
        "contrast": both / 2,
        "subgroup": F.cross_entropy(
            scale * v[:drawn] @ names.t(),
            batch.labels[batch.owner[:drawn]],
            label_smoothing=0.05,
        ),
        "category": F.cross_entropy(
            scale * v[drawn:] @ category_names.t(),
            batch.categories,
            ignore_index=-1,
            label_smoothing=0.05,
        ),
        "pair": F.cross_entropy(alike, torch.arange(drawn) ^ 1),  # two pictures of one emoji
    }


def load_start(model: CLIP, vocabulary: Vocabulary, path: Path) -> None:
    """Continue from a file of `save`; tokens not trained there keep their random embedding."""
    weights = {key: value.float() for key, value in load_checkpoint(str(path), "--init").items()}
    known = weights["token_embedding.weight"][vocabulary.ids]
    weights["token_embedding.weight"] = torch.where(
        (known != 0).any(1, keepdim=True), known, model.token_embedding.weight.detach()
    )
    model.load_state_dict(weights)


def learning_rate(args: argparse.Namespace, step: int, progress: float) -> float:
    """Warm-up over 200 steps, then a half cosine over the time; progress: from 0 to 1."""
    return args.lr * (min(1.0, (step + 1) / 200) * (0.5 + 0.5 * math.cos(math.pi * progress)))


def train(model: CLIP, vocabulary: Vocabulary, bank: Bank, args: argparse.Namespace) -> None:
    """Train for `args.minutes`; the average of the weights is saved every minute and at the end."""
    rng, generator = random.Random(args.seed), torch.Generator().manual_seed(args.seed)
    optimizers = build_optimizers(model, args.lr)
    averaged = torch.optim.swa_utils.AveragedModel(
        model, multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(0.998)
    )
    watched = validation(args.data, args.image)
    patches = (args.image // args.patch) ** 2
    start, step, last, seen = time.time(), 0, time.time(), 0
    while (progress := (time.time() - start) / (60 * args.minutes)) < 1:
        for group in (group for optimizer in optimizers for group in optimizer.param_groups):
            group["lr"] = learning_rate(args, step, progress)
        batch = draw_batch(bank, args, rng, generator)
        order = torch.rand(len(batch.images), patches, generator=generator)
        keep = order.topk(patches // 2, 1).indices if progress < args.masked else None
        terms = losses(model, vocabulary, bank, batch, keep)
        loss = terms["contrast"] + terms["subgroup"]
        loss = loss + 0.25 * terms["category"].nan_to_num() + 0.5 * terms["pair"]
        model.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimizer in optimizers:
            optimizer.step()
        averaged.update_parameters(model)
        step, seen = step + 1, seen + len(batch.images)
        if time.time() - last > 60:
            last = time.time()
            model.eval()
            scores = {
                name: round(zero_shot(averaged.module, vocabulary, *data), 1)
                for name, data in watched.items()
            }
            shown = " ".join(f"{name} {terms[name].item():.2f}" for name in SHOWN)
            speed = seen / (last - start)
            scale = model.logit_scale.exp().clamp(max=100).item()
            log.info(
                f"{(last - start) / 60:4.1f} min step {step} ({speed:.0f} images/s) {shown} "
                f"scale {scale:.1f} val {scores}"
            )
            save(averaged.module, vocabulary, args.out)
    save(averaged.module, vocabulary, args.out)
    minutes = (time.time() - start) / 60
    log.info(f"finished: {step} steps, {seen} images, {minutes:.1f} minutes -> {args.out}")


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--bank", type=inputs.path, required=True)
    parser.add_argument("--out", type=inputs.path, required=True)
    parser.add_argument(
        "--init", type=inputs.path, help="weights to continue from, as written by --out"
    )
    parser.add_argument("--minutes", type=float, default=90)
    parser.add_argument(
        "--data",
        type=inputs.path,
        help="DATASET.ROOT with openmoji/, to watch the validation splits",
    )
    parser.add_argument("--image", type=int, default=64)
    parser.add_argument("--patch", type=int, default=8)
    parser.add_argument("--vision-width", type=int, default=160)
    parser.add_argument("--text-width", type=int, default=128)
    parser.add_argument("--layers", type=int, default=6)
    parser.add_argument("--embed", type=int, default=128)
    parser.add_argument("--emoji", type=int, default=96, help="emoji per batch, two pictures each")
    parser.add_argument("--icons", type=int, default=24)
    parser.add_argument(
        "--masked",
        type=float,
        default=0.75,
        help="share of the time in which half of the patches are dropped",
    )
    parser.add_argument("--lr", type=float, default=2e-3)
    parser.add_argument("--seed", type=int, default=1)
    return parser.parse_args()


def main() -> int:
    args = parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    torch.manual_seed(args.seed)
    bank = Bank(args.bank)
    vocabulary = Vocabulary(all_captions(bank))
    model = build(len(vocabulary.ids), args)
    if args.init:
        load_start(model, vocabulary, args.init)
    parameters = sum(p.numel() for p in model.parameters()) / 1e6
    log.info(
        f"{len(bank.pictures)} pictures, {len(bank.emoji)} emoji, {len(bank.icons)} icons, "
        f"{len(bank.classes)} subgroups, {len(bank.categories)} categories, {len(vocabulary.ids)} "
        f"tokens, {parameters:.2f} M parameters"
    )
    train(model, vocabulary, bank, args)
    return 0


if __name__ == "__main__":
    sys.exit(inputs.main(lambda _: main(), argparse.Namespace()))
