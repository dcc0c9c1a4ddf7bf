"""The paper's pictures from finished runs, as PNG and PDF.

    python -m tools.figures KIND RUN ... [options]

    tsne RUN RUN [--classes 2]
        t-SNE of the test features of some classes, baseline beside CRAFT (Figure 4)
    ablation OUTPUT
        bars of the ablation per data set (Figure 2), from scripts/ablation.sh
    settings OUTPUT --keys TRAINER.CRAFT.ANCHORS_PER_CLASS
        base, new and H over the value of an option, of the runs of an ablation; of several keys
        those runs that give all the same value, with 0 for runs without CRAFT if they are weights
    channels RUN RUN ... --target DATASET
        distribution of each channel's importance on a shifted data set over the source (Figure 3)
    predictions RUN RUN [--images 4]
        class probabilities of single test images with and without CRAFT (Figure 5)

RUN is the folder of a finished run. Features of its test images are computed once and kept there
(features-<data set>.safetensors).
"""

import argparse
import hashlib
import json
import math
import os
import statistics
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor
from tqdm import tqdm

from dassl import record
from dassl.data.data_manager import DatasetWrapper, build_data_loader
from dassl.data.datasets import DatasetBase, Datum, build_dataset
from dassl.evaluation import check_scores
from dassl.names import did_you_mean
from dassl.utils import UserError
from tools import colours, configs, inputs, plots, trained
from tools.arguments import Parser
from tools.inputs import InputError
from tools.protocols import PROTOCOLS, Row, collect
from tools.statistics import standard_error, t_test
from trainers.cache import describe
from trainers.step import Features

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

TRUE, OTHER = "#1b7a3d", "#b9b9b9"  # bars of the true class and of others
LINES = ("-", "-", "--", ":", "-.")


def run_name(run: Path) -> str:
    """The trainer, and whether it learned with MMD."""
    _, cfg = trained.read(str(run))
    with_mmd = "CRAFT" in trained.nodes(cfg) and cfg.TRAINER.CRAFT.LAMBDA_MMD
    return cfg.TRAINER.NAME + (" + MMD" if with_mmd else "")


def data_of(run: Path, root: str, name: str = "") -> DatasetBase:
    """The data set that a run tested, or the one called `name` with all classes of it.

    Its test images are without few-shot draw.
    """
    _, cfg = trained.read(str(run))
    cfg.DATASET.ROOT = root or cfg.DATASET.ROOT
    cfg.DATASET.NUM_SHOTS, cfg.DATASET.TARGET, cfg.DATASET.INDICES = -1, "", ""
    cfg.DATASET.NAME = name or cfg.DATASET.NAME
    return build_dataset(cfg)


@dataclass
class RunFeatures(Features):
    """Unit-norm features of a run's test images (N, D) and class texts (C, D) or (N, C, D).

    labels (N,); paths of the images; classnames in label order; name of the run in a picture.
    """

    labels: Tensor
    paths: list[str]
    classnames: list[str]
    name: str

    def text_of_label(self) -> Tensor:
        """(N, D), the text feature of each image's own class."""
        return self.text_of(self.labels)

    def channel_importance(self) -> Tensor:
        """(D,): mean absolute contribution of each embedding channel to the true-class logit."""
        return (self.scale * self.image * self.text_of_label()).abs().mean(0)


def features(run: Path, root: str, name: str = "", out: Path | None = None) -> RunFeatures:
    """The features of a run's model on its test images, or on those of the data set `name`.

    Read from the run's folder if they are there, of this model and of the same images and classes.
    Raises UserError as `trained.load` and the data set do, and for features that are not finite;
    InputError if `out`, the picture to draw, would replace one of the images.
    """
    data = data_of(run, root, name)
    if out is not None:
        check_out(out, [item.impath for item in data.test])
    paths, names = [item.impath for item in data.test], list(data.classnames)
    file = run / record.FEATURES.format(type(data).__name__)
    origin = _origin(run, data, names)
    try:
        tensors = load_file(file) if file.is_file() else {}
    except (SafetensorError, OSError):  # damaged, or not to be read: computed anew
        tensors = {}
    if "of" not in tensors or not torch.equal(tensors["of"], origin):
        tensors = _compute(run, data, names) | {"of": origin}
        try:
            inputs.write(file, lambda part: save_file(tensors, part), "--out")
        except (InputError, SafetensorError):
            sys.stderr.write(
                f"note: '{run}' cannot be written to: its features are computed anew next time\n"
            )
    return RunFeatures(
        image=tensors["image"],
        text=tensors["text"],
        scale=tensors["scale"],
        labels=tensors["labels"],
        paths=paths,
        classnames=[name.replace("_", " ") for name in names],
        name=run_name(run),
    )


def _origin(run: Path, data: DatasetBase, names: list[str]) -> Tensor:
    """A checksum (32,) of what decides features: images, classes, configuration and model."""
    results, cfg = trained.read(str(run))
    images = describe(data.test, cfg.DATASET.ROOT, "")["images"]
    checksum = trained.model_checksum(str(run), results)
    content = json.dumps([images, names, results.get("config_hash"), checksum])
    return torch.frombuffer(bytearray(hashlib.sha256(content.encode()).digest()), dtype=torch.uint8)


@torch.no_grad()
def _compute(run: Path, data: DatasetBase, names: list[str]) -> dict[str, Tensor]:
    """The tensors of `RunFeatures`, of the run's model on the test images of `data`."""
    kind = type(data).__name__
    instead = f"choose a data set with the classes of that run, not {kind}"
    model = trained.load(str(run), names, None, "", instead)
    loader = build_data_loader(
        model.cfg,
        "SequentialSampler",
        data.test,
        model.cfg.DATALOADER.TEST.BATCH_SIZE,
        tfm=model.transform,
        is_train=False,
    )
    if not model.clip.compares_features:
        raise UserError(
            f"{model.cfg.TRAINER.NAME} has logits that features of images and texts do not tell: "
            "choose runs of other trainers for pictures of features"
        )
    clip, class_texts = model.clip, model.clip.encode_class_texts()
    images, texts = [], []
    for batch in tqdm(loader, desc=f"features of {run_name(run)} on {kind}", mininterval=1):
        of_batch = clip.features(batch["img"].to(clip.device), class_texts)
        images.append(of_batch.image.float().cpu())
        texts.append(of_batch.text.float().cpu())
    text = torch.cat(texts) if texts[0].dim() == 3 else texts[0]
    tensors = {
        "image": torch.cat(images),
        "text": text.contiguous(),
        "scale": clip.backbone.scale.reshape(1).float().cpu(),
        "labels": torch.tensor([item.label for item in data.test]),
    }
    for part in ("image", "text"):
        check_scores(tensors[part])
    return tensors


def written(out: Path) -> list[Path]:
    """OUT.png and OUT.pdf; OUT itself if it is no name, as "/"."""
    return [out.with_suffix(suffix) for suffix in (".png", ".pdf")] if out.name else [out]


def check_out(out: Path, read: Iterable[str] = ()) -> None:
    """`inputs.check_outputs` of --out. read: images that the picture is made from."""
    inputs.check_outputs([inputs.Output("--out", path) for path in written(out)], read)


def save(figure: "Figure", out: Path) -> None:
    """OUT.png and OUT.pdf."""
    for path in written(out):
        plots.save(figure, path, "--out")
    sys.stdout.write(f"picture: {out.with_suffix('.png')}\n")


def tsne(args: argparse.Namespace) -> None:
    """t-SNE of the test features of some classes, one picture for each run."""
    runs = [features(run, args.root, args.target, args.out) for run in args.runs]
    if len(runs) > 1 and all(torch.equal(run.image, runs[0].image) for run in runs[1:]):
        sys.stderr.write(
            "note: the image features of all runs are the same, since these methods learn nothing "
            "about images: take VPT, MaPLe or PromptSRC\n"
        )
    classnames = runs[0].classnames
    if unknown := [name for name in args.names or () if name not in classnames]:
        known = ", ".join(classnames[:8])
        raise UserError(f"unknown class '{unknown[0]}' in --names: {known} and so on are known")
    chosen = (
        [classnames.index(name) for name in args.names]
        if args.names
        else choose_classes(runs[0], args.classes)
    )
    if len(chosen) > plots.MOST:
        raise UserError(
            f"{len(chosen)} classes are too many to tell apart by colour: choose {plots.MOST} or "
            "fewer with --classes or --names"
        )
    plt = plots.pyplot()
    figure, axes = plt.subplots(
        1, len(runs), figsize=(plots.WIDTH, 1 + plots.WIDTH / max(len(runs), 2)), squeeze=False
    )
    for axis, run in zip(axes[0], runs, strict=True):
        scatter(axis, run, chosen)
    figure.legend(
        *axes[0][0].get_legend_handles_labels(),
        loc="outside lower center",
        ncols=min(len(chosen), 4),
    )
    save(figure, args.out)


def scatter(axis: "Axes", run: RunFeatures, chosen: list[int]) -> None:
    """Points of the test images of the chosen labels. UserError if they are too few."""
    from sklearn.manifold import TSNE

    rows = torch.isin(run.labels, torch.tensor(chosen))
    if int(rows.sum()) < 4:
        raise UserError(
            f"the classes chosen have {int(rows.sum())} test images, too few for t-SNE: choose "
            "others with --names or more with --classes"
        )
    perplexity = min(30, (int(rows.sum()) - 1) / 3)
    embedding = TSNE(2, perplexity=perplexity, init="pca", random_state=0, metric="cosine")
    points = embedding.fit_transform(run.image[rows].numpy())
    counts = torch.bincount(run.labels, minlength=len(run.classnames))
    for number, label in enumerate(chosen):
        of_class = points[(run.labels[rows] == label).numpy()]
        axis.scatter(
            of_class[:, 0],
            of_class[:, 1],
            s=26,
            color=colours.HUES[number % len(colours.HUES)],
            marker=colours.MARKERS[number % len(colours.MARKERS)],
            alpha=0.8,
            linewidths=0,
            label=f"{run.classnames[label]} ({int(counts[label])})",
        )
    right = (run.logits().argmax(1) == run.labels)[rows].float().mean().item()
    axis.set_title(f"{run.name}: {100 * right:.0f}% of these right")
    axis.set_xticks([])
    axis.set_yticks([])


def choose_classes(run: RunFeatures, number: int) -> list[int]:
    """The pair of classes that the run confuses most, then what it confuses with them most."""
    classes, counts = len(run.classnames), torch.ones(len(run.labels))
    confusion = torch.zeros(classes, classes)
    confusion.index_put_((run.labels, run.logits().argmax(1)), counts, accumulate=True)
    both = (confusion + confusion.t()).fill_diagonal_(-1)
    chosen = [int(both.max(1).values.argmax())]
    while len(chosen) < min(number, classes):
        score = both[chosen].sum(0)
        score[chosen] = -math.inf
        chosen.append(int(score.argmax()))
    return sorted(chosen)


def _of_ablation(args: argparse.Namespace) -> list[Row]:
    """The rows of an ablation's table; what is wrong with the runs goes to stderr."""
    rows, problems = collect(PROTOCOLS["ablation"], args.runs)
    if not rows:
        raise UserError(
            f"no results.json of ablation runs below {', '.join(map(str, args.runs))}: run "
            "scripts/ablation.sh first"
        )
    for problem in problems:
        sys.stderr.write(f"note: {problem}\n")
    return rows


def settings(args: argparse.Namespace) -> None:
    """Base, new and H over the value that the runs have of the options --keys."""
    if not args.keys:
        raise UserError("settings draws results over an option: name it with --keys")
    rows = _of_ablation(args)
    known = {key for row in rows for key in _options(row)}
    if unknown := [key for key in args.keys if key not in known]:
        raise UserError(
            f"--keys has '{unknown[0]}', an option of none of these runs: "
            f"{did_you_mean(unknown[0], known)}choose one of their config.yaml"
        )
    found = _over_values(rows, args.keys)
    if not found:
        raise UserError(
            f"no runs differ in {' and '.join(args.keys)} alone: give runs of at least two values "
            "that have all else in common"
        )
    panels = []
    for column in ("base", "new", "H"):
        lines = []
        for (dataset, structure, shots), values in found.items():
            look = colours.variants(structure, {structure: True})[structure]
            points = [
                (value, *_with_interval(seeds))
                for value, row in values.items()
                if (seeds := row.of(column))
            ]
            name = structure + (f" on {dataset}" if len({one for one, *_ in found}) > 1 else "")
            name += f", {shots} shots" if len({one[2] for one in found}) > 1 else ""
            if points:
                lines.append(plots.Line(name, look, tuple(sorted(points))))
        panels += plots.panels(column, column, "accuracy (%)", {column: lines}) if lines else []
    ticks = sorted({value for values in found.values() for value in values})
    for path in written(args.out):
        plots.over_values(panels, args.keys, ticks, path)
    sys.stdout.write(f"picture: {args.out.with_suffix('.png')}\n")


def _options(row: Row) -> dict[str, object]:
    """{key: value} of the configuration of a row's first run."""
    return record.flat(next(iter(row.first.values()))["config"])


# What else decides a result; of CRAFT's own options, which a run without it lacks, apart.
DECIDES = ("OPTIM.", "MODEL.", "INPUT.", "DATALOADER.", "TEST.FINAL_MODEL", "TRAINER.")
OF_CRAFT = "TRAINER.CRAFT."


def _over_values(rows: Sequence[Row], keys: Sequence[str]) -> dict[tuple, dict[float, Row]]:
    """{(data set, structure, shots): {value of the keys: row}} of rows that differ in nothing else.

    Of several such families the largest; one of a single value is left out. Without CRAFT all its
    weights are 0.
    """
    families: dict[tuple, dict[float, Row]] = {}
    plain: dict[tuple, Row] = {}
    for row in rows:
        options = _options(row)
        others = {
            key: value
            for key, value in options.items()
            if key.startswith(DECIDES) and key not in (*keys, "TRAINER.NAME", "TRAINER.TERMS")
        }
        own = {key: others.pop(key) for key in [*others] if key.startswith(OF_CRAFT)}
        place = (row.dataset, row.structure, row.shots), repr(sorted(others.items()))
        if not configs.has_craft(str(options["TRAINER.NAME"])):
            plain[place] = row
            continue
        value, *more = [options.get(key) for key in keys]
        if any(other != value for other in more) or not isinstance(value, int | float):
            continue
        weights = [own[key] for key in own if ".LAMBDA_" in key]
        off = all(".LAMBDA_" in key for key in keys) and not any(weights)
        families.setdefault((*place, repr(sorted(own.items())), off), {})[float(value)] = row
    found: dict[tuple, dict[float, Row]] = {}
    for (where, others_of, _, off), family in families.items():
        if off and (where, others_of) in plain:
            family.setdefault(0.0, plain[where, others_of])
        if len(family) > max(1, len(found.get(where, ()))):
            found[where] = family
    return found


def _with_interval(values: Mapping[int, float]) -> tuple[float, float]:
    """Mean, and half of its 95% interval by Student's t; 0 for one seed."""
    numbers = list(values.values())
    mean = statistics.mean(numbers)
    if len(numbers) < 2:
        return mean, 0.0
    return mean, t_test(mean, standard_error(numbers), len(numbers)).high - mean


def ablation(args: argparse.Namespace) -> None:
    rows = _of_ablation(args)
    for path in written(args.out):
        plots.plot(rows, ["base", "new", "H"], path)
    sys.stdout.write(f"picture: {args.out.with_suffix('.png')}\n")


def channels(args: argparse.Namespace) -> None:
    """Distribution of the importance of each channel on --target over that on the source."""
    if not args.target:
        raise UserError(
            "channels compares a shifted data set with the source: give its registered name with "
            "--target"
        )
    ratios = [channel_ratio(run, args.root, args.target, args.out) for run in args.runs]
    plt = plots.pyplot()
    figure, axis = plt.subplots(figsize=(plots.WIDTH, 4.2))
    low, high = np.percentile(np.concatenate([ratio for _, ratio in ratios]), [0.5, 99.5])
    edges = np.linspace(min(low, 0.9), max(high, 1.1), 26)
    for number, (name, ratio) in enumerate(ratios):
        trainer = name.split()[0]
        structure, craft = configs.structure_of(trainer), configs.has_craft(trainer)
        look = colours.variants(structure, {trainer: craft}, configs.learns(trainer))[trainer]
        axis.hist(
            ratio,
            edges,
            histtype="stepfilled" if number == 0 else "step",
            linewidth=1.8,
            linestyle=LINES[number % len(LINES)],  # runs of one method have one colour
            alpha=0.35 if number == 0 else 1.0,
            color=look.colour,
            label=f"{name}: mean |ratio - 1| = {np.abs(ratio - 1).mean():.3f}",
        )
    axis.axvline(1, color="#5a5a5a", linewidth=1, linestyle=":")
    axis.set_xlabel(f"importance of a channel on {args.target} / on the source")
    axis.set_ylabel("channels")
    axis.legend(fontsize=9, loc="upper left", bbox_to_anchor=(0, -0.2))
    save(figure, args.out)


def channel_ratio(
    run: Path, root: str, target_name: str, out: Path | None = None
) -> tuple[str, np.ndarray]:
    """(the run in words, ratio (D,) of channel importance on the target over the source).

    Raises UserError if the two data sets have other classes.
    """
    source, target = (features(run, root, name, out) for name in ("", target_name))
    if source.classnames != target.classnames:
        raise UserError(
            f"{target_name} has other classes than what '{run}' tested, but importance is that of "
            "the true class's logit: choose a target with the same"
        )
    labelled = trained.read(str(run))[1].DATASET.TARGET_LABELLED
    name = source.name + (" (oracle: labelled target)" if labelled else "")
    return name, (target.channel_importance() / source.channel_importance()).numpy()


def predictions(args: argparse.Namespace) -> None:
    """Class probabilities of the images on which the runs differ most."""
    runs = [features(run, args.root, args.target, args.out) for run in args.runs]
    probabilities = [run.logits().softmax(1) for run in runs]
    of_true = torch.stack([p[torch.arange(len(p)), runs[0].labels] for p in probabilities])
    # As many images to the last run's favour as to its disadvantage.
    order = (of_true[-1] - of_true[0]).argsort(descending=True).tolist()
    picks = order[: math.ceil(args.images / 2)] + order[len(order) - args.images // 2 :]
    # As the first run reads them, but not cropped.
    pictures = DatasetWrapper(
        trained.read(str(args.runs[0]))[1], [Datum(path) for path in runs[0].paths]
    )
    plt = plots.pyplot()
    figure, axes = plt.subplots(
        len(picks),
        1 + len(runs),
        figsize=(plots.WIDTH, 0.5 + 1.9 * len(picks)),
        squeeze=False,
        width_ratios=[1.2, *[2] * len(runs)],
    )
    for line, index in zip(axes, picks, strict=True):
        line[0].imshow(pictures[index]["img"])
        line[0].set_title(runs[0].classnames[runs[0].labels[index]], fontsize=10)
        line[0].axis("off")
        for axis, run, rows in zip(line[1:], runs, probabilities, strict=True):
            bars(axis, run, rows[index], int(run.labels[index]))
    figure.suptitle(
        f"largest changes of the true class's probability, {math.ceil(args.images / 2)} up and "
        f"{args.images // 2} down; dark green: the true class",
        fontsize=9,
    )
    save(figure, args.out)


def bars(axis: "Axes", run: RunFeatures, row: Tensor, label: int) -> None:
    """The four most probable classes of an image: probabilities (C,) and its true label."""
    top = row.topk(min(4, len(row)))
    names = [run.classnames[i] for i in top.indices]
    heights = range(len(names))[::-1]
    drawn = axis.barh(
        heights, top.values, color=[TRUE if i == label else OTHER for i in top.indices]
    )
    axis.bar_label(drawn, [f"{value:.2f}" for value in top.values.tolist()], padding=2, fontsize=8)
    axis.set_yticks(heights, names, fontsize=9)
    axis.set_xlim(0, 1.15)
    axis.set_xticks([])
    axis.spines["bottom"].set_visible(False)
    verdict = "right" if int(row.argmax()) == label else "wrong"
    axis.set_title(f"{run.name}: {verdict}", fontsize=10)


KINDS = {
    function.__name__: function for function in (tsne, ablation, settings, channels, predictions)
}


def main(arguments: list[str] | None = None) -> int:
    parser = Parser(
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
        help="registered name of another data set to look at, e.g. EmojiLine",
    )
    parser.add_argument(
        "--classes",
        type=int,
        default=2,
        help="tsne: so many classes that the first run confuses most",
    )
    parser.add_argument("--names", nargs="+", help="tsne: these classes")
    parser.add_argument("--keys", nargs="+", default=(), help="settings: draw over these options")
    parser.add_argument("--images", type=int, default=4, help="predictions: so many images")
    args = parser.parse_args(arguments)
    args.out = args.out if args.out is not None else Path("output/figures") / args.kind

    def run(args: argparse.Namespace) -> int:
        for name in ("classes", "images"):
            if getattr(args, name) < 1:
                raise InputError(f"--{name} is {getattr(args, name)}: set it to 1 or more")
        check_out(args.out)
        KINDS[args.kind](args)
        return 0

    return inputs.main(run, args)


if __name__ == "__main__":
    sys.exit(main())
