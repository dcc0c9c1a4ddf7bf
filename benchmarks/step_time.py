"""Time of a CoOp training step and of an evaluation, ours against the plain way, in interleaved runs.

The plain way is clip's own modules: every text at full context length, nn.MultiheadAttention, all class texts encoded again for
every test batch. Both have the same random weights, and must give the same logits and gradients.

    python benchmarks/step_time.py                        # ViT-B/16, 50 and 200 classes; a few minutes on a laptop
    python benchmarks/step_time.py --classes 10 --batch 4 # a quick look
"""

import argparse
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from clip.model import CLIP

from trainers.backbone import Backbone, unit
from trainers.base import Features
from trainers.coop import PromptLearner
from trainers.craft.losses import static_alignment, stochastic_alignment

ADJECTIVES = ("red", "spotted", "giant", "common", "annual", "striped", "wild", "mountain", "old", "golden")
NOUNS = ("cat", "retriever", "saxophone", "cherry blossom tree", "crop land", "gecko", "Boeing 737", "lily", "pizza", "church")
SIZES = {"ViT-B/16": (512, 224, 12, 768, 16, 77, 49408, 512, 8, 12), "ViT-B/32": (512, 224, 12, 768, 32, 77, 49408, 512, 8, 12),
         "tiny": (64, 32, 3, 128, 8, 77, 49408, 64, 1, 3)}


class Bench:
    """One model, one batch, one set of classes, and the two ways of training and evaluating CoOp on them."""

    def __init__(self, arguments: argparse.Namespace, classes: int):
        torch.manual_seed(0)
        self.device, self.batches = torch.device(arguments.device), arguments.test_batches
        self.clip = CLIP(*SIZES[arguments.model]).eval().requires_grad_(False).to(self.device)
        self.backbone = Backbone(self.clip.state_dict()).to(self.device)
        names = [f"{ADJECTIVES[i % 10]} {NOUNS[i // 10 % 10]} {i}" if i >= 100 else f"{ADJECTIVES[i % 10]} {NOUNS[i // 10]}"
                 for i in range(classes)]
        self.prompts = PromptLearner(self.backbone, names, arguments.context).to(self.device)
        self.optimizer = torch.optim.SGD(self.prompts.parameters(), lr=0.0)
        size, lead = self.backbone.input_resolution, " ".join(["X"] * arguments.context)
        self.images = torch.randn(arguments.batch, 3, size, size, device=self.device)
        self.labels = torch.arange(arguments.batch, device=self.device) % classes
        self.test_images = torch.randn(arguments.test_batch, 3, size, size, device=self.device)
        self.tokens = self.backbone.tokenize([f"{lead} {name}." for name in names]).to(self.device)
        self.embedded = self.clip.token_embedding(self.tokens)
        self.anchors = unit(torch.randn(classes, self.backbone.embed_dim, device=self.device))

    def plain_features(self, images: Tensor) -> Features:
        model, context = self.clip, self.prompts.ctx
        lead, rest = self.embedded[:, :1], self.embedded[:, 1 + len(context):]
        x = torch.cat([lead, context.expand(len(self.tokens), -1, -1), rest], 1) + model.positional_embedding
        x = model.ln_final(model.transformer(x.permute(1, 0, 2)).permute(1, 0, 2))
        text = x[torch.arange(len(x)), self.tokens.argmax(-1)] @ model.text_projection
        return Features(unit(model.encode_image(images)), unit(text), model.logit_scale.exp())

    def our_features(self, images: Tensor, text: Tensor | None = None) -> Features:
        text = unit(self.backbone.text(*self.prompts())) if text is None else text
        return Features(self.backbone.encode_images(images), text, self.backbone.scale)

    def step(self, features_of: Callable[[Tensor], Features], craft: bool = False) -> tuple[Tensor, Tensor]:
        features = features_of(self.images)
        logits = features.logits()
        loss = F.cross_entropy(logits, self.labels)
        if craft:
            text, classes = features.text_of(self.labels), torch.arange(len(self.anchors), device=self.device)
            loss = loss + static_alignment(text, self.labels, self.anchors, classes, features.scale)
            loss = loss + stochastic_alignment(features.image, text, self.labels, features.scale)
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        return logits.detach(), self.prompts.ctx.grad.clone()

    def plain_train(self):
        return self.step(self.plain_features)

    def our_train(self):
        return self.step(self.our_features)

    def craft_train(self):
        return self.step(self.our_features, craft=True)

    @torch.no_grad()
    def plain_test(self):
        return [self.plain_features(self.test_images).logits() for _ in range(self.batches)][-1], None

    @torch.no_grad()
    def our_test(self):
        text = unit(self.backbone.text(*self.prompts()))
        return [self.our_features(self.test_images, text).logits() for _ in range(self.batches)][-1], None


def timed(run: Callable, device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize()
    start = time.perf_counter()
    run()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - start


def peak_memory(way: str, classes: int) -> float:
    """MB at the worst moment of one run of `way` in a process of its own, weights of both ways included."""
    command = [sys.executable, *sys.argv, "--classes", str(classes), "--peak", way]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()[-1])


def report_peak(bench: Bench, way: str) -> None:
    getattr(bench, way)()
    if bench.device.type == "cuda":
        print(torch.cuda.max_memory_allocated() / 2**20)
    else:
        print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10)


def compare(arguments: argparse.Namespace, classes: int) -> None:
    bench = Bench(arguments, classes)
    for task in ("train", "test"):
        ways = [f"plain_{task}", f"our_{task}"] + ["craft_train"] * (task == "train")
        results = {way: getattr(bench, way)() for way in ways}  # also warms up
        (plain, plain_gradient), (ours, our_gradient) = (results[way] for way in ways[:2])
        difference = ((plain - ours).abs().max() / plain.abs().max()).item()
        equal = f"logits differ by {difference:.0e}"
        failed = difference > 1e-4
        if plain_gradient is not None:
            difference = ((plain_gradient - our_gradient).norm() / plain_gradient.norm()).item()
            equal += f", gradients by {difference:.0e} (relative)"
            failed = failed or difference > 1e-3
        times = {way: [] for way in ways}
        for _ in range(arguments.repeats):
            for way in ways:
                times[way].append(timed(getattr(bench, way), bench.device))
        # Pairs run next to each other in time, so that a busy machine slows both of a ratio.
        ratio = statistics.median(p / o for p, o in zip(times[ways[0]], times[ways[1]], strict=True))
        plain_s, our_s = (statistics.median(times[way]) for way in ways[:2])
        unit_ = "step" if task == "train" else f"{arguments.test_batches} batches"
        line = f"{classes:5d} classes  {task:5s}  plain {plain_s:7.2f} s  ours {our_s:6.2f} s / {unit_}  {ratio:5.2f}x"
        if arguments.memory:
            line += "  peak " + " -> ".join(f"{peak_memory(way, classes):,.0f}" for way in ways[:2]) + " MB"
        print(f"{line}  {equal}", flush=True)
        if task == "train":
            added = statistics.median(c / o for c, o in zip(times["craft_train"], times["our_train"], strict=True)) - 1
            print(f"{classes:5d} classes  CRAFT adds {100 * added:.1f}% to a training step", flush=True)
        if failed:
            sys.exit("the two ways do not give the same numbers")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", choices=SIZES, default="ViT-B/16")
    parser.add_argument("--classes", type=int, nargs="+", default=[50, 200])
    parser.add_argument("--batch", type=int, default=32, help="images of a training step")
    parser.add_argument("--test-batch", type=int, default=20)
    parser.add_argument("--test-batches", type=int, default=5, help="batches of an evaluation")
    parser.add_argument("--context", type=int, default=16, help="context vectors of CoOp")
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=0, help="CPU threads; 0 leaves torch's choice")
    parser.add_argument("--no-memory", dest="memory", action="store_false", help="leave out peak memory, which takes a process per number")
    parser.add_argument("--peak", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    if arguments.peak:
        report_peak(Bench(arguments, arguments.classes[0]), arguments.peak)
        return
    print(f"CoOp on {arguments.model}, random weights, float32, {arguments.context} context vectors, batch {arguments.batch}, "
          f"test batch {arguments.test_batch}, {arguments.device}, {torch.get_num_threads()} threads, torch {torch.__version__}")
    for classes in arguments.classes:
        compare(arguments, classes)


if __name__ == "__main__":
    main()
