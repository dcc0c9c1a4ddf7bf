"""DFR: the last layer, trained again on equally many images of every group.

Kirichenko et al., ICLR 2023, arXiv 2204.02937, on the frozen image features of CLIP. Which images
choose the strength of the penalty, and which standardise features, is as in the published code
(PolinaKirichenko/deep_feature_reweighting).
"""

import inspect
import logging
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from yacs.config import CfgNode

from dassl.engine import TRAINER_REGISTRY
from trainers.backbone import PRECISIONS
from trainers.base import PromptTrainer
from trainers.errors import UserError
from trainers.model import PromptedCLIP
from trainers.options import PRECISION_HELP, rules
from trainers.parallel import from_main
from trainers.step import Features

log = logging.getLogger(__name__)

STRENGTHS = (1.0, 0.7, 0.3, 0.1, 0.07, 0.03, 0.01)  # C of the regressions, as published


def extend_cfg(cfg: CfgNode) -> None:
    """Add TRAINER.DFR."""
    rules.declare(
        cfg,
        "TRAINER.DFR",
        {
            "PREC": rules.key("fp16", rules.one_of(*PRECISIONS), PRECISION_HELP),
            "PART": rules.key(
                "val",
                rules.one_of("val", "train"),
                "Part whose images the layer is trained on: val is the paper's DFR(Val), train its "
                "DFR(Tr).",
            ),
            "REPEATS": rules.key(
                20,
                rules.whole(1),
                "Draws of equally many images per group, which are averaged; published: 20 of val, "
                "10 of train.",
            ),
        },
    )


@dataclass
class LinearFeatures(Features):
    """Features whose logits are those of a linear layer: weight (C, D), bias (C,)."""

    weight: Tensor
    bias: Tensor

    def logits(self) -> Tensor:
        return self.image @ self.weight.t() + self.bias


class Layer(nn.Module):
    """A linear layer of C classes on features (D,): zeros until it is fitted."""

    def __init__(self, classes: int, embed_dim: int):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(classes, embed_dim))
        self.bias = nn.Parameter(torch.zeros(classes))


class DFRModel(PromptedCLIP):
    """A linear layer on frozen CLIP's image features."""

    prompts: Layer
    compares_features = False

    def build_prompts(self) -> Layer:
        return Layer(len(self.classnames), self.backbone.embed_dim)

    def text_features(self) -> Tensor:
        return self.zero_shot_texts

    def features(self, images: Tensor, text: Tensor | None = None) -> LinearFeatures:
        plain, layer = super().features(images, text), self.prompts
        return LinearFeatures(plain.image, plain.text, plain.scale, layer.weight, layer.bias)


@dataclass(frozen=True, eq=False)
class Scale:
    """Mean and standard deviation, (D,), that features are standardised with."""

    centre: NDArray
    spread: NDArray

    @classmethod
    def of(cls, features: NDArray) -> "Scale":
        return cls(features.mean(0), features.std(0) + 1e-8)

    def apply(self, features: NDArray) -> NDArray:
        return (features - self.centre) / self.spread


def balanced(groups: Sequence[tuple], generator: np.random.Generator) -> NDArray:
    """Places of equally many items of every group, as many as the smallest has."""
    members = defaultdict(list)
    for place, group in enumerate(groups):
        members[group].append(place)
    least = min(map(len, members.values()))
    return np.concatenate(
        [generator.permutation(members[group])[:least] for group in sorted(members)]
    )


def worst_group(correct: NDArray, groups: Sequence[tuple]) -> float:
    """The least accuracy of a group, in 0..1."""
    known = sorted(set(groups))
    numbers = np.array([known.index(group) for group in groups])
    return min(float(correct[numbers == number].mean()) for number in range(len(known)))


def _regression(strength: float, classes: int, seed: int):
    """An L1 logistic regression, whichever name the installed scikit-learn has for it."""
    from sklearn.linear_model import LogisticRegression

    known = inspect.signature(LogisticRegression).parameters
    l1 = {"penalty": "l1"} if known["penalty"].default == "l2" else {"l1_ratio": 1.0}
    solver = "liblinear" if classes == 2 else "saga"
    return LogisticRegression(C=strength, solver=solver, max_iter=2000, random_state=seed, **l1)


def _fitted(x: NDArray, y: NDArray, strength: float, classes: int, seed: int):
    """(weight (C, D), bias (C,)) of one regression on standardised features."""
    found = _regression(strength, classes, seed).fit(x, y)
    weight, bias = found.coef_, found.intercept_
    if classes == 2:  # one row, for the second class
        weight, bias = np.stack([-weight[0], weight[0]]) / 2, np.array([-bias[0], bias[0]]) / 2
    return weight, bias


@dataclass(frozen=True, eq=False)
class Labelled:
    """Features (N, D) of images with their labels (N,) and domains (N,)."""

    features: NDArray
    labels: NDArray
    domains: NDArray

    @property
    def groups(self) -> list[tuple]:
        return list(zip(self.labels.tolist(), self.domains.tolist(), strict=True))

    def take(self, places: NDArray) -> "Labelled":
        return Labelled(self.features[places], self.labels[places], self.domains[places])


def strength(images: Labelled, held: Labelled, scale: Scale | None, seed: int) -> float:
    """C of the regressions: the best worst group of `held`, fitted on balanced groups of `images`.

    scale: of the features; None for that of the balanced images, as in the published code.
    """
    classes = int(images.labels.max()) + 1
    chosen = images.take(balanced(images.groups, np.random.default_rng(seed)))
    scale = scale or Scale.of(chosen.features)
    x, held_x = scale.apply(chosen.features), scale.apply(held.features)
    scores = {}
    for candidate in STRENGTHS:
        weight, bias = _fitted(x, chosen.labels, candidate, classes, seed)
        correct = (held_x @ weight.T + bias).argmax(1) == held.labels
        scores[candidate] = worst_group(correct, held.groups)
    return max(scores, key=lambda candidate: scores[candidate])


def fit(
    images: Labelled, best: float, scale: Scale, repeats: int, seed: int
) -> tuple[NDArray, NDArray]:
    """(weight (C, D), bias (C,)): the mean of `repeats` regressions, each on a draw of equally many
    images of every group, for features that are not standardised.

    best: C of the regressions. scale: of the whole training part, as published.
    """
    generator, classes = np.random.default_rng(seed), int(images.labels.max()) + 1
    layers = []
    for _ in range(repeats):
        chosen = images.take(balanced(images.groups, generator))
        layers.append(_fitted(scale.apply(chosen.features), chosen.labels, best, classes, seed))
    weight, bias = (np.mean(parts, axis=0) for parts in zip(*layers, strict=True))
    weight = weight / scale.spread
    return weight, bias - weight @ scale.centre


def halves(images: Labelled, seed: int) -> tuple[Labelled, Labelled] | None:
    """Two halves at random; None if the first lacks a group, so that no strength can be chosen."""
    order = np.random.default_rng(seed).permutation(len(images.labels))
    first, second = order[: len(order) // 2], order[len(order) // 2 :]
    one, other = images.take(first), images.take(second)
    return (one, other) if set(one.groups) == set(images.groups) else None


@TRAINER_REGISTRY.register()
class DFR(PromptTrainer):
    """Fits the layer of a `DFRModel` on balanced groups; it uses group labels of its part."""

    clip: DFRModel
    structure = DFRModel
    options = "DFR"
    needs_groups = True

    @classmethod
    def learns_in_epochs(cls, cfg: CfgNode) -> bool:
        return False

    def check_cfg(self, cfg: CfgNode) -> None:
        if cfg.OPTIM.MAX_EPOCH != 1 or cfg.TRAINER.get("TERMS", ()):
            raise UserError(
                f"OPTIM.MAX_EPOCH is {cfg.OPTIM.MAX_EPOCH} and TRAINER.TERMS {cfg.TRAINER.TERMS}, "
                "but DFR fits its layer without epochs and terms: set MAX_EPOCH to 1, and leave "
                "TERMS out"
            )
        super().check_cfg(cfg)

    def complete_clip(self) -> None:
        if self.cfg.get("EVAL_ONLY", False):
            return
        weight, bias = from_main(self._fit)
        layer = self.clip.prompts
        layer.weight.data, layer.bias.data = weight.to(self.device), bias.to(self.device)

    def _fit(self) -> tuple[Tensor, Tensor]:
        options, data = self.cfg.TRAINER.DFR, self.dm.dataset
        items = data.val if options.PART == "val" else data.train_x
        if not items:
            raise UserError(
                f"TRAINER.DFR.PART is {options.PART}, but {self.cfg.DATASET.NAME} has no such "
                "images: set it to train"
            )
        if len({item.domain for item in items}) < 2:
            raise UserError(
                f"DFR needs groups, and the {options.PART} images of {self.cfg.DATASET.NAME} have "
                "no group labels (one domain): choose a data set with groups, such as Waterbirds, "
                "or a table with a column domain"
            )
        if lacking := set(range(self.num_classes)) - {item.label for item in items}:
            raise UserError(
                f"the {options.PART} images of {self.cfg.DATASET.NAME} have none of class "
                f"'{self.classnames[min(lacking)]}': set TRAINER.DFR.PART to the other part"
            )
        seed = max(self.cfg.SEED, 0)
        train, val = self._labelled(data.train_x), self._labelled(data.val or [])
        images = val if options.PART == "val" else train
        scale = Scale.of(train.features)
        # DFR(Val) holds out a half of its part, DFR(Tr) all of the validation part.
        if options.PART == "val" or not val.labels.size:
            parts = halves(images, seed)
            best = strength(*parts, None, seed) if parts else None
        else:
            best = strength(images, val, scale, seed)
        if best is None:
            best = STRENGTHS[0]
            log.warning(
                f"DFR: half of the {options.PART} images lacks a group, so no strength of the "
                f"penalty can be chosen: C is {best}"
            )
        weight, bias = fit(images, best, scale, options.REPEATS, seed)
        log.info(f"DFR: {options.REPEATS} regressions with C {best} on {options.PART} images")
        return torch.from_numpy(weight).float(), torch.from_numpy(bias).float()

    def _labelled(self, items: Sequence) -> Labelled:
        """Images with their frozen features."""
        transform = self.transform_of(self.test_loader, is_train=False)
        parts = [part for part, _ in self.encoded_images(items, transform)] if items else []
        features = torch.cat(parts).double().cpu().numpy() if parts else np.zeros((0, 0))
        labels, domains = ([getattr(item, kind) for item in items] for kind in ("label", "domain"))
        return Labelled(features, np.array(labels, int), np.array(domains, int))

    def run_epoch(self) -> None:
        """Nothing: the layer is fitted when the model is built."""
