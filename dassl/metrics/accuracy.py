"""Top-k accuracy of a batch."""

from collections.abc import Sequence

import torch


@torch.no_grad()
def compute_accuracy(
    output: torch.Tensor | Sequence[torch.Tensor], target: torch.Tensor, topk: Sequence[int] = (1,)
) -> list[torch.Tensor]:
    """Percentages (tensors of one number) of targets (B,) among the k largest of output (B,
    classes), one per k.

    A k above the number of classes counts as that number; of a tuple of outputs the first is
    judged.
    """
    if isinstance(output, (tuple, list)):
        output = output[0]
    ranked = output.topk(min(max(topk), output.shape[1]), dim=1).indices
    hits = ranked.eq(target.view(-1, 1)).float()
    return [hits[:, :k].sum().mul(100.0 / target.shape[0]).reshape(1) for k in topk]
