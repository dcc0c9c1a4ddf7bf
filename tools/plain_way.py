"""The plain way to train and test a method: clip's own modules, as the public codes run them.

Every text at full context length, nn.MultiheadAttention, all class texts encoded again for every
test batch, CoCoOp one image after the other. A `Bench` holds this and our way with the same random
weights and prompts. Shared by benchmarks/step_time.py and tools.doctor.
"""

import ctypes
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from yacs.config import CfgNode

import trainers
from dassl.config import get_cfg_default
from dassl.engine import TRAINER_REGISTRY
from trainers.backbone import Backbone, clip, count_tokens, unit
from trainers.base import PromptTrainer
from trainers.craft.losses import static_alignment, stochastic_alignment
from trainers.model import DEFAULT_TEMPLATE
from trainers.step import Features, Step

ADJECTIVES = (
    "red",
    "spotted",
    "giant",
    "common",
    "annual",
    "striped",
    "wild",
    "mountain",
    "old",
    "golden",
)
NOUNS = (
    "cat",
    "retriever",
    "saxophone",
    "cherry blossom tree",
    "crop land",
    "gecko",
    "Boeing 737",
    "lily",
    "pizza",
    "church",
)
SIZES = {
    "ViT-B/16": (512, 224, 12, 768, 16, 77, 49408, 512, 8, 12),
    "ViT-B/32": (512, 224, 12, 768, 32, 77, 49408, 512, 8, 12),
    "tiny": (64, 32, 12, 128, 8, 77, 49408, 64, 1, 12),
    "minute": (64, 32, 2, 64, 8, 77, 49408, 64, 1, 2),  # tools.doctor, on a CPU
}  # the arguments of clip.model.CLIP
# Method: training batch, and the options of its published config on ViT-B/16 (IVLP: 2 + 2 prompts
# as published, in 9 layers, not 12, as PromptSRC).
METHODS: dict[str, tuple[int, dict[str, dict]]] = {
    "CoOp": (32, {"COOP": {"N_CTX": 16}}),
    "CoCoOp": (1, {"COCOOP": {"N_CTX": 4, "CTX_INIT": "a photo of a"}}),
    "VPT": (4, {"VPT": {"N_CTX_VISION": 8, "PROMPT_DEPTH_VISION": 12}}),
    "IVLP": (4, {"IVLP": {"PROMPT_DEPTH_VISION": 9, "PROMPT_DEPTH_TEXT": 9}}),
    "MaPLe": (4, {"MAPLE": {"PROMPT_DEPTH": 9}}),
    "PromptSRC": (4, {"PROMPTSRC": {}}),
}


RESULTS_DIFFER, GRADIENTS_DIFFER = 1e-4, 1e-3  # relative, at most, by rounding in float32


def names_of(classes: int) -> list[str]:
    """Names of 1 to 3 words, all different for any number of classes."""
    return [
        f"{ADJECTIVES[i % 10]} {NOUNS[i // 10 % 10]}" + (f" {i}" if i >= 100 else "")
        for i in range(classes)
    ]


def configured(method: str, layers: int) -> CfgNode:
    """The configuration of a method: the defaults, with the options of METHODS, in float32.

    Prompts go into at most `layers` layers.
    """
    cfg = get_cfg_default()
    trainers.extend_cfg(cfg)
    for node, values in METHODS[method][1].items():
        options = cfg.TRAINER[node]
        options.PREC = "fp32"
        for key, value in values.items():
            options[key] = value
        for key in (key for key in options if key.startswith("PROMPT_DEPTH")):
            options[key] = min(options[key], layers)
    cfg.TRAINER.NAME = method
    return cfg


class Towers:
    """A CLIP with random weights, as clip's module and as ours; frozen, on one device.

    sizes: the arguments of `clip.model.CLIP`, such as those of SIZES.
    """

    def __init__(self, sizes: Sequence[int], device: str | torch.device):
        torch.manual_seed(0)
        self.device = torch.device(device)
        self.clip = clip.model.CLIP(*sizes).eval().requires_grad_(False).to(self.device)
        self.backbone = Backbone(self.clip.state_dict()).to(self.device)


class Bench:
    """One model, method, batch and set of classes, and the two ways to train and evaluate.

    batch: images of a training step; 0: as published. test_batch, test_batches: images of a batch
    of an evaluation, and its batches.
    """

    model: Any

    def __init__(
        self,
        towers: Towers,
        method: str,
        classes: int,
        batch: int = 0,
        test_batch: int = 20,
        test_batches: int = 5,
    ):
        torch.manual_seed(0)
        self.method, self.device, self.batches = method, towers.device, test_batches
        self.clip, self.backbone = towers.clip, towers.backbone
        self.names, cfg = names_of(classes), configured(method, self.backbone.text.layers)
        kind: type[PromptTrainer] = TRAINER_REGISTRY.get(method)
        self.ours: Any = kind.make_clip(cfg, self.backbone, self.names, (DEFAULT_TEMPLATE,))
        self.model = self.ours.prompts
        self.parameters = list(self.model.parameters())
        self.optimizer = torch.optim.SGD(self.parameters, lr=0.0)
        size = self.backbone.input_resolution
        batch = batch or METHODS[method][0]
        self.images = torch.randn(batch, 3, size, size, device=self.device)
        self.labels = torch.arange(batch, device=self.device) % classes
        self.test_images = torch.randn(test_batch, 3, size, size, device=self.device)
        self.anchors = unit(torch.randn(classes, self.backbone.embed_dim, device=self.device))
        if method != "VPT":
            words = self.ours.options.CTX_INIT or " ".join(["X"] * self.ours.options.N_CTX)
            self.tokens = self.backbone.tokenize([f"{words} {name}." for name in self.names]).to(
                self.device
            )
            self.embedded = self.clip.token_embedding(self.tokens)

    # The plain way

    def plain_text(self, context: Tensor, deep: Sequence[Tensor] = ()) -> Tensor:
        model, n = self.clip, len(context)
        x = torch.cat(
            [
                self.embedded[:, :1],
                context.expand(len(self.tokens), -1, -1),
                self.embedded[:, 1 + n :],
            ],
            1,
        )
        x = (x + model.positional_embedding).permute(1, 0, 2)
        for i, block in enumerate(model.transformer.resblocks):
            if 0 < i <= len(deep):
                x = torch.cat(
                    [x[:1], deep[i - 1].unsqueeze(1).expand(-1, x.shape[1], -1), x[1 + n :]]
                )
            x = block(x)
        x = model.ln_final(x.permute(1, 0, 2))
        return unit(x[torch.arange(len(x)), self.tokens.argmax(-1)] @ model.text_projection)

    def plain_image(self, images: Tensor, prompts: Tensor, deep: Sequence[Tensor]) -> Tensor:
        visual, n = self.clip.visual, len(prompts)
        x = visual.conv1(images).flatten(2).permute(0, 2, 1)
        x = (
            torch.cat([visual.class_embedding.expand(len(x), 1, -1), x], 1)
            + visual.positional_embedding
        )
        x = visual.ln_pre(torch.cat([x, prompts.expand(len(x), -1, -1)], 1)).permute(1, 0, 2)
        for i, block in enumerate(visual.transformer.resblocks):
            if 0 < i <= len(deep):
                x = torch.cat([x[:-n], deep[i - 1].unsqueeze(1).expand(-1, x.shape[1], -1)])
            x = block(x)
        return unit(visual.ln_post(x[0]) @ visual.proj)

    def plain_features(self, images: Tensor) -> Features:
        model, scale = self.model, self.clip.logit_scale.exp()
        if self.method in ("CoOp", "CoCoOp"):
            image = unit(self.clip.encode_image(images))
            if self.method == "CoOp":
                return Features(image, self.plain_text(model.ctx), scale)
            return Features(
                image,
                torch.stack([self.plain_text(model.ctx + model.meta_net(one)) for one in image]),
                scale,
            )
        if self.method == "MaPLe":
            prompts, deep = model.prompt_learner.visual()
            image = self.plain_image(images, prompts, deep)
        else:
            image = self.plain_image(images, model.image_encoder.VPT, model.image_encoder.deep)
        text = (
            self.ours.frozen_text
            if self.method == "VPT"
            else self.plain_text(model.prompt_learner.ctx, self.ours.deep_text_prompts())
        )
        return Features(image, text, scale)

    def plain_loss(self, features: Features) -> Tensor:
        loss = F.cross_entropy(features.logits(), self.labels)
        if self.method == "PromptSRC":
            options = self.ours.options
            with torch.no_grad():
                frozen = Features(
                    unit(self.clip.encode_image(self.images)),
                    self.ours.frozen_text,
                    features.scale,
                )
            log_p, log_q = features.logits().log_softmax(1), frozen.logits().log_softmax(1)
            loss = (
                loss
                + options.TEXT_LOSS_WEIGHT * (features.text - frozen.text).abs().mean()
                + options.IMAGE_LOSS_WEIGHT * (features.image - frozen.image).abs().mean()
                + (log_q.exp() * (log_q - log_p)).mean()
            )
        return loss

    # Ours

    def our_features(self, images: Tensor) -> Features:
        return self.ours.features(images)

    def our_loss(self, features: Features) -> Tensor:
        step = Step(self.ours, self.images, self.labels, features)
        return sum(self.ours.loss_terms(step).values())

    def craft_loss(self, features: Features) -> Tensor:
        text, classes = (
            features.text_of(self.labels),
            torch.arange(len(self.anchors), device=self.device),
        )
        return (
            self.our_loss(features)
            + static_alignment(text, self.labels, self.anchors, classes, features.scale)
            + stochastic_alignment(features.image, text, self.labels, features.scale)
        )

    def step(
        self, features_of: Callable[[Tensor], Features], loss_of: Callable[[Features], Tensor]
    ) -> tuple[Tensor, Tensor]:
        features = features_of(self.images)
        self.optimizer.zero_grad()
        loss_of(features).backward()
        self.optimizer.step()
        return features.logits().detach(), torch.cat([p.grad.flatten() for p in self.parameters])

    def plain_train(self):
        return self.step(self.plain_features, self.plain_loss)

    def our_train(self):
        return self.step(self.our_features, self.our_loss)

    def craft_train(self):
        return self.step(self.our_features, self.craft_loss)

    @torch.no_grad()
    def plain_test(self):
        logits = [self.plain_features(self.test_images).logits() for _ in range(self.batches)]
        return logits[-1], None

    @torch.no_grad()
    def our_test(self):
        texts = self.ours.encode_class_texts()
        logits = [self.ours.logits(self.test_images, texts) for _ in range(self.batches)]
        return logits[-1], None

    # The text tower alone, forward and backward

    def tower_step(self, text: Tensor) -> tuple[Tensor, Tensor]:
        self.optimizer.zero_grad()
        text.sum().backward()
        return text.detach(), self.model.ctx.grad.flatten().clone()

    def plain_tower(self):
        return self.tower_step(self.plain_text(self.model.ctx))

    def our_tower(self):
        return self.tower_step(self.ours.text_features())

    # What cannot be saved

    def floor(self, task: str) -> float:
        """Multiply-adds of the matrix products in the blocks, none of them twice.

        Those of attention are not counted. A training step also needs the gradient of every
        activation that depends on a prompt: as much again.
        """
        text, image, frozen_image = (
            self.text_products(),
            self.image_products(True),
            self.image_products(False),
        )
        prompts_text, prompts_image = self.method != "VPT", self.method not in ("CoOp", "CoCoOp")
        batch, images = len(self.images), len(self.test_images) * self.batches
        per_image = self.method == "CoCoOp"
        if task == "tower":
            return 2 * text
        if task == "train":
            return (
                2 * text * (batch if per_image else 1) * prompts_text
                + (2 * image if prompts_image else frozen_image) * batch
                + frozen_image * batch * (self.method == "PromptSRC")
            )
        return (
            text * (images if per_image else 1) * prompts_text
            + (image if prompts_image else frozen_image) * images
        )

    def text_products(self) -> float:
        """All class texts once: shared positions once, no padding, the last layer for one token."""
        if self.method == "VPT":
            return 0.0
        tower, prefix = (
            self.backbone.text,
            int(self.tokens.eq(self.tokens[:1]).all(0).long().cumprod(0).sum()),
        )
        tokens = prefix + sum(count_tokens(name) + 2 for name in self.names)
        square = tower.width**2
        return (
            (tower.layers - 1) * 12 * square * tokens
            + 2 * square * tokens
            + 10 * square * len(self.names)
        )

    def image_products(self, prompted: bool) -> float:
        tower = self.backbone.image
        prompts = (
            0
            if not prompted or self.method in ("CoOp", "CoCoOp")
            else self.ours.options.get("N_CTX_VISION", 2)
        )
        tokens, square = len(tower.positional_embedding) + prompts, tower.width**2
        return (
            (tower.layers - 1) * 12 * square * tokens
            + 2 * square * tokens
            + 10 * square
            + 3 * tower.patch**2 * tower.width * (tokens - 1)
        )


def timed(run: Callable, device: torch.device) -> float:
    """Seconds of one call."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    start = time.perf_counter()
    run()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - start


def peak_memory(run: Callable, device: torch.device) -> float | None:
    """MiB that one call adds at its worst moment; None where the system does not tell.

    On a GPU what torch allocates there. On a CPU the memory of this process, which Linux tells:
    what earlier calls freed is first given back to the system, or it would hide what this one
    takes.
    """
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        before = torch.cuda.memory_allocated(device)
        torch.cuda.reset_peak_memory_stats(device)
        run()
        torch.cuda.synchronize(device)
        return (torch.cuda.max_memory_allocated(device) - before) / 2**20
    with suppress(OSError, AttributeError):  # of glibc only
        ctypes.CDLL(None).malloc_trim(0)
    try:
        Path("/proc/self/clear_refs").write_text("5")  # the high-water mark starts again
        resident = _kilobytes("VmRSS")
        run()
        return (_kilobytes("VmHWM") - resident) / 2**10
    except (OSError, StopIteration):
        return None


def _kilobytes(field: str) -> int:
    """A line of Linux's status of this process."""
    with open("/proc/self/status") as file:
        return int(next(line for line in file if line.startswith(field)).split()[1])


def errors(plain: tuple, ours: tuple) -> tuple[float, float | None]:
    """Relative distances of the two ways: of results (the greatest), and of gradients (the norm's).

    The latter is None of an evaluation. They are tensors as `Bench.step` returns them.
    """
    (logits, gradient), (our_logits, our_gradient) = plain, ours
    result = ((logits - our_logits).abs().max() / logits.abs().max()).item()
    if gradient is None:
        return result, None
    return result, ((gradient - our_gradient).norm() / gradient.norm()).item()


def too_far(result: float, gradient: float | None) -> bool:
    """Whether `errors` are more than rounding; NaN is."""
    return not (result <= RESULTS_DIFFER and (gradient is None or gradient <= GRADIENTS_DIFFER))
