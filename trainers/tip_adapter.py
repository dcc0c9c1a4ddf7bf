"""Tip-Adapter: zero-shot CLIP and a cache of the training images' features.

Zhang et al., ECCV 2022, arXiv 2207.09519.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from yacs.config import CfgNode

from dassl.engine import TRAINER_REGISTRY
from trainers.backbone import PRECISIONS, unit
from trainers.base import PromptTrainer
from trainers.errors import UserError
from trainers.model import PromptedCLIP
from trainers.options import PRECISION_HELP, rules
from trainers.step import Features
from trainers.views import encoded_training_views


def extend_cfg(cfg: CfgNode) -> None:
    """Add TRAINER.TIP_ADAPTER."""
    rules.declare(
        cfg,
        "TRAINER.TIP_ADAPTER",
        {
            "PREC": rules.key("fp16", rules.one_of(*PRECISIONS), PRECISION_HELP),
            "ALPHA": rules.key(1.0, rules.number(0), "Weight of the cache's logits."),
            "BETA": rules.key(
                5.5, rules.number(0), "Sharpness of the cache: exp(-BETA (1 - cosine))."
            ),
            "VIEWS": rules.key(
                10,
                rules.whole(1),
                "Augmented views whose mean is an image's key; 1 is enough for a training "
                "transform that draws nothing.",
            ),
            "FINE_TUNE": rules.key(
                False, help="True trains the keys (Tip-Adapter-F); False trains nothing."
            ),
        },
    )


@dataclass
class CachedFeatures(Features):
    """Features whose logits have the cache's part: keys (N, D), one-hot values (N, C)."""

    keys: Tensor
    values: Tensor
    alpha: float
    beta: float

    def logits(self) -> Tensor:
        """scale * <image, text> + alpha * exp(-beta (1 - <image, key>)) of the class's keys."""
        affinity = (-self.beta * (1 - self.image @ self.keys.t())).exp()
        return super().logits() + self.alpha * affinity @ self.values


class Cache(nn.Module):
    """Keys (N, D), unit-norm before any training, and the labels (N,) of the images they are of.

    Empty until it is filled, or a checkpoint is loaded.
    """

    labels: Tensor

    def __init__(self, embed_dim: int):
        super().__init__()
        self.keys = nn.Parameter(torch.zeros(0, embed_dim))
        self.register_buffer("labels", torch.zeros(0, dtype=torch.long))

    def fill(self, keys: Tensor, labels: Tensor) -> None:
        """Take keys (N, D) and labels (N,)."""
        device = self.keys.device
        self.keys.data, self.labels = keys.to(device), labels.to(device)

    def fit_to(self, state: dict[str, Tensor]) -> None:
        """Make room for as many images as a checkpoint has."""
        keys, labels = state.get("keys"), state.get("labels")
        if keys is not None and labels is not None and keys.shape[1:] == self.keys.shape[1:]:
            self.fill(torch.zeros_like(keys), torch.zeros_like(labels))


class TipAdapterModel(PromptedCLIP):
    """Zero-shot CLIP whose logits have the cache's part."""

    prompts: Cache
    compares_features = False

    def build_prompts(self) -> Cache:
        return Cache(self.backbone.embed_dim)

    def text_features(self) -> Tensor:
        return self.zero_shot_texts

    def features(self, images: Tensor, text: Tensor | None = None) -> CachedFeatures:
        plain, cache = super().features(images, text), self.prompts
        values = nn.functional.one_hot(cache.labels, len(self.classnames)).to(cache.keys.dtype)
        options = self.options
        return CachedFeatures(
            plain.image, plain.text, plain.scale, cache.keys, values, options.ALPHA, options.BETA
        )

    def learned_per_class(self) -> list[str]:
        """The keys: each is of an image of one class."""
        return ["keys"]


@TRAINER_REGISTRY.register()
class TipAdapter(PromptTrainer):
    """Fills the cache of a `TipAdapterModel`, and trains its keys if FINE_TUNE says so."""

    clip: TipAdapterModel
    structure = TipAdapterModel
    options = "TIP_ADAPTER"

    @classmethod
    def learns_in_epochs(cls, cfg: CfgNode) -> bool:
        return cfg.TRAINER.TIP_ADAPTER.FINE_TUNE

    def check_cfg(self, cfg: CfgNode) -> None:
        if not self.learns_in_epochs(cfg) and cfg.OPTIM.MAX_EPOCH != 1:
            raise UserError(
                f"OPTIM.MAX_EPOCH is {cfg.OPTIM.MAX_EPOCH}, but Tip-Adapter without "
                "TRAINER.TIP_ADAPTER.FINE_TUNE trains nothing: set it to 1, or FINE_TUNE to True"
            )
        if cfg.TRAINER.get("TERMS", ()) and not cfg.TRAINER.TIP_ADAPTER.FINE_TUNE:
            raise UserError(
                f"TRAINER.TERMS is {cfg.TRAINER.TERMS}, but Tip-Adapter without FINE_TUNE takes no "
                "loss terms: leave it out"
            )
        super().check_cfg(cfg)

    def complete_clip(self) -> None:
        if self.cfg.get("EVAL_ONLY", False):
            return  # a checkpoint brings the cache
        items = self.dm.dataset.train_x
        views = encoded_training_views(self, items, self.cfg.TRAINER.TIP_ADAPTER.VIEWS)
        labels = torch.tensor([item.label for item in items])
        self.clip.prompts.fill(unit(views.mean(0)), labels)

    def run_epoch(self) -> None:
        if self.cfg.TRAINER.TIP_ADAPTER.FINE_TUNE:
            super().run_epoch()
