"""Classification accuracy, in the words that everyone's scripts look for."""

import os.path as osp
from collections import OrderedDict

import numpy as np
import torch
from sklearn.metrics import confusion_matrix, f1_score


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
    """accuracy, error_rate and macro_f1 (over the classes present), in percent."""

    def __init__(self, cfg, lab2cname: dict[int, str] | None = None, **kwargs):
        super().__init__(cfg)
        self._lab2cname = lab2cname
        self.reset()

    def reset(self) -> None:
        self._y_true: list[int] = []
        self._y_pred: list[int] = []
        self._correct = self._total = 0

    def process(self, mo: torch.Tensor, gt: torch.Tensor) -> None:
        """mo: scores (B, classes); gt: labels (B,)."""
        pred, true = mo.argmax(1).tolist(), gt.tolist()
        self._correct += sum(p == t for p, t in zip(pred, true, strict=True))
        self._total += len(true)
        self._y_true += true
        self._y_pred += pred

    def evaluate(self) -> OrderedDict[str, float]:
        """Prints the result and returns it."""
        true, pred = np.array(self._y_true, int), np.array(self._y_pred, int)
        accuracy = 100.0 * self._correct / max(self._total, 1)
        f1 = 100.0 * float(f1_score(true, pred, average="macro", labels=np.unique(true), zero_division=0)) if len(true) else 0.0
        results = OrderedDict(accuracy=accuracy, error_rate=100.0 - accuracy, macro_f1=f1)
        print("=> result\n"
              f"* total: {self._total:,}\n"
              f"* correct: {self._correct:,}\n"
              f"* accuracy: {accuracy:.1f}%\n"
              f"* error: {results['error_rate']:.1f}%\n"
              f"* macro_f1: {f1:.1f}%")
        if self.cfg.TEST.PER_CLASS_RESULT:
            results["perclass_accuracy"] = self._per_class(true, pred)
        if self.cfg.TEST.COMPUTE_CMAT:
            path = osp.join(self.cfg.OUTPUT_DIR, "cmat.pt")
            torch.save(torch.from_numpy(confusion_matrix(true, pred, normalize="true")), path)
            print(f"Confusion matrix is saved to {path}")
        return results

    def _per_class(self, true: np.ndarray, pred: np.ndarray) -> float:
        print("=> per-class result")
        accuracies = []
        for label in np.unique(true):
            hits = pred[true == label] == label
            accuracies.append(100.0 * float(hits.mean()))
            name = (self._lab2cname or {}).get(int(label), "")
            print(f"* class: {label} ({name})\ttotal: {len(hits):,}\tcorrect: {hits.sum():,}\tacc: {accuracies[-1]:.1f}%")
        mean = float(np.mean(accuracies)) if accuracies else 0.0
        print(f"* average: {mean:.1f}%")
        return mean
