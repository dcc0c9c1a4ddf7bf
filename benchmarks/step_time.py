"""Time of a training step and of an evaluation, ours against the plain way, in interleaved runs.

The plain way is clip's modules as the public codes run them: every text at full context length,
nn.MultiheadAttention, all class texts encoded again for every test batch, CoCoOp one image after
the other. Both ways have the same random weights and prompts and must give the same logits and
gradients. "floor" is the time of the multiply-adds that the result really needs, at the speed of a
large matrix product on this machine.

    python benchmarks/step_time.py      # all methods, ViT-B/16, 50 and 200 classes: half an hour
    python benchmarks/step_time.py --methods CoOp --classes 50      # one of them
    python benchmarks/step_time.py --model tiny --classes 10        # a quick look
"""

import argparse
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from clip.model import CLIP

import trainers
from dassl.config import get_cfg_default
from dassl.engine import TRAINER_REGISTRY
from trainers.backbone import Backbone, count_tokens, unit
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
}
# Method: training batch, and the options of its published config on ViT-B/16 (IVLP: 2 + 2 prompts
# as published, in 9 layers, not 12, as PromptSRC).
METHODS = {
    "CoOp": (32, {"COOP": {"N_CTX": 16}}),
    "CoCoOp": (1, {"COCOOP": {"N_CTX": 4, "CTX_INIT": "a photo of a"}}),
    "VPT": (4, {"VPT": {"N_CTX_VISION": 8, "PROMPT_DEPTH_VISION": 12}}),
    "IVLP": (4, {"IVLP": {"PROMPT_DEPTH_VISION": 9, "PROMPT_DEPTH_TEXT": 9}}),
    "MaPLe": (4, {"MAPLE": {"PROMPT_DEPTH": 9}}),
    "PromptSRC": (4, {"PROMPTSRC": {}}),
}


def names_of(classes: int) -> list[str]:
    return [
        f"{ADJECTIVES[i % 10]} {NOUNS[i // 10 % 10]}" + (f" {i}" if i >= 100 else "")
        for i in range(classes)
    ]


def configured(method: str):
    cfg = get_cfg_default()
    trainers.extend_cfg(cfg)
    for node, values in METHODS[method][1].items():
        cfg.TRAINER[node].PREC = "fp32"
        for key, value in values.items():
            cfg.TRAINER[node][key] = value
    cfg.TRAINER.NAME = method
    return cfg


class Bench:
    """One model, method, batch and set of classes, and the two ways to train and evaluate."""

    def __init__(self, arguments: argparse.Namespace, method: str, classes: int):
        torch.manual_seed(0)
        self.method, self.device, self.batches = (
            method,
            torch.device(arguments.device),
            arguments.test_batches,
        )
        self.clip = CLIP(*SIZES[arguments.model]).eval().requires_grad_(False).to(self.device)
        self.names, cfg = names_of(classes), configured(method)
        self.backbone = Backbone(self.clip.state_dict()).to(self.device)
        kind: type[PromptTrainer] = TRAINER_REGISTRY.get(method)
        self.ours = kind.make_clip(cfg, self.backbone, self.names, (DEFAULT_TEMPLATE,))
        self.model = self.ours.prompts
        self.parameters = list(self.model.parameters())
        self.optimizer = torch.optim.SGD(self.parameters, lr=0.0)
        size = self.backbone.input_resolution
        batch = arguments.batch or METHODS[method][0]
        self.images = torch.randn(batch, 3, size, size, device=self.device)
        self.labels = torch.arange(batch, device=self.device) % classes
        self.test_images = torch.randn(arguments.test_batch, 3, size, size, device=self.device)
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
    if device.type == "cuda":
        torch.cuda.synchronize()
    start = time.perf_counter()
    run()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - start


def products_per_second(device: torch.device, width: int) -> float:
    """Multiply-adds of a large matrix product of the tower's width."""
    a, b = torch.randn(4096, width, device=device), torch.randn(width, 4 * width, device=device)
    return a.shape[0] * b.numel() / min(timed(lambda: a @ b, device) for _ in range(5))


def peak_memory(method: str, way: str, classes: int) -> float:
    """MB that one run of `way` adds at its worst moment, in a separate process."""
    command = [
        sys.executable,
        *sys.argv,
        "--methods",
        method,
        "--classes",
        str(classes),
        "--peak",
        way,
    ]
    return float(
        subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()[-1]
    )


def kilobytes(field: str) -> int:
    """A line of Linux's status of this process."""
    with open("/proc/self/status") as file:
        return int(next(line for line in file if line.startswith(field)).split()[1])


def report_peak(bench: Bench, way: str) -> None:
    if bench.device.type == "cuda":
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        getattr(bench, way)()
        print((torch.cuda.max_memory_allocated() - before) / 2**20)
    else:
        Path("/proc/self/clear_refs").write_text("5")  # Linux: the high-water mark starts again
        before = kilobytes("VmRSS")
        getattr(bench, way)()
        print((kilobytes("VmHWM") - before) / 2**10)


def difference(plain: tuple, ours: tuple) -> tuple[str, bool]:
    """(how far results and gradients of the two ways differ, in words; whether that is too far)."""
    (logits, gradient), (our_logits, our_gradient) = plain, ours
    distance = ((logits - our_logits).abs().max() / logits.abs().max()).item()
    words, failed = f"results differ by {distance:.0e}", distance > 1e-4
    if gradient is not None:
        distance = ((gradient - our_gradient).norm() / gradient.norm()).item()
        words, failed = f"{words}, gradients by {distance:.0e}", failed or distance > 1e-3
    return words, failed


def ratio(times: dict[str, list[float]], slow: str, fast: str) -> float:
    """Median of the ratios of runs that are next to each other in time.

    A busy machine slows both of a pair.
    """
    return statistics.median(a / b for a, b in zip(times[slow], times[fast], strict=True))


def compare(arguments: argparse.Namespace, method: str, classes: int) -> None:
    bench = Bench(arguments, method, classes)
    speed = products_per_second(bench.device, bench.backbone.image.width)
    for task in ("train", "test", *(("tower",) if method == "CoOp" else ())):
        plain, ours = f"plain_{task}", f"our_{task}"
        ways = [plain, ours] + ["craft_train"] * (task == "train")
        results = {way: getattr(bench, way)() for way in ways}  # also warms up
        words, failed = difference(results[plain], results[ours])
        times: dict[str, list[float]] = {way: [] for way in ways}
        for _ in range(arguments.repeats):
            for way in ways:
                times[way].append(timed(getattr(bench, way), bench.device))
        plain_s, our_s = (statistics.median(times[way]) for way in (plain, ours))
        what = {
            "train": "step",
            "test": f"{arguments.test_batches} batches",
            "tower": "text tower",
        }[task]
        line = (
            f"{method:9s} {classes:4d} classes  {task:5s}  plain {plain_s:7.3f} s  "
            f"ours {our_s:7.3f} s / {what}  {ratio(times, plain, ours):5.2f}x  "
            f"floor {bench.floor(task) / speed:.3f} s"
        )
        if arguments.memory and task != "tower":
            peaks = (f"{peak_memory(method, way, classes):,.0f}" for way in (plain, ours))
            line += f"  peak {' -> '.join(peaks)} MB"
        print(f"{line}  {words}", flush=True)
        if task == "train":
            added = ratio(times, "craft_train", ours) - 1
            print(
                f"{method:9s} {classes:4d} classes  CRAFT adds {100 * added:.1f}% to a training "
                "step",
                flush=True,
            )
        if failed:
            sys.exit("the two ways do not give the same numbers")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=list(METHODS))
    parser.add_argument("--model", choices=SIZES, default="ViT-B/16")
    parser.add_argument("--classes", type=int, nargs="+", default=[50, 200])
    parser.add_argument(
        "--batch", type=int, default=0, help="images of a training step; 0: as published"
    )
    parser.add_argument("--test-batch", type=int, default=20)
    parser.add_argument("--test-batches", type=int, default=5, help="batches of an evaluation")
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--device", default="cpu")
    parser.add_argument(
        "--threads", type=int, default=0, help="CPU threads; 0 leaves torch's choice"
    )
    parser.add_argument(
        "--no-memory",
        dest="memory",
        action="store_false",
        help="leave out peak memory, which takes a process per number",
    )
    parser.add_argument("--peak", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    if arguments.peak:
        report_peak(Bench(arguments, arguments.methods[0], arguments.classes[0]), arguments.peak)
        return
    print(
        f"{arguments.model}, random weights, float32, test batch {arguments.test_batch}, "
        f"{arguments.device}, {torch.get_num_threads()} threads, torch {torch.__version__}"
    )
    for method in arguments.methods:
        for classes in arguments.classes:
            compare(arguments, method, classes)


if __name__ == "__main__":
    main()
