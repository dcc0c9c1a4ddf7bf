"""CRAFT's alignment losses on features, labels and anchors.

Sun et al., WACV 2025, arXiv 2407.15894.

The losses know nothing of prompts or encoders. Features are unit-norm; `scale` is CLIP's inverse
temperature; all arithmetic is in float32, or in double for double input.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

TARGETS = ("label", "index")
DIRECTIONS = ("both", "image_to_text")


def single(x: Tensor) -> Tensor:
    """Half precision as single precision; any other as it is."""
    return x.float() if x.dtype in (torch.half, torch.bfloat16) else x


def similarity(a: Tensor, b: Tensor, scale: Tensor | float) -> Tensor:
    """scale * <a_i, b_j>, (A, B), of features (A, D) and (B, D).

    In single precision, even under autocast.
    """
    with torch.autocast(a.device.type, enabled=False):
        return scale * single(a) @ single(b).t()


def static_alignment(
    text: Tensor, labels: Tensor, anchors: Tensor, anchor_labels: Tensor, scale: Tensor | float
) -> Tensor:
    """L_static: minus the log of the probability that a text gives to the anchors of its class.

    text (B, D) of samples with labels (B,); anchors (A, D) with class indices anchor_labels (A,).
    Every label has at least one anchor; their probabilities are added. Mean over the batch; with
    one anchor per class this is plain cross entropy.
    """
    log_probability = similarity(text, anchors, scale).log_softmax(1)
    others = labels[:, None] != anchor_labels
    return -log_probability.masked_fill(others, float("-inf")).logsumexp(1).mean()


def stochastic_alignment(
    image: Tensor,
    text: Tensor,
    labels: Tensor,
    scale: Tensor | float,
    targets: str = "label",
    directions: str = "both",
) -> Tensor:
    """L_stochastic: the samples of a batch, image (B, D) and text (B, D), anchor each other.

    labels (B,). targets "label": cross entropy to the uniform distribution over all samples of the
    same class; where their text features coincide this has the gradient of one positive set.
    "index": only the sample itself is positive (the authors' release). directions "both": mean of
    image-to-text and text-to-image. A batch of a single class carries no signal and gives exactly
    0, with zero gradients.
    """
    logits = similarity(image, text, scale)
    if targets == "label":
        same = (labels[:, None] == labels).to(logits.dtype)
        # symmetric, so this serves both directions
        goal = same / same.sum(1, keepdim=True)
    else:
        goal = torch.arange(len(labels), device=labels.device)
    loss = F.cross_entropy(logits, goal)
    if directions == "both":
        loss = (loss + F.cross_entropy(logits.t(), goal)) / 2
    return loss * (labels != labels[0]).any()
