"""Classification accuracy, in the words that everyone's scripts look for."""

import logging
import os.path as osp
from collections import Counter, OrderedDict

import numpy as np
import torch

# Here, before a run sets its seed: importing scikit-learn draws from Python's `random`.
from sklearn.metrics import confusion_matrix, f1_score

from dassl import record
from dassl.distributed import is_main
from dassl.evaluation.metrics import METRICS, Metric
from dassl.utils import UserError

log = logging.getLogger(__name__)


def check_scores(scores: object) -> None:
    """Raise UserError if a tensor of scores, as a rule (B, classes), is not finite."""
    if isinstance(scores, torch.Tensor) and not scores.isfinite().all():
        raise UserError(
            "the model's scores are NaN or infinite for some images, so there is no result: use "
            "PREC fp32, or a model that was trained with a lower OPTIM.LR"
        )


class EvaluatorBase:
    """Collects the outputs of a test: reset(), process(mo, gt) per batch, evaluate() at the end."""

    def __init__(self, cfg):
        self.cfg = cfg

    def reset(self) -> None:
        raise NotImplementedError

    def process(self, mo: torch.Tensor, gt: torch.Tensor) -> None:
        raise NotImplementedError

    def evaluate(self) -> OrderedDict[str, float]:
        raise NotImplementedError


class Classification(EvaluatorBase):
    """accuracy, error_rate and macro_f1 (over the classes present), in percent, and the metrics
    that TEST.METRICS names.
    """

    higher_is_better = ("accuracy", "macro_f1", "perclass_accuracy")

    def __init__(self, cfg, lab2cname: dict[int, str] | None = None, **kwargs):
        super().__init__(cfg)
        self._lab2cname = lab2cname
        self.reset()

    def reset(self) -> None:
        self._y_true: list[int] = []
        self._y_pred: list[int] = []
        self._correct = self._total = self._classes = 0
        self._metrics: dict[str, Metric] = {
            name: METRICS.get(name)() for name in self.cfg.TEST.get("METRICS", ())
        }

    def process(self, mo: torch.Tensor, gt: torch.Tensor) -> None:
        """mo: scores (B, classes); gt: labels (B,). UserError for scores that are not finite."""
        check_scores(mo)
        self._classes = max(self._classes, mo.shape[1])
        pred, true = mo.argmax(1).tolist(), gt.tolist()
        self._correct += sum(p == t for p, t in zip(pred, true, strict=True))
        self._total += len(true)
        self._y_true += true
        self._y_pred += pred
        for metric in self._metrics.values():
            metric.update(mo, gt)

    def evaluate(self) -> OrderedDict[str, float]:
        """Prints the result and returns it."""
        true, pred = np.array(self._y_true, int), np.array(self._y_pred, int)
        accuracy = 100.0 * self._correct / max(self._total, 1)
        f1 = (
            100.0
            * float(f1_score(true, pred, average="macro", labels=np.unique(true), zero_division=0))
            if len(true)
            else 0.0
        )
        results = OrderedDict(accuracy=accuracy, error_rate=100.0 - accuracy, macro_f1=f1)
        log.info(
            "=> result\n"
            f"* total: {self._total:,}\n"
            f"* correct: {self._correct:,}\n"
            f"* accuracy: {accuracy:.1f}%\n"
            f"* error: {results['error_rate']:.1f}%\n"
            f"* macro_f1: {f1:.1f}%"
        )
        for name, metric in self._metrics.items():
            results[name] = metric.value()
            log.info(f"* {name}: {results[name]:{'.1f' if metric.percent else '.4g'}}")
        if self.cfg.TEST.PER_CLASS_RESULT:
            results["perclass_accuracy"] = self._per_class(true, pred)
        if self.cfg.TEST.COMPUTE_CMAT and is_main():
            path = osp.join(self.cfg.OUTPUT_DIR, record.CONFUSION)
            matrix = confusion_matrix(true, pred, labels=self._labels(), normalize="true")
            torch.save(torch.from_numpy(matrix), path)
            log.info(f"Confusion matrix is saved to {path}")
        return results

    def _labels(self) -> range:
        """Of all classes, those without images included."""
        known = len(self._lab2cname or {})
        return range(max(self._classes, known, max(self._y_true, default=-1) + 1))

    def _per_class(self, true: np.ndarray, pred: np.ndarray) -> float:
        """Mean accuracy over the classes that have images; the others are told, too."""
        log.info("=> per-class result")
        accuracies = []
        for label in self._labels():
            hits = pred[true == label] == label
            name = (self._lab2cname or {}).get(label, "")
            if not len(hits):
                log.info(
                    f"* class: {label} ({name})\ttotal: 0\tcorrect: 0\tacc: none, without images"
                )
                continue
            accuracies.append(100.0 * float(hits.mean()))
            log.info(
                f"* class: {label} ({name})\ttotal: {len(hits):,}\tcorrect: {hits.sum():,}\tacc: "
                f"{accuracies[-1]:.1f}%"
            )
        mean = float(np.mean(accuracies)) if accuracies else 0.0
        log.info(f"* average: {mean:.1f}%")
        return mean


class GroupClassification(Classification):
    """Classification, and what group robustness asks for: a group is a pair of class and domain,
    the spurious attribute.

    Adds to the results worst_group_accuracy (the least over the groups), gap (accuracy minus that),
    and adjusted_accuracy, the group accuracies weighted by the groups' shares of the whole training
    part, if the data set tells them (`train_group_counts` {(label, domain): images}; Sagawa et al.,
    ICLR 2020). `details` holds each group.
    """

    wants_domain = True
    higher_is_better = (
        *Classification.higher_is_better,
        "worst_group_accuracy",
        "adjusted_accuracy",
    )

    _domain_names: tuple[str, ...] = ()
    _train_counts: dict[tuple[int, int], int] = {}

    def use_dataset(self, dataset) -> None:
        """Take names of domains and sizes of groups from the data set, if it has them.

        Raises UserError for a data set whose images are all of one domain: it has no groups.
        """
        parts = (getattr(dataset, part, None) or () for part in ("train_x", "val", "test"))
        domains = {item.domain for part in parts for item in part}
        if len(domains) == 1:
            raise UserError(
                f"TEST.EVALUATOR is {type(self).__name__}, but all images of "
                f"{self.cfg.DATASET.NAME} are of one domain, so there are no groups: set it to "
                "Classification, or choose a data set with groups, such as Waterbirds, or a table "
                "with a column domain"
            )
        self._domain_names = getattr(dataset, "domain_names", ())
        self._train_counts = getattr(dataset, "train_group_counts", {})

    def reset(self) -> None:
        super().reset()
        self._domains: list[int] = []
        self.groups: dict[str, dict] = {}

    def process(
        self, mo: torch.Tensor, gt: torch.Tensor, domain: torch.Tensor | None = None
    ) -> None:
        """domain: (B,).

        Raises UserError without it: a trainer with a test loop of its own does not hand it on.
        """
        if domain is None:
            raise UserError(
                f"TEST.EVALUATOR is {type(self).__name__}, but the test loop of "
                f"{self.cfg.TRAINER.NAME} does not tell the images' domains: set it to "
                "Classification"
            )
        super().process(mo, gt)
        self._domains += domain.tolist()

    def name(self, label: int, domain: int) -> str:
        """ "class, domain" in words where they are known."""
        words = (
            self._domain_names[domain] if domain < len(self._domain_names) else f"domain {domain}"
        )
        known = self._lab2cname or {}
        alike = [other for other, name in known.items() if name == known.get(label)]
        number = f" ({label})" if len(alike) > 1 else ""  # ImageNet has names that repeat
        return f"{known.get(label, label)}{number}, {words}"

    def evaluate(self) -> OrderedDict[str, float]:
        results = super().evaluate()
        total = Counter(zip(self._y_true, self._domains, strict=True))
        correct = Counter(
            group
            for group, hit in zip(
                zip(self._y_true, self._domains, strict=True),
                np.equal(self._y_true, self._y_pred),
                strict=True,
            )
            if hit
        )
        accuracy = {group: 100.0 * correct[group] / total[group] for group in sorted(total)}
        worst = min(accuracy, key=accuracy.get)
        results |= {
            "worst_group_accuracy": accuracy[worst],
            "gap": results["accuracy"] - accuracy[worst],
        }
        log.info(
            f"* worst group: {accuracy[worst]:.1f}% ({self.name(*worst)})\n* gap: "
            f"{results['gap']:.1f}%"
        )
        if self._train_counts and all(group in accuracy for group in self._train_counts):
            shares = sum(self._train_counts.values())
            results["adjusted_accuracy"] = (
                sum(accuracy[group] * count for group, count in self._train_counts.items()) / shares
            )
            log.info(
                f"* adjusted accuracy: {results['adjusted_accuracy']:.1f}% (groups weighted by "
                "their shares of the training part)"
            )
        log.info("=> per-group result")
        for group, value in accuracy.items():
            self.groups[self.name(*group)] = {
                "label": group[0],
                "domain": group[1],
                "total": total[group],
                "correct": correct[group],
                "accuracy": value,
            }
            log.info(
                f"* group: {self.name(*group)}\ttotal: {total[group]:,}\tcorrect: "
                f"{correct[group]:,}\tacc: {value:.1f}%"
            )
        for group in sorted(self._train_counts.keys() - accuracy.keys()):
            log.info(
                f"* group: {self.name(*group)}\ttotal: 0\tcorrect: 0\tacc: none, without images"
            )
        return results

    def details(self) -> dict:
        """What goes into results.json besides single numbers."""
        return {"groups": self.groups}
