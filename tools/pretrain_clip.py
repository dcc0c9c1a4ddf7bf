"""Pretrain the small bundled CLIP on the bank of `tools.pretrain_data` and `tools.pretrain_text`.

    python -m tools.pretrain_clip --bank BANK_DIR --out assets/drawings_clip.pt --minutes 90

OpenAI's architecture, so `clip.load(path)` reads the file. Three phases: the text tower learns the
sentence encoder's embeddings; the image tower learns from captions with the text tower frozen
(LiT, arXiv 2111.07991); both learn. A batch holds items, most of them drawn by two artists. Losses:
picture against caption (CLIP; another artist's caption of the item counts half), picture against
picture of the same item by another artist, and distance to what the teacher of
`tools.pretrain_teacher` makes of the picture before it was moved and recoloured. The held-out items
of `Bank` judge the training; no picture of the suite is seen.
"""

import argparse
import json
import logging
import math
import random
import re
import sys
import time
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

import clip
import numpy as np
import torch
import torch.nn.functional as F
from clip.model import CLIP
from torch import Tensor, nn

from tools import inputs
from tools.arguments import Parser
from tools.pretrain_captions import INKS, PAPERS, Look, caption
from tools.pretrain_data import KEPT_OUT, is_class, tells_class

log = logging.getLogger(__name__)
MEAN = torch.tensor([0.48145466, 0.4578275, 0.40821073]).view(3, 1, 1)  # CLIP's pixel statistics
STD = torch.tensor([0.26862954, 0.26130258, 0.27577711]).view(3, 1, 1)
LONGEST = 150  # characters of a caption
HELD_OUT = 500  # items, drawn by three artists or more
# (until this share of the time, this share of the patches is run), then all are.
PATCHES = ((0.5, 0.25), (0.8, 0.5))
PLAIN = (1.0, 0.4)  # share of pictures in the artist's look, at the start and from half time on
EMBEDDING, FEATURES = 5.0, 3.0  # weights of the teacher's losses
STATIC = "token_embedding.static"
TEACHER = "teacher.pt"  # in the bank's folder, by `tools.pretrain_teacher`
OTHER_CAPTION = 0.5  # weight of another picture's caption of the same item; the own one counts 1


class Tokens(nn.Module):
    """Token embeddings: a learned map of the encoder's static vectors plus a learned correction.

    A token that no caption holds has the mapped vector alone, so that every token means something.
    """

    def __init__(self, static: Tensor, width: int):
        super().__init__()
        static = static.float()
        static = (static - static.mean(0)) / static.std()
        self.static: Tensor
        self.register_buffer("static", static)
        components = torch.linalg.svd(static[::7], full_matrices=False).Vh[:width].t()
        scale = 0.03 / (static @ components).std()
        self.map = nn.Parameter(components.contiguous() * scale)
        self.correction = nn.Embedding(len(static), width, sparse=False)
        nn.init.zeros_(self.correction.weight)

    def forward(self, tokens: Tensor) -> Tensor:
        return self.static[tokens] @ self.map + self.correction(tokens)

    def table(self) -> Tensor:
        """(vocabulary, width)."""
        return (self.static @ self.map + self.correction.weight).detach()


def build(static: Tensor, args: argparse.Namespace) -> CLIP:
    """A new CLIP of the sizes in `args`."""
    model = CLIP(
        embed_dim=args.embed,
        image_resolution=args.image,
        vision_layers=args.layers,
        vision_width=args.vision_width,
        vision_patch_size=args.patch,
        context_length=clip.tokenize("").shape[1],
        vocab_size=1,
        transformer_width=args.text_width,
        transformer_heads=max(1, args.text_width // 64),
        transformer_layers=args.layers,
    ).float()
    model.token_embedding = Tokens(static, args.text_width)
    with torch.no_grad():
        # Paper is most of a picture: filters without a mean do not answer to it.
        filters = model.visual.conv1.weight
        filters -= filters.mean((1, 2, 3), keepdim=True)
        places = model.visual.positional_embedding
        places[1:] = plane_waves(args.image // args.patch, places.shape[1])
    return model


def plane_waves(side: int, width: int, size: float = 0.4) -> Tensor:
    """(side * side, width): sines and cosines of row and column, so that neighbours are alike."""
    rate = 100 ** -(torch.arange(width // 4) / (width // 4))
    y, x = torch.meshgrid(torch.arange(side), torch.arange(side), indexing="ij")
    phases = [place.reshape(-1, 1) * rate for place in (x, y)]
    return size * torch.cat([wave(p) for p in phases for wave in (torch.sin, torch.cos)], 1)


def tokenize(captions: list[str]) -> Tensor:
    return clip.tokenize([text[:LONGEST] for text in captions], truncate=True)


def encode_text(model: CLIP, tokens: Tensor) -> Tensor:
    """Unit-norm features (N, D); runs as many positions as the longest text has."""
    end = tokens.argmax(1)
    tokens = tokens[:, : int(end.max()) + 1]
    length = tokens.shape[1]
    mask = torch.full((length, length), -math.inf).triu(1)
    x = (model.token_embedding(tokens) + model.positional_embedding[:length]).permute(1, 0, 2)
    for block in model.transformer.resblocks:
        block.attn_mask = mask
        x = block(x)
    x = model.ln_final(x.permute(1, 0, 2))
    return F.normalize((x[torch.arange(len(x)), end] @ model.text_projection).float(), dim=1)


def encode_image(model: CLIP, images: Tensor, keep: Tensor | None = None) -> Tensor:
    """Unit-norm features (N, D); `keep` (N, K) are the patches to run (FLIP, arXiv 2212.00794)."""
    if keep is None:
        return F.normalize(model.visual(images).float(), dim=1)
    visual = model.visual
    patches = visual.conv1(images).flatten(2).transpose(1, 2) + visual.positional_embedding[1:]
    patches = patches.gather(1, keep[..., None].expand(-1, -1, patches.shape[2]))
    first = (visual.class_embedding + visual.positional_embedding[0]).expand(len(images), 1, -1)
    x = visual.transformer(visual.ln_pre(torch.cat([first, patches], 1)).transpose(0, 1))
    return F.normalize((visual.ln_post(x[0]) @ visual.proj).float(), dim=1)


class Bank:
    """Pictures by item and artist; the items of `held_out` are for validation alone."""

    def __init__(self, folder: Path, seed: int = 0):
        self.mono = torch.from_numpy(np.load(folder / "mono.npy", mmap_mode="c"))
        self.colour = torch.from_numpy(np.load(folder / "colour.npy", mmap_mode="c"))
        self.index = json.loads((folder / "index.json").read_text(encoding="utf-8"))
        self.items = json.loads((folder / "items.json").read_text(encoding="utf-8"))
        self.of: dict[str, dict[str, list[int]]] = defaultdict(lambda: defaultdict(list))
        for number, row in enumerate(self.index):
            if row["artist"] in KEPT_OUT or is_class(self.items[row["item"]]["label"]):
                continue  # of a bank that was made by other rules
            self.of[row["item"]][row["artist"]].append(number)
        rng = random.Random(seed)
        several = sorted(item for item, artists in self.of.items() if len(artists) > 2)
        self.held_out = sorted(rng.sample(several, min(HELD_OUT, len(several) // 10)))
        hidden = set(self.held_out)
        self.pairs = [
            item for item, artists in self.of.items() if len(artists) > 1 and item not in hidden
        ]
        self.singles = [item for item, artists in self.of.items() if len(artists) == 1]
        # Things; the rest are mostly signs of user interfaces.
        self.emoji = [item for item in self.pairs if re.fullmatch("[0-9A-F-]{4,}", item)]
        self.others = sorted(set(self.pairs) - set(self.emoji))

    def held_out_pictures(self) -> list[int]:
        """Two of each held-out item, by two artists, side by side."""
        firsts = [list(self.of[item].values())[:2] for item in self.held_out]
        return [pictures[0] for pair in firsts for pictures in pair]

    def name(self, item: str) -> str:
        return f"a picture of a {self.items[item]['label']}."

    def words(self, item: str, rng: random.Random) -> str:
        facts = self.items[item]
        tags = [tag for tag in facts["tags"] if not tells_class(tag)]
        if tags and rng.random() < 0.25:
            return f"{facts['label']}, {rng.choice(tags)}"
        return facts["label"]

    def pictures(self, numbers: list[int]) -> tuple[Tensor, Tensor]:
        """((N, 3, S, S) ink from 0, white paper, to 1; (N,) whether a picture has no colour)."""
        mono = torch.tensor([number < len(self.mono) for number in numbers])
        size = self.mono.shape[1]
        ink = torch.empty(len(numbers), 3, size, size)
        for place, number in enumerate(numbers):
            if number < len(self.mono):
                ink[place] = 1 - self.mono[number].float() / 255
            else:
                picture = self.colour[number - len(self.mono)]
                ink[place] = 1 - picture.permute(2, 0, 1).float() / 255
        return ink, mono


def drawn_patches(images: Tensor, patch: int, number: int, g: torch.Generator) -> Tensor:
    """(N, number): the patches with the most ink, by chance as well; paper tells little."""
    grey = images.mean(1, keepdim=True)
    contrast = F.avg_pool2d(grey.square(), patch) - F.avg_pool2d(grey, patch).square()
    ink = contrast.clamp(min=0).sqrt().flatten(1)
    ink = ink + 0.25 * torch.rand(ink.shape, generator=g)
    return ink.topk(number, 1).indices


def looks(rows: list[dict], mono: Tensor, rng: random.Random, share: float) -> list[Look]:
    """What to make of each picture: a `share` stays as it is; of the rest drawings in one colour
    get ink, any gets paper.
    """
    result = []
    for row, plain in zip(rows, mono.tolist(), strict=True):
        if rng.random() < share:
            result.append(Look(row["style"]))
            continue
        ink = rng.choice(list(INKS)) if plain and rng.random() < 0.5 else ""
        paper = rng.choice(list(PAPERS)) if rng.random() < 0.3 else "white"
        if ink in ("white", "yellow", paper) and paper in ("white", "grey", "yellow", ink):
            paper = "blue" if ink != "blue" else "orange"
        grey = not plain and rng.random() < 0.15
        outlined = not plain and rng.random() < 0.1
        result.append(Look("line" if outlined else row["style"], ink, paper, grey))
    return result


def augment(
    ink: Tensor, mono: Tensor, kinds: list[Look], rows: list[dict], size: int, g: torch.Generator
) -> Tensor:
    """(N, 3, S, S) ink -> normalised (N, 3, size, size): moved, turned, mirrored, thicker, and of
    the look that `kinds` tell.
    """

    def uniform(*shape: int, low: float = 0.0, high: float = 1.0) -> Tensor:
        return torch.rand(shape, generator=g) * (high - low) + low

    n = len(ink)
    thick = uniform(n) < 0.2
    ink[thick] = F.max_pool2d(ink[thick], 3, 1, 1)
    angle, scale = uniform(n, low=-0.25, high=0.25), uniform(n, low=0.8, high=1.2)
    mirror = torch.where(uniform(n) < 0.3, -1.0, 1.0)
    stretch = uniform(n, low=0.85, high=1.17)
    cos, sin = torch.cos(angle) * scale, torch.sin(angle) * scale
    shift = uniform(n, 2, low=-0.12, high=0.12)
    matrix = torch.stack(
        [cos * mirror * stretch, -sin, shift[:, 0], sin * mirror * stretch, cos, shift[:, 1]], 1
    ).view(n, 2, 3)
    grid = F.affine_grid(matrix, [n, 3, size, size], align_corners=False)
    ink = F.grid_sample(ink, grid, align_corners=False).clamp(0, 1)
    grey = ink.mean(1, keepdim=True)
    edges = (F.max_pool2d(grey, 3, 1, 1) + F.max_pool2d(-grey, 3, 1, 1)).clamp(0, 1)
    outlined = torch.tensor(
        [kind.style == "line" and row["style"] != "line" for kind, row in zip(kinds, rows)]
    ).view(n, 1, 1, 1)
    plain = torch.tensor([kind.grey for kind in kinds]).view(n, 1, 1, 1) | mono.view(n, 1, 1, 1)
    ink = torch.where(outlined, edges.expand_as(ink), torch.where(plain, grey.expand_as(ink), ink))
    jitter = uniform(n, 1, 1, 1, low=0.7, high=1.3)
    ink = torch.where(plain, ink, (grey + (ink - grey) * jitter).clamp(0, 1))
    paper = torch.tensor([PAPERS[kind.paper] for kind in kinds]).view(n, 3, 1, 1) / 255
    tint = torch.tensor([INKS[kind.ink or "black"] for kind in kinds]).view(n, 3, 1, 1) / 255
    tint = (tint + uniform(n, 3, 1, 1, low=-0.06, high=0.06)).clamp(0, 1)
    inked = torch.tensor([bool(kind.ink) for kind in kinds]).view(n, 1, 1, 1)
    image = torch.where(inked, paper * (1 - grey) + tint * grey, paper * (1 - ink))
    image = (image - 0.5) * uniform(n, 1, 1, 1, low=0.8, high=1.1) + 0.5
    image = (image + uniform(n, 1, 1, 1, low=-0.08, high=0.08)).clamp(0, 1)
    return (image - MEAN) / STD


@dataclass
class Batch:
    """numbers of the pictures in the bank; images (B, 3, S, S), normalised, a caption each; owner
    (B,): number of the item; the first `drawn` pictures are pairs of two artists, side by side.
    """

    numbers: list[int]
    images: Tensor
    captions: list[str]
    owner: Tensor
    drawn: int


def draw_batch(
    bank: Bank,
    args: argparse.Namespace,
    plain: float,
    rng: random.Random,
    generator: torch.Generator,
) -> Batch:
    half = args.pairs // 2
    pairs = rng.sample(bank.emoji, half) + rng.sample(bank.others, args.pairs - half)
    singles = rng.sample(bank.singles, args.singles)
    numbers = []
    for item in pairs:
        artists = rng.sample(sorted(bank.of[item]), 2)
        numbers += [rng.choice(bank.of[item][artist]) for artist in artists]
    numbers += [rng.choice(next(iter(bank.of[item].values()))) for item in singles]
    rows = [bank.index[number] for number in numbers]
    ink, mono = bank.pictures(numbers)
    kinds = looks(rows, mono, rng, plain)
    images = augment(ink, mono, kinds, rows, args.image, generator)
    captions = [
        caption(bank.words(row["item"], rng), kind, rng)
        for row, kind in zip(rows, kinds, strict=True)
    ]
    owner = torch.cat(
        [torch.arange(len(pairs)).repeat_interleave(2), len(pairs) + torch.arange(len(singles))]
    )
    return Batch(numbers, images, captions, owner, 2 * len(pairs))


def soft_cross_entropy(logits: Tensor, weight: Tensor) -> Tensor:
    """Cross entropy to each row's weights, normalised."""
    target = weight / weight.sum(1, keepdim=True)
    return -(target * F.log_softmax(logits, 1)).sum(1).mean()


class Teacher(nn.Module):
    """What `tools.pretrain_teacher` stored, and a map from the student's tower to its features.

    Cosines, as a squared error of whitened components taught nothing: it stayed above that of their
    mean.
    """

    def __init__(self, stored: dict[str, Tensor], last: nn.LayerNorm):
        super().__init__()
        self.embedding, self.features = stored["embedding"], stored["features"]
        self.map = nn.Linear(last.weight.shape[0], self.features.shape[1])
        self.tower: Tensor  # of the last batch that the student saw
        last.register_forward_hook(lambda _module, _input, out: setattr(self, "tower", out))

    def forward(self, v: Tensor, numbers: list[int]) -> dict[str, Tensor]:
        """{"embedding", "features"}: 1 - cosine, of features (N, D) and of the tower's."""
        mapped = F.normalize(self.map(self.tower), dim=1)
        return {
            "embedding": (1 - (v * self.embedding[numbers].float()).sum(1)).mean(),
            "features": (1 - (mapped * self.features[numbers].float()).sum(1)).mean(),
        }


def losses(
    model: CLIP, teacher: Teacher, batch: Batch, keep: Tensor | None, frozen: bool
) -> dict[str, Tensor]:
    """{"contrast", "pair", and the teacher's}: scalars. keep: as for `encode_image`. frozen: the
    text tower.
    """
    v = encode_image(model, batch.images, keep)
    with torch.set_grad_enabled(not frozen):
        w = encode_text(model, tokenize(batch.captions))
    scale = model.logit_scale.exp().clamp(max=100)
    same = (batch.owner[:, None] == batch.owner[None]).float()
    weight = OTHER_CAPTION * same + (1 - OTHER_CAPTION) * torch.eye(len(v))
    logits = scale * v @ w.t()
    both = soft_cross_entropy(logits, weight) + soft_cross_entropy(logits.t(), weight)
    drawn = v[: batch.drawn]
    alike = 14 * drawn @ drawn.t() - 1e4 * torch.eye(batch.drawn)
    return {
        "contrast": both / 2,
        "pair": F.cross_entropy(alike, torch.arange(batch.drawn) ^ 1),
        **teacher(v, batch.numbers),
    }


class Lesson:
    """The encoder's texts in the order of their lengths, so that a batch needs little padding."""

    def __init__(self, stored: dict):
        tokens = tokenize(stored["texts"])
        order = tokens.argmax(1).argsort(stable=True)
        self.tokens, self.target = tokens[order], stored["features"].float()[order]
        self.static = stored["static"]

    def draw(self, number: int, rng: random.Random) -> tuple[Tensor, Tensor]:
        """(tokens, target) of texts of about one length."""
        start = rng.randrange(len(self.tokens) - 4 * number)
        places = torch.tensor(rng.sample(range(start, start + 4 * number), number))
        return self.tokens[places], self.target[places]


def text_losses(model: CLIP, tokens: Tensor, target: Tensor) -> Tensor:
    """Distance to the encoder's embeddings, of the features and of their cosines."""
    w = encode_text(model, tokens)
    alike = (w @ w.t() - target @ target.t()).square().mean()
    return (1 - (w * target).sum(1)).mean() + 4 * alike


class Muon(torch.optim.Optimizer):
    """Momentum whose update is made orthogonal (K. Jordan, "Muon", 2024), with decoupled decay.

    As torch.optim.Muon, whose steps in bfloat16 take seconds on a processor without bfloat16. The
    update is scaled to the root mean square of AdamW's (arXiv 2502.16982, equation 4).
    """

    def __init__(self, params: list[Tensor], lr: float, momentum: float = 0.95, decay: float = 0.1):
        super().__init__(params, {"lr": lr, "momentum": momentum, "decay": decay})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override] # takes none
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is None:
                    continue
                average = self.state[p].setdefault("average", torch.zeros_like(p))
                average.lerp_(p.grad, 1 - group["momentum"])
                update = orthogonal(p.grad.lerp(average, group["momentum"]))
                p.mul_(1 - group["lr"] * group["decay"])
                p.add_(update, alpha=-group["lr"] * 0.2 * max(p.shape) ** 0.5)


def orthogonal(matrix: Tensor, steps: int = 5) -> Tensor:
    """A matrix with the singular vectors of `matrix` and singular values near 1, by the quintic
    Newton-Schulz iteration with Jordan's coefficients.
    """
    wide = matrix if matrix.shape[0] <= matrix.shape[1] else matrix.t()
    x = wide / (wide.norm() + 1e-7)
    for _ in range(steps):
        square = x @ x.t()
        x = 3.4445 * x + (-4.775 * square + 2.0315 * square @ square) @ x
    return x if wide is matrix else x.t()


def build_optimizers(model: CLIP, lr: float) -> list[torch.optim.Optimizer]:
    """Muon for the matrices of the blocks, AdamW for the rest: on this little data Muon needs about
    half the steps.
    """
    used = {name: p for name, p in model.named_parameters() if p.requires_grad}
    matrices = [p for name, p in used.items() if ".resblocks." in name and p.ndim == 2]
    inside = {id(p) for p in matrices}
    rest = [p for p in used.values() if id(p) not in inside]
    decayed = [p for p in rest if p.ndim > 1]
    plain = [p for p in rest if p.ndim <= 1]
    groups = [{"params": decayed, "weight_decay": 0.1}, {"params": plain, "weight_decay": 0.0}]
    return [Muon(matrices, lr=lr), torch.optim.AdamW(groups, lr=lr, betas=(0.9, 0.98), fused=True)]


def is_text(name: str) -> bool:
    return not name.startswith("visual.") and name != "logit_scale"


class Clock:
    """Learning rate by the clock: warm-up over 200 steps, a plateau, a line to zero at the end.

    decay: share of the minutes in which the rate falls.
    """

    def __init__(self, minutes: float, lr: float, decay: float = 1.0):
        self.start, self.minutes, self.lr, self.step = time.time(), minutes, lr, 0
        self.decay = max(decay, 1e-6)

    @property
    def progress(self) -> float:
        return (time.time() - self.start) / (60 * self.minutes)

    def set(self, optimizers: list[torch.optim.Optimizer]) -> None:
        left = max(0.0, 1 - self.progress) / self.decay
        rate = min(1.0, (self.step + 1) / 200) * min(1.0, left)
        for optimizer in optimizers:
            for group in optimizer.param_groups:
                group["lr"] = self.lr * rate
        self.step += 1


def step(loss: Tensor, model: CLIP, optimizers: list[torch.optim.Optimizer]) -> None:
    model.zero_grad(set_to_none=True)
    loss.backward()
    nn.utils.clip_grad_norm_([p for p in model.parameters() if p.grad is not None], 1.0)
    for optimizer in optimizers:
        optimizer.step()


def train_text(model: CLIP, lesson: Lesson, args: argparse.Namespace) -> None:
    """Phase 1, for `args.text_minutes`."""
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(is_text(name))
    rng, clock = random.Random(args.seed), Clock(args.text_minutes, args.lr)
    optimizers = build_optimizers(model, args.lr)
    while clock.progress < 1:
        clock.set(optimizers)
        loss = text_losses(model, *lesson.draw(256, rng))
        step(loss, model, optimizers)
        if clock.step % 200 == 0:
            log.info(f"text step {clock.step}: {loss.item():.3f}")


@torch.no_grad()
def recall(model: CLIP, bank: Bank, size: int) -> tuple[float, float]:
    """Percent of held-out pictures whose item is first among all held-out items, by its words and
    by another artist's picture.
    """
    items = bank.held_out
    ink, _ = bank.pictures(bank.held_out_pictures())
    images = F.interpolate(1 - ink, size=(size, size), mode="bilinear", antialias=True)
    model.eval()
    v = torch.cat([encode_image(model, part) for part in ((images - MEAN) / STD).split(250)])
    return ranks(v, encode_text(model, tokenize([bank.name(item) for item in items])))


def ranks(v: Tensor, w: Tensor) -> tuple[float, float]:
    """Percent of `v` (2 I, D), two pictures of each item, whose words among `w` (I, D), and whose
    other picture, is the nearest.
    """
    items = torch.arange(len(w))
    named = (v @ w.t()).argmax(1) == items.repeat_interleave(2)
    found = (v[::2] @ v[1::2].t()).argmax(1) == items
    return 100 * named.float().mean().item(), 100 * found.float().mean().item()


def train(
    model: CLIP, teacher: Teacher, bank: Bank, lesson: Lesson, args: argparse.Namespace
) -> None:
    """Phases 2 and 3; the average of the weights is saved every five minutes and at the end."""
    rng, generator = random.Random(args.seed), torch.Generator().manual_seed(args.seed)
    clock, last, seen = Clock(args.minutes, args.lr, args.decay), time.time(), 0
    frozen: bool | None = None
    averaged = torch.optim.swa_utils.AveragedModel(
        model, multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(0.998)
    )
    while clock.progress < 1:
        now_frozen = clock.progress < args.frozen
        if now_frozen != frozen:
            frozen = now_frozen
            for name, parameter in model.named_parameters():
                parameter.requires_grad_(not frozen or not is_text(name))
            optimizers = build_optimizers(model, args.lr)
            optimizers.append(torch.optim.AdamW(teacher.parameters()))
        clock.set(optimizers)
        plain = PLAIN[0] + (PLAIN[1] - PLAIN[0]) * min(1.0, 2 * clock.progress)
        batch = draw_batch(bank, args, plain, rng, generator)
        share = next((s for until, s in PATCHES if clock.progress < until), 1.0)
        number = int(share * (args.image // args.patch) ** 2)
        keep = drawn_patches(batch.images, args.patch, number, generator) if share < 1 else None
        terms = losses(model, teacher, batch, keep, bool(frozen))
        loss = terms["contrast"] + 0.5 * terms["pair"]
        loss = loss + EMBEDDING * terms["embedding"] + FEATURES * terms["features"]
        if not frozen:
            terms["text"] = text_losses(model, *lesson.draw(96, rng))
            loss = loss + terms["text"]
        step(loss, model, optimizers)
        averaged.update_parameters(model)
        seen += len(batch.images)
        if time.time() - last > 120:
            last = time.time()
            shown = " ".join(f"{name} {term.item():.2f}" for name, term in terms.items())
            named, found = recall(averaged.module, bank, args.image)
            model.train()
            scale = model.logit_scale.exp().item()
            log.info(
                f"{(last - clock.start) / 60:5.1f} min step {clock.step} "
                f"({seen / (last - clock.start):.0f} images/s) {shown} scale {scale:.1f} "
                f"held-out: named {named:.1f} found {found:.1f}"
            )
            save(averaged.module, args.out)
    save(averaged.module, args.out)
    log.info(f"finished: {clock.step} steps, {seen} images -> {args.out}")


def state_of(path: Path) -> Path:
    """The file beside OUT to continue from."""
    return path.with_suffix(".state")


def save(model: CLIP, path: Path) -> None:
    """State dict in half precision, with a row for every token; and PATH.state to continue from.

    Matrices keep 7 of the 10 bits of the mantissa, as in bfloat16, so that the file packs to four
    fifths.
    """
    weights = {
        key: value.detach().to(torch.float16)
        for key, value in model.state_dict().items()
        if not key.startswith("token_embedding.")
    }
    weights["token_embedding.weight"] = model.token_embedding.table().to(torch.float16)
    for key, value in weights.items():
        if value.ndim > 1:
            bits = value.view(torch.int16).int()
            weights[key] = ((bits + 4) & ~7).to(torch.int16).view(torch.half)
    state = {key: value for key, value in model.state_dict().items() if key != STATIC}
    path.parent.mkdir(parents=True, exist_ok=True)
    for content, target in ((weights, path), (state, state_of(path))):
        temporary = target.with_suffix(".tmp")
        torch.save(content, temporary)
        temporary.replace(target)


def load(model: CLIP, path: Path) -> None:
    """What `save` wrote to continue from."""
    model.load_state_dict(torch.load(path, weights_only=True), strict=False)


def parser_of(description: str) -> argparse.ArgumentParser:
    """With the options that say what the model is."""
    parser = Parser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bank", type=inputs.path, required=True)
    parser.add_argument("--image", type=int, default=64)
    parser.add_argument("--patch", type=int, default=8)
    parser.add_argument("--vision-width", type=int, default=160)
    parser.add_argument("--text-width", type=int, default=128)
    parser.add_argument("--layers", type=int, default=6)
    parser.add_argument("--embed", type=int, default=128)
    parser.add_argument("--seed", type=int, default=1)
    return parser


def parse_args() -> argparse.Namespace:
    parser = parser_of(__doc__ or "")
    parser.add_argument("--out", type=inputs.path, required=True)
    parser.add_argument("--init", type=inputs.path, help="state to continue from: OUT.state")
    parser.add_argument("--text-minutes", type=float, default=6, help="of the first phase")
    parser.add_argument("--minutes", type=float, default=78, help="of the other two, or 0")
    parser.add_argument("--frozen", type=float, default=0.9, help="share of phase 2 in them")
    parser.add_argument("--decay", type=float, default=0.4, help="share in which the rate falls")
    parser.add_argument("--pairs", type=int, default=48, help="items per batch, two artists each")
    parser.add_argument("--singles", type=int, default=32, help="items of one artist per batch")
    parser.add_argument("--lr", type=float, default=4e-3)
    return parser.parse_args()


def main() -> int:
    args = parse_args()
    out = [args.out, state_of(args.out)] if args.out.name else [args.out]
    read = [args.bank / name for name in ("mono.npy", "colour.npy", "index.json", "items.json")]
    read += [args.bank / "text.pt", args.bank / TEACHER, *([args.init] if args.init else ())]
    inputs.check_outputs([inputs.Output("--out", path) for path in out], read)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    torch.manual_seed(args.seed)
    bank = Bank(args.bank)
    lesson = Lesson(torch.load(args.bank / "text.pt", weights_only=True))
    model = build(lesson.static, args)
    parameters = sum(p.numel() for p in model.parameters()) / 1e6
    log.info(
        f"{len(bank.index)} pictures, {len(bank.pairs)} items of several artists, "
        f"{len(bank.singles)} of one, {len(lesson.tokens)} texts, {parameters:.2f} M parameters"
    )
    if args.init:
        load(model, args.init)
    else:
        train_text(model, lesson, args)
        save(model, args.out)
    if args.minutes > 0:
        stored = torch.load(args.bank / TEACHER, weights_only=True)
        teacher = Teacher(stored, model.visual.ln_post)
        train(model, teacher, bank, lesson, args)
    return 0


if __name__ == "__main__":
    sys.exit(inputs.main(lambda _: main(), argparse.Namespace()))
