"""The paper's pictures from finished runs, as PNG and PDF: `python -m tools.figures KIND RUN ... [options]`.

    tsne        RUN RUN [--classes 2]          t-SNE of the test features of some classes, baseline beside CRAFT (Figure 4)
    ablation    OUTPUT                         bars of the ablation per data set (Figure 2), from scripts/ablation.sh
    channels    RUN RUN ... --target DATASET   distribution of each channel's importance on a shifted data set over the source (Figure 3)
    predictions RUN RUN [--images 4]           class probabilities of single test images with and without CRAFT (Figure 5)

RUN is the folder of a finished run. Features of its test images are computed once and kept there (features-<data set>.safetensors).
"""

import argparse
import functools
import hashlib
import json
import math
import os
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from tqdm import tqdm

from dassl.data.data_manager import build_data_loader
from dassl.data.datasets import build_dataset
from dassl.evaluation import check_scores
from dassl.utils import UserError, read_image
from tools import inputs, plots, trained
from tools.inputs import InputError
from tools.protocols import PROTOCOLS, collect
from trainers.cache import describe

COLOURS = ("#3b6fb6", "#d1495b", "#2e9e7a", "#e2a03f", "#7b5ea7", "#5a5a5a", "#a3563f", "#3aa7c9")
MARKERS = "osD^vP*X"


def run_name(run: Path) -> str:
    """The trainer, and whether it learned with MMD."""
    _, cfg = trained.read(str(run))
    return cfg.TRAINER.NAME + (
        " + MMD" if cfg.TRAINER.NAME.startswith("Craft") and cfg.TRAINER.CRAFT.LAMBDA_MMD else ""
    )


def data_of(run: Path, root: str, name: str = ""):
    """The data set that a run tested, or another of its name with all classes of that; test images without few-shot draw."""
    _, cfg = trained.read(str(run))
    cfg.DATASET.ROOT = root or cfg.DATASET.ROOT
    cfg.DATASET.NUM_SHOTS, cfg.DATASET.TARGET, cfg.DATASET.INDICES = -1, "", ""
    cfg.DATASET.NAME = name or cfg.DATASET.NAME
    return build_dataset(cfg)


def features(run: Path, root: str, name: str = "") -> SimpleNamespace:
    """Unit-norm features of a run's model: image (N, D) and text (C, D) or (N, C, D), labels (N,), scale, paths, classnames.

    Read from the run's folder if they are there, of this model and of the same images and classes.
    Raises UserError as `trained.load` and the data set do, and for features that are not finite.
    """
    data = data_of(run, root, name)
    paths, names = [item.impath for item in data.test], list(data.classnames)
    file = run / f"features-{type(data).__name__}.safetensors"
    try:
        found = load_file(file) if file.is_file() else {}
    except (SafetensorError, OSError):  # damaged, or not to be read: computed anew
        found = {}
    labels = torch.tensor([item.label for item in data.test])
    results, cfg = trained.read(str(run))
    images = describe(data.test, cfg.DATASET.ROOT, "")["images"]
    of = [images, names, results.get("config_hash"), trained.model_checksum(str(run), results)]
    of = hashlib.sha256(json.dumps(of).encode()).digest()
    of = torch.frombuffer(bytearray(of), dtype=torch.uint8)
    if "of" not in found or not torch.equal(found["of"], of):
        instead = f"choose a data set with the classes of that run, not {type(data).__name__}"
        trainer = trained.load(str(run), names, None, "", instead)
        loader = build_data_loader(
            trainer.cfg,
            "SequentialSampler",
            data.test,
            trainer.cfg.DATALOADER.TEST.BATCH_SIZE,
            tfm=trainer.dm.tfm_test,
            is_train=False,
        )
        images, texts = [], []
        with torch.no_grad(), trainer.class_texts_once():
            for batch in tqdm(
                loader, desc=f"features of {run_name(run)} on {type(data).__name__}", mininterval=1
            ):
                some = trainer.features(batch["img"].to(trainer.device))
                images.append(some.image.float().cpu())
                texts.append(some.text.float().cpu())
        text = torch.cat(texts) if texts[0].dim() == 3 else texts[0]
        scale = some.scale.reshape(1).float().cpu()
        found = {
            "image": torch.cat(images),
            "text": text.contiguous(),
            "scale": scale,
            "labels": labels,
        }
        found["of"] = of
        for part in ("image", "text"):
            check_scores(found[part])
        try:
            inputs.write(file, lambda part: save_file(found, part), "--out")
        except (InputError, SafetensorError):
            sys.stderr.write(
                f"note: '{run}' cannot be written to: its features are computed anew next time\n"
            )
    return SimpleNamespace(
        **found,
        paths=paths,
        classnames=[name.replace("_", " ") for name in names],
        name=run_name(run),
    )


def text_of_label(found: SimpleNamespace) -> torch.Tensor:
    """(N, D), the text feature of each image's own class."""
    return (
        found.text[found.labels]
        if found.text.dim() == 2
        else found.text[torch.arange(len(found.labels)), found.labels]
    )


def logits(found: SimpleNamespace) -> torch.Tensor:
    """(N, C)."""
    return found.scale * (
        found.image @ found.text.t()
        if found.text.dim() == 2
        else torch.einsum("nd,ncd->nc", found.image, found.text)
    )


def channel_importance(found: SimpleNamespace) -> torch.Tensor:
    """(D,): mean absolute contribution of each embedding channel to the true-class logit."""
    return (found.scale * found.image * text_of_label(found)).abs().mean(0)


def pyplot():
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    plt.rcParams.update(
        {
            "font.size": 10,
            "axes.spines.top": False,
            "axes.spines.right": False,
            "axes.titlesize": 11,
            "legend.frameon": False,
            "figure.constrained_layout.use": True,
            "savefig.dpi": 150,
            "pdf.fonttype": 42,
        }
    )
    return plt


def save(figure, out: Path) -> None:
    """OUT.png and OUT.pdf, without a date so that equal pictures are equal files."""
    inputs.write(out.with_suffix(".png"), figure.savefig, "--out")
    inputs.write(
        out.with_suffix(".pdf"),
        functools.partial(figure.savefig, metadata={"CreationDate": None}),
        "--out",
    )
    sys.stdout.write(f"picture: {out.with_suffix('.png')}\n")


def tsne(args: argparse.Namespace) -> None:
    from sklearn.manifold import TSNE

    runs = [features(run, args.root, args.target) for run in args.runs]
    if len(runs) > 1 and all(torch.equal(found.image, runs[0].image) for found in runs[1:]):
        sys.stderr.write(
            "note: the image features of all runs are the same, since these methods learn nothing about images: take VPT, MaPLe or PromptSRC\n"
        )
    counts = torch.bincount(runs[0].labels, minlength=len(runs[0].classnames))
    if unknown := [name for name in args.names or () if name not in runs[0].classnames]:
        raise UserError(
            f"unknown class '{unknown[0]}' in --names: {', '.join(runs[0].classnames[:8])} and so on are known"
        )
    chosen = (
        [runs[0].classnames.index(name) for name in args.names]
        if args.names
        else choose_classes(runs[0], args.classes)
    )
    plt = pyplot()
    figure, axes = plt.subplots(1, len(runs), figsize=(4.2 * len(runs), 4.4), squeeze=False)
    for axis, found in zip(axes[0], runs, strict=True):
        rows = torch.isin(found.labels, torch.tensor(chosen))
        if int(rows.sum()) < 4:
            raise UserError(
                f"the classes chosen have {int(rows.sum())} test images, too few for t-SNE: choose others with --names or more with --classes"
            )
        points = TSNE(
            2,
            perplexity=min(30, (int(rows.sum()) - 1) / 3),
            init="pca",
            random_state=0,
            metric="cosine",
        ).fit_transform(found.image[rows].numpy())
        for number, label in enumerate(chosen):
            own = points[(found.labels[rows] == label).numpy()]
            axis.scatter(
                *own.T,
                s=26,
                color=COLOURS[number % len(COLOURS)],
                marker=MARKERS[number % len(MARKERS)],
                alpha=0.8,
                linewidths=0,
                label=f"{found.classnames[label]} ({int(counts[label])})",
            )
        right = (logits(found).argmax(1) == found.labels)[rows].float().mean().item()
        axis.set_title(f"{found.name}: {100 * right:.0f}% of these right")
        axis.set_xticks([])
        axis.set_yticks([])
    figure.legend(
        *axes[0][0].get_legend_handles_labels(),
        loc="outside lower center",
        ncols=min(len(chosen), 4),
    )
    save(figure, args.out)


def choose_classes(found: SimpleNamespace, number: int) -> list[int]:
    """The pair of classes that the first run confuses most, then what it confuses with them most."""
    classes = len(found.classnames)
    confusion = torch.zeros(classes, classes).index_put_(
        (found.labels, logits(found).argmax(1)), torch.ones(len(found.labels)), accumulate=True
    )
    both = (confusion + confusion.t()).fill_diagonal_(-1)
    chosen = [int(both.max(1).values.argmax())]
    while len(chosen) < min(number, classes):
        score = both[chosen].sum(0)
        score[chosen] = -math.inf
        chosen.append(int(score.argmax()))
    return sorted(chosen)


def ablation(args: argparse.Namespace) -> None:
    rows, problems = collect(PROTOCOLS["ablation"], args.runs)
    if not rows:
        raise UserError(
            f"no results.json of ablation runs below {', '.join(map(str, args.runs))}: run scripts/ablation.sh first"
        )
    for problem in problems:
        sys.stderr.write(f"note: {problem}\n")
    for suffix in (".png", ".pdf"):
        plots.plot(rows, ["base", "new", "H"], args.out.with_suffix(suffix))
    sys.stdout.write(f"picture: {args.out.with_suffix('.png')}\n")


def channels(args: argparse.Namespace) -> None:
    if not args.target:
        raise UserError(
            "channels compares a shifted data set with the source: give its registered name with --target"
        )
    plt = pyplot()
    figure, axis = plt.subplots(figsize=(6.4, 3.8))
    ratios = []
    for run in args.runs:
        source, target = features(run, args.root), features(run, args.root, args.target)
        if source.classnames != target.classnames:
            raise UserError(
                f"{args.target} has other classes than what '{run}' tested, but importance is that of the true class's logit: choose "
                "a target with the same"
            )
        oracle = (
            " (oracle: labelled target)"
            if trained.read(str(run))[1].DATASET.TARGET_LABELLED
            else ""
        )
        ratios.append(
            (
                source.name + oracle,
                (channel_importance(target) / channel_importance(source)).numpy(),
            )
        )
    low, high = np.percentile(np.concatenate([ratio for _, ratio in ratios]), [0.5, 99.5])
    edges = np.linspace(min(low, 0.9), max(high, 1.1), 26)
    for number, (name, ratio) in enumerate(ratios):
        axis.hist(
            ratio,
            edges,
            histtype="stepfilled" if number == 0 else "step",
            linewidth=1.8,
            alpha=0.35 if number == 0 else 1.0,
            color=COLOURS[number % len(COLOURS)],
            label=f"{name}: mean |ratio - 1| = {np.abs(ratio - 1).mean():.3f}",
        )
    axis.axvline(1, color="#5a5a5a", linewidth=1, linestyle=":")
    axis.set_xlabel(f"importance of a channel on {args.target} / on the source")
    axis.set_ylabel("channels")
    axis.legend(fontsize=9, loc="upper left", bbox_to_anchor=(0, -0.2))
    save(figure, args.out)


def predictions(args: argparse.Namespace) -> None:
    runs = [features(run, args.root, args.target) for run in args.runs]
    probabilities = [logits(found).softmax(1) for found in runs]
    right = [p.argmax(1) == found.labels for p, found in zip(probabilities, runs, strict=True)]
    own = torch.stack([p[torch.arange(len(p)), runs[0].labels] for p in probabilities])
    # Images on which the runs differ most, as many of them to the last run's favour as to its disadvantage.
    change = own[-1] - own[0]
    order = change.argsort(descending=True).tolist()
    picks = order[: math.ceil(args.images / 2)] + order[len(order) - args.images // 2 :]
    plt = pyplot()
    figure, axes = plt.subplots(
        len(picks),
        1 + len(runs),
        figsize=(2.2 + 3.4 * len(runs), 2.1 * len(picks)),
        squeeze=False,
        width_ratios=[1.2, *[2] * len(runs)],
    )
    for line, index in zip(axes, picks, strict=True):
        line[0].imshow(read_image(runs[0].paths[index]))
        line[0].set_title(runs[0].classnames[runs[0].labels[index]], fontsize=10)
        line[0].axis("off")
        for axis, found, p, hit in zip(line[1:], runs, probabilities, right, strict=True):
            top = p[index].topk(min(4, p.shape[1]))
            names = [found.classnames[i] for i in top.indices]
            bars = axis.barh(
                range(len(names))[::-1],
                top.values,
                color=[COLOURS[2] if i == found.labels[index] else "#b9b9b9" for i in top.indices],
            )
            axis.bar_label(
                bars, [f"{value:.2f}" for value in top.values.tolist()], padding=2, fontsize=8
            )
            axis.set_yticks(range(len(names))[::-1], names, fontsize=9)
            axis.set_xlim(0, 1.15)
            axis.set_xticks([])
            axis.spines["bottom"].set_visible(False)
            axis.set_title(f"{found.name}: {'right' if hit[index] else 'wrong'}", fontsize=10)
    figure.suptitle(
        f"largest changes of the true class's probability, {math.ceil(args.images / 2)} up and {args.images // 2} down; green: the true class",
        fontsize=9,
    )
    save(figure, args.out)


KINDS = {function.__name__: function for function in (tsne, ablation, channels, predictions)}


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        prog="python -m tools.figures",
    )
    parser.add_argument("kind", choices=KINDS)
    parser.add_argument("runs", nargs="+", type=inputs.path, metavar="RUN")
    parser.add_argument(
        "--out",
        type=inputs.path,
        help="name of the picture without suffix (default: output/figures/KIND)",
    )
    parser.add_argument(
        "--root",
        type=os.path.expanduser,
        default="",
        help="folder of the data sets, if it is no longer where the run found it",
    )
    parser.add_argument(
        "--target",
        default="",
        help="registered name of another data set to look at, e.g. OpenMojiLine",
    )
    parser.add_argument(
        "--classes",
        type=int,
        default=2,
        help="tsne: so many classes that the first run confuses most",
    )
    parser.add_argument("--names", nargs="+", help="tsne: these classes")
    parser.add_argument("--images", type=int, default=4, help="predictions: so many images")
    args = parser.parse_args(arguments)
    args.out = args.out if args.out is not None else Path("output/figures") / args.kind

    def run(args: argparse.Namespace) -> int:
        for name in ("classes", "images"):
            if getattr(args, name) < 1:
                raise InputError(f"--{name} is {getattr(args, name)}: set it to 1 or more")
        inputs.check_name(args.out.with_suffix(".png") if args.out.name else args.out, "--out")
        KINDS[args.kind](args)
        return 0

    return trained.main(run, args)


if __name__ == "__main__":
    sys.exit(main())
