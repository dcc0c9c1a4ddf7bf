"""What tests said, without running a model: accuracy, calibration, ensembles, paired differences.

    python -m tools.outcomes RUN [RUN ...] [--split test] [--json FILE]
        [--temperature [VALIDATION]]   # fitted on the outcomes of a validation part
        [--versus RUN]                 # difference of each RUN and this one, on the same images
        [--ensemble]                   # the mean of the probabilities of all RUNs
        [--reliability PICTURE] [--confusion CSV]   # of one RUN, or of the ensemble

RUN is a folder with results.json and outcomes_<split>.npz (`dassl.outcomes`). Macro accuracy is the
mean over the classes present; the calibration error (ECE) has 15 bins of equal width (Guo et al.,
ICML 2017), as has the picture; the negative log likelihood is in nats.
"""

import argparse
import json
import sys
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dassl import files, outcomes, record
from tools import inputs, plots
from tools.arguments import Parser
from tools.inputs import InputError
from tools.results import markdown

BINS = 15
REPLICATES = 10_000
FEW = 30  # images that only one of two runs has right: up to so many their interval is exact
LEVEL = 0.05  # p up to which a difference is not taken for chance
OWN = Path("-")  # --temperature without a folder: that of the run
TEMPERATURES = (0.01, 100.0)  # between which one is searched, as factors of the model's own


@dataclass(frozen=True, eq=False)
class Answers:
    """What one test, or an ensemble of tests, said about N images of C classes.

    saved: the file's content; of an ensemble, of its first member. predicted (N,), confidence (N,)
    in 0..1, nll (N,) in nats. scores (N, C): log probabilities, None where the file does not have
    all. temperature: what scores were divided by. model: a checksum of the model that was tested,
    None if its checkpoint is gone.
    """

    name: str
    saved: outcomes.Outcomes
    predicted: NDArray
    confidence: NDArray
    nll: NDArray
    scores: NDArray | None
    temperature: float | None = None
    model: str | None = None

    @property
    def correct(self) -> NDArray:
        return self.predicted == self.saved.label


def read(folder: Path, split: str) -> Answers:
    """The outcomes of a run's folder. Raises InputError for a folder without results.json."""
    try:
        results = record.read(folder / record.NAME)
    except OSError as error:
        raise InputError(
            f"'{folder / record.NAME}' cannot be read ({error.strerror}): give the output folder "
            "of a run"
        ) from None
    except (ValueError, RecursionError) as error:
        raise InputError(
            f"'{folder / record.NAME}' is not readable as results ({error}): run it again"
        ) from None
    saved = outcomes.read(folder, split, results)
    scores = None
    if saved.classes is None:
        relative = saved.scores.astype(np.float64) + saved.highest[:, None]
        scores = relative - saved.log_sum_exp[:, None]
    predicted, nll = saved.predicted, saved.negative_log_likelihood
    model = _model(folder, split, results)
    return Answers(str(folder), saved, predicted, saved.confidence, nll, scores, model=model)


def _model(folder: Path, split: str, results: dict) -> str | None:
    """The checksum of the model that was tested: of a training, that of its own checkpoint.

    A training that deploys its best model tests the validation part with the last one, too. What
    learns nothing, such as zero-shot CLIP, is the model that its weights and options make.
    """
    loaded = results.get("loaded")
    if loaded is not None and not loaded.get("model_dir"):
        return _frozen(results)
    if loaded is not None:
        return results.get("model_sha256")
    best = results.get("deployed") == "best_val" and split == "test"
    return files.model_checksum(str(folder), None if best else results.get("epochs"))


def _frozen(results: dict) -> str | None:
    """What tells a model without training from another; None for records of older versions."""
    if not (weights := (results.get("pretrained") or {}).get("sha256")):
        return None
    deciding = ("MODEL.", "TRAINER.", "INPUT.", "DATASET.NAME", "DATASET.TEMPLATE")
    options = {
        key: value
        for key, value in record.flat(results["config"]).items()
        if key.startswith(deciding) and not key.startswith("TRAINER.CACHED_")
    }
    return json.dumps([weights, options], sort_keys=True)


def all_scores(answers: Answers, wanted: str) -> NDArray:
    """Log probabilities (N, C). Raises InputError where the file has only the highest."""
    if answers.scores is None:
        raise InputError(
            f"'{answers.name}' holds the {outcomes.KEPT} highest of "
            f"{len(answers.saved.classnames)} scores of an image, and {wanted} needs all: leave it "
            "out"
        )
    return answers.scores


def check_labels(answers: Answers, wanted: str) -> None:
    """Raise InputError for images whose class the model does not know."""
    count = len(answers.saved.classnames)
    if unknown := int(((answers.saved.label < 0) | (answers.saved.label >= count)).sum()):
        raise InputError(
            f"{unknown} of {len(answers.saved.label)} images of '{answers.name}' are of classes "
            f"that its model has no score for, and {wanted} needs one for each: leave it out, or "
            "test on the classes of the training"
        )


def from_scores(answers: Answers, name: str, scores: NDArray, **changes) -> Answers:
    """The answers of log probabilities (N, C), which need not sum to 1."""
    scores = scores - np.logaddexp.reduce(scores, axis=1, keepdims=True)
    label = answers.saved.label
    known = (label >= 0) & (label < scores.shape[1])
    own = scores[np.arange(len(scores)), np.where(known, label, 0)]
    return replace(
        answers,
        name=name,
        predicted=scores.argmax(1),
        confidence=np.exp(scores.max(1)),
        nll=np.where(known, -own, np.inf),
        scores=scores,
        **changes,
    )


# Numbers


def macro_accuracy(answers: Answers) -> float:
    """In percent, over the classes that have images."""
    import torch
    from torchmetrics.functional.classification import multiclass_accuracy

    predicted, label = (
        torch.from_numpy(array.astype(np.int64))
        for array in (answers.predicted, answers.saved.label)
    )
    # Labels that no class name stands for are classes, too; those without images are 0 here.
    classes = max(len(answers.saved.classnames), int(label.max()) + 1)
    each = multiclass_accuracy(predicted, label, classes, average=None)
    return 100.0 * float(each[label.unique()].mean())


def calibration_error(answers: Answers) -> float:
    """ECE in percent."""
    import torch
    from torchmetrics.functional.classification import binary_calibration_error

    # torchmetrics has a bin of its own for a confidence of 1
    confidence = torch.from_numpy(answers.confidence.astype(np.float64)).clamp(0, 1 - 1e-9)
    correct = torch.from_numpy(answers.correct.astype(np.int64))
    return 100.0 * float(binary_calibration_error(confidence, correct, n_bins=BINS, norm="l1"))


def numbers(answers: Answers) -> dict[str, float | int | None]:
    """All that a line of the table shows."""
    return {
        "images": len(answers.predicted),
        "accuracy": 100.0 * float(answers.correct.mean()),
        "macro_accuracy": macro_accuracy(answers),
        "calibration_error": calibration_error(answers),
        "negative_log_likelihood": float(answers.nll.mean()),
        "temperature": answers.temperature,
    }


def reliability(answers: Answers) -> list[tuple[int, float, float]]:
    """(images, mean confidence, accuracy) of each of BINS bins, (0, 0) for one without images."""
    place = np.clip(np.ceil(answers.confidence * BINS).astype(int) - 1, 0, BINS - 1)
    rows: list[tuple[int, float, float]] = []
    for number in range(BINS):
        inside = place == number
        if count := int(inside.sum()):
            confidence, accuracy = answers.confidence[inside].mean(), answers.correct[inside].mean()
            rows.append((count, float(confidence), float(accuracy)))
        else:
            rows.append((0, 0.0, 0.0))
    return rows


def confusion(answers: Answers) -> NDArray:
    """(C, C) numbers of images, by label and predicted class.

    Raises InputError for images whose class is not among the C.
    """
    from sklearn.metrics import confusion_matrix

    check_labels(answers, "--confusion")
    labels = range(len(answers.saved.classnames))
    return confusion_matrix(answers.saved.label, answers.predicted, labels=labels)


# Temperature


def fit_temperature(answers: Answers) -> float:
    """The temperature with the least negative log likelihood on these images.

    Raises InputError for images whose class has no score.
    """
    from scipy.optimize import minimize_scalar

    scores = all_scores(answers, "--temperature")
    check_labels(answers, "--temperature")
    least, most = np.log(TEMPERATURES)

    def loss(log_temperature: float) -> float:
        return float(from_scores(answers, "", scores / np.exp(log_temperature)).nll.mean())

    return float(np.exp(minimize_scalar(loss, bounds=(least, most), method="bounded").x))


def scaled(answers: Answers, validation: Answers) -> Answers:
    """The answers with the temperature that fits a validation part of the same model.

    Raises InputError if the validation part was tested with another model or other classes, or has
    images of the test.
    """
    ours, theirs = answers.saved, validation.saved
    if ours.classnames != theirs.classnames:
        raise InputError(
            f"'{validation.name}' has other classes than '{answers.name}': fit the temperature on "
            "a validation part of the same classes"
        )
    if shared := set(ours.paths) & set(theirs.paths):
        raise InputError(
            f"'{validation.name}' and '{answers.name}' share {len(shared)} images, the first "
            f"'{min(shared)}': a temperature that is fitted on test images says nothing about "
            "them, so give a validation part without them"
        )
    if answers.model is None or validation.model is None:
        gone = answers if answers.model is None else validation
        raise InputError(
            f"the checkpoint of '{gone.name}' is gone, so that nothing tells whether the "
            "validation part was tested with the same model: train it again"
        )
    if answers.model != validation.model:
        raise InputError(
            f"'{validation.name}' is of another model than '{answers.name}': test this model with "
            "TEST.SPLIT val"
        )
    temperature = fit_temperature(validation)
    scores = all_scores(answers, "--temperature") / temperature
    name = f"{answers.name}, temperature {temperature:.3f}"
    return from_scores(answers, name, scores, temperature=temperature)


# Several runs


def check_same_images(one: Answers, other: Answers, wanted: str) -> None:
    """Raise InputError unless both were tested on the same images with the same classes."""
    ours, theirs = one.saved, other.saved
    same = (
        ours.paths == theirs.paths
        and ours.classnames == theirs.classnames
        and np.array_equal(ours.label, theirs.label)
    )
    if not same:
        raise InputError(
            f"'{one.name}' and '{other.name}' were tested on different images or classes: "
            f"{wanted} needs the same ones"
        )


def ensemble(members: list[Answers]) -> Answers:
    """The mean of the members' probabilities. Raises InputError for different images."""
    for other in members[1:]:
        check_same_images(members[0], other, "--ensemble")
    scores = np.stack([all_scores(one, "--ensemble") for one in members])
    mean = np.logaddexp.reduce(scores, axis=0) - np.log(len(members))
    return from_scores(members[0], f"ensemble of {len(members)}", mean, temperature=None)


@dataclass(frozen=True)
class Difference:
    """Of the accuracies of two runs on the same images, in points.

    low, high: its 95% interval by `method` (exact, bootstrap); None where nothing tells one.
    p: of McNemar's exact test (Psychometrika, 1947); for images in clusters that of the sign test
    on the clusters' differences, which it is for single images.
    """

    mean: float
    low: float | None
    high: float | None
    p: float
    method: str

    @property
    def is_sure(self) -> bool:
        """Whether chance is ruled out, by test and interval."""
        if self.low is None or self.high is None:
            return False
        return self.p <= LEVEL and self.low * self.high > 0

    def text(self) -> str:
        """+10.00 [+6.02, +13.40], p < 0.001"""
        if self.low is None or self.high is None:
            return f"{self.mean:+.2f}, no interval: all clusters of images have this difference"
        return f"{self.mean:+.2f} [{self.low:+.2f}, {self.high:+.2f}]{self.chance()}"

    def chance(self) -> str:
        """, p = 0.012"""
        return ", p < 0.001" if self.p < 0.001 else f", p = {self.p:.3f}"


def difference(one: Answers, other: Answers, seed: int = 0) -> Difference:
    """The difference of two runs' accuracies.

    Its interval is `exact` if up to FEW images are right in one run only; else it holds 95% of
    REPLICATES draws of clusters with replacement, in which both runs are drawn alike. Clusters of
    equal differences have none: every draw is the same.
    """
    check_same_images(one, other, "--versus")
    cluster = one.saved.cluster
    gained = int((one.correct & ~other.correct).sum())
    lost = int((other.correct & ~one.correct).sum())
    images = len(one.correct)
    mean = 100.0 * (gained - lost) / images
    if cluster is None and gained + lost <= FEW:
        return Difference(mean, *exact(gained, lost, images), mcnemar(gained, lost), "exact")
    cluster = np.arange(images) if cluster is None else cluster
    _, number = np.unique(cluster, return_inverse=True)
    gains = np.bincount(number, one.correct.astype(float) - other.correct.astype(float))
    sizes, p = (
        np.bincount(number).astype(float),
        mcnemar(int((gains > 0).sum()), int((gains < 0).sum())),
    )
    generator = np.random.default_rng(seed)
    drawn = np.empty(REPLICATES)
    for start in range(0, REPLICATES, 500):
        places = generator.integers(0, len(gains), (min(500, REPLICATES - start), len(gains)))
        drawn[start : start + len(places)] = gains[places].sum(1) / sizes[places].sum(1)
    if np.ptp(drawn) == 0:
        return Difference(mean, None, None, p, "none")
    low, high = np.quantile(drawn, [0.025, 0.975])
    return Difference(mean, 100 * float(low), 100 * float(high), p, "bootstrap")


def mcnemar(gained: int, lost: int) -> float:
    """Two-sided p of McNemar's exact test, of how many images each run alone has right."""
    from scipy.stats import binomtest

    return float(binomtest(gained, gained + lost).pvalue) if gained + lost else 1.0


def exact(gained: int, lost: int, images: int) -> tuple[float, float]:
    """A 95% interval of the difference in points that leaves 0 out where `mcnemar` is below 0.05.

    The difference is the share of images on which the runs differ, times 2 x - 1, where x is the
    share of gains among these; its bounds are products of the bounds of both by Clopper and
    Pearson (Biometrika, 1934). It holds 95% or more for all numbers of images that
    tests/test_outcome_tool.py goes through.
    """
    share = _clopper_pearson(gained + lost, images)
    low, high = (2 * bound - 1 for bound in _clopper_pearson(gained, gained + lost))
    return 100 * low * share[low < 0], 100 * high * share[high > 0]


def _clopper_pearson(hits: int, number: int) -> tuple[float, float]:
    """The 95% interval of a share; everything without observations."""
    from scipy.stats import binomtest

    if not number:
        return 0.0, 1.0
    found = binomtest(hits, number).proportion_ci(0.95, method="exact")
    return float(found.low), float(found.high)


# The program


def work(args: argparse.Namespace) -> int:
    inputs.check_outputs(
        [
            inputs.Output("--json", args.json),
            inputs.Output("--confusion", args.confusion),
            inputs.Output("--reliability", args.reliability, plots.KINDS),
        ]
    )
    runs = [read(folder, args.split) for folder in args.runs]
    shown = list(runs)
    if args.temperature is not None:
        if args.temperature != OWN and len(runs) > 1:
            raise InputError(
                "--temperature names one validation part, but there are several runs: give one run"
            )
        for folder, answers in zip(args.runs, runs, strict=True):
            part = folder if args.temperature == OWN else args.temperature
            shown.append(scaled(answers, _validation(part)))
    if args.ensemble:
        if len(runs) < 2:
            raise InputError("--ensemble has one run: give two or more")
        shown.append(ensemble(runs))
    if (args.reliability or args.confusion) and len(runs) > 1 and not args.ensemble:
        raise InputError(
            "--reliability and --confusion are of one run: give one, or --ensemble of several"
        )
    lines = [(answers.name, numbers(answers)) for answers in shown]
    sys.stdout.write(f"{_table(lines)}\n")
    content: dict[str, object] = {"runs": [{"name": name, **values} for name, values in lines]}
    if args.versus:
        other = read(args.versus, args.split)
        compared = (*runs, *shown[len(shown) - 1 :] * args.ensemble)
        found = [(one, difference(one, other)) for one in compared]
        content["differences"] = [
            {"name": one.name, "versus": other.name, **asdict(gain)} for one, gain in found
        ]
        sys.stdout.write(f"\nDifference of accuracy over '{other.name}' (95% interval):\n")
        for one, gain in found:
            sys.stdout.write(f"{one.name}: {gain.text()}\n")
    last = shown[-1]
    content["reliability"] = bins = reliability(last)
    if args.reliability:
        plots.reliability(bins, last.name, args.reliability)
    if args.confusion:
        inputs.write(args.confusion, _csv(last), "--confusion")
    if args.json:
        inputs.write(args.json, json.dumps(content, indent=1) + "\n", "--json")
    return 0


def _validation(folder: Path) -> Answers:
    """The outcomes of a validation part. Raises InputError if the folder has none."""
    if not outcomes.place(folder, "val").is_file():
        raise InputError(
            f"'{folder}' holds no outcomes of a validation part: test the model once more with "
            "TEST.SPLIT val in a folder of its own, and give that folder behind --temperature"
        )
    return read(folder, "val")


def _table(lines: list[tuple[str, dict]]) -> str:
    head = ["run", "images", "accuracy", "macro", "ECE", "NLL"]
    rows = [
        [
            name,
            str(values["images"]),
            *(f"{values[key]:.2f}" for key in ("accuracy", "macro_accuracy", "calibration_error")),
            f"{values['negative_log_likelihood']:.4f}",
        ]
        for name, values in lines
    ]
    return markdown(head, rows)


def _csv(answers: Answers) -> str:
    names = answers.saved.classnames
    rows = zip(names, confusion(answers).tolist(), strict=True)
    return inputs.comma_separated(
        ["label \\ predicted", *names], [[name, *row] for name, row in rows]
    )


def main(arguments: list[str] | None = None) -> int:
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", type=inputs.path, metavar="RUN")
    parser.add_argument("--split", default="test", choices=("test", "val", "train"))
    parser.add_argument(
        "--temperature",
        nargs="?",
        type=inputs.path,
        const=OWN,
        metavar="VALIDATION",
        help="fit a temperature on the validation outcomes in this folder (default: in RUN)",
    )
    parser.add_argument("--versus", type=inputs.path, metavar="RUN")
    parser.add_argument("--ensemble", action="store_true")
    parser.add_argument("--reliability", type=inputs.path, metavar="PICTURE")
    parser.add_argument("--confusion", type=inputs.path, metavar="CSV")
    parser.add_argument("--json", type=inputs.path, metavar="FILE")
    return inputs.main(work, parser.parse_args(arguments))


if __name__ == "__main__":
    sys.exit(main())
