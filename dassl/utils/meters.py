"""Running averages of the numbers that training steps report."""

from collections import defaultdict
from collections.abc import Mapping

import torch


class AverageMeter:
    """Last value, sum and mean; with `ema` the mean is an exponential one (0.9 old, 0.1 new)."""

    def __init__(self, ema: bool = False):
        self.ema = ema
        self.reset()

    def reset(self) -> None:
        self.val = self.avg = self.sum = 0.0
        self.count = 0

    def update(self, val, n: int = 1) -> None:
        """Take in a value, a number or a tensor of one, that is the mean of `n`."""
        self.val = val.item() if isinstance(val, torch.Tensor) else val
        first = self.count == 0
        self.sum += self.val * n
        self.count += n
        if first:
            self.avg = self.val
        elif self.ema:
            self.avg = 0.9 * self.avg + 0.1 * self.val
        else:
            self.avg = self.sum / self.count


class MetricMeter:
    """One AverageMeter per name; str() is the text of the log line."""

    def __init__(self, delimiter: str = " "):
        self.meters: dict[str, AverageMeter] = defaultdict(AverageMeter)
        self.delimiter = delimiter

    def update(self, input_dict: Mapping | None) -> None:
        """Take in what a step returned. Raises TypeError if that is no mapping."""
        if input_dict is None:
            return
        if not isinstance(input_dict, Mapping):
            raise TypeError(
                f"forward_backward must return a dict of floats, not {type(input_dict).__name__}"
            )
        for name, value in input_dict.items():
            self.meters[name].update(value)

    def __str__(self) -> str:
        return self.delimiter.join(
            f"{name} {meter.val:.4f} ({meter.avg:.4f})" for name, meter in self.meters.items()
        )
