"""CRAFT's maximum mean discrepancy between two image samples (Sun et al., WACV 2025, arXiv 2407.15894; Gretton et al., JMLR 2012).

The kernel is the mean of Gaussians k(a, b) = exp(-|a - b|^2 / (2 sigma^2)). A bandwidth is always a sigma, a length in the space
where samples are compared, so that "median" with multipliers m is "fixed" with the sigmas m * (median distance). As in `losses`,
all arithmetic is in float32 (or double, if that is what comes in).
"""

from collections.abc import Sequence
from itertools import combinations

import torch
from torch import Tensor

from trainers.craft.losses import single

SPACES = ("anchor", "feature", "probability")
SAMPLES_NEEDED = {"biased": 1, "unbiased": 2}  # on each side
ESTIMATORS = tuple(SAMPLES_NEEDED)
BANDWIDTHS = ("median", "fixed")
MULTIPLIERS = (0.25, 0.5, 1.0, 2.0, 4.0)


def relative(image: Tensor, text: Tensor, scale: Tensor | float, space: str = "anchor") -> Tensor:
    """What images are compared through: CRAFT's relative representation, or one of its ablations.

    image (B, D) and text (C, D), or (B, C, D) where every image has class texts of its own, both unit-norm. "anchor": the
    cosines to the text anchors, (B, C), without `scale`. "feature": the image features themselves, (B, D). "probability":
    the class probabilities, softmax of scale * cosines, (B, C). ValueError for any other space.
    """
    _check("space", space, SPACES)
    if space == "feature":
        return image
    with torch.autocast(image.device.type, enabled=False):
        cosines = torch.einsum(
            "bd,cd->bc" if text.dim() == 2 else "bd,bcd->bc", single(image), single(text)
        )
        return cosines if space == "anchor" else (scale * cosines).softmax(1)


def squared_distances(a: Tensor, b: Tensor) -> Tensor:
    """|a_i - b_j|^2, (A, B), of rows (A, C) and (B, C).

    From the differences, which costs A * B * C numbers (65 MB for batches of 128 and 1000 classes): |a|^2 + |b|^2 - 2ab
    loses in float32 just the small distances that MMD is to remove. Here equal rows are at exactly 0, with gradient 0.
    """
    return (a[:, None] - b).square().sum(2)


def bandwidths(
    pairs: Tensor,
    bandwidth: str = "median",
    multipliers: Sequence[float] = MULTIPLIERS,
    sigmas: Sequence[float] = (),
) -> Tensor:
    """The sigmas (M,) of the Gaussians, without gradient, for the squared distances (P,) of all pairs in the pooled sample.

    "median": multipliers times the median distance between two different members of the pooled sample, Gretton et al.'s
    heuristic; of an even number of pairs, the lower median. If it is 0, because most pairs coincide, the median of the positive
    distances takes its place. "fixed": `sigmas` as given. ValueError for any other bandwidth, and unless the
    numbers used are positive and at least one.
    """
    _check("bandwidth", bandwidth, BANDWIDTHS)
    name, factors = ("multipliers", multipliers) if bandwidth == "median" else ("sigmas", sigmas)
    if not factors or not all(factor > 0 for factor in factors):
        raise ValueError(f"{name} is {list(factors)}: give one or more positive numbers")
    unit = _median(pairs.detach()).sqrt() if bandwidth == "median" else 1.0
    floor = (
        torch.finfo(pairs.dtype).tiny ** 0.25
    )  # where all distances are 0, any sigma will do whose inverse square is finite
    return (unit * pairs.new_tensor(factors)).clamp(min=floor)


def mmd2(
    x: Tensor,
    z: Tensor,
    estimator: str = "biased",
    bandwidth: str = "median",
    multipliers: Sequence[float] = MULTIPLIERS,
    sigmas: Sequence[float] = (),
) -> Tensor:
    """MMD^2 between samples x (N, C) and z (M, C), a scalar; gradients flow to both, not through the median.

    "biased": the V-statistic, never negative, 0 for equal samples. "unbiased": the U-statistic, Gretton et al. eq. 3, which
    leaves out the similarity of a member to itself and may be negative. The rest: see `bandwidths`. ValueError for any other
    option, for an empty sample, and for "unbiased" with fewer than two members on a side.
    """
    _check("estimator", estimator, ESTIMATORS)
    n, m, least = len(x), len(z), SAMPLES_NEEDED[estimator]
    if min(n, m) < least:
        raise ValueError(
            f"samples of {n} and {m} are too small: the {estimator} estimator of MMD needs {least} or more on each side"
        )
    x, z = single(x), single(z)  # enough under autocast too, which lowers matrix products only
    # Three tensors, not blocks of one: vectorised functions may round by position, and equal samples are to cancel exactly.
    xx, zz, xz = squared_distances(x, x), squared_distances(z, z), squared_distances(x, z)
    rate = (
        0.5
        / bandwidths(
            torch.cat([_above_diagonal(xx), _above_diagonal(zz), xz.flatten()]),
            bandwidth,
            multipliers,
            sigmas,
        )
        ** 2
    )
    # Sums of 1 - k rather than k: the ones cancel in both estimators, small differences are not rounded away next to
    # them, and the term of a member with itself is 0, so that the estimators differ only in what they divide by.
    xx, zz, xz = (
        -torch.expm1(-squared * rate[:, None, None]).mean(0).sum() for squared in (xx, zz, xz)
    )
    left_out = estimator == "unbiased"
    value = 2 * xz / (n * m) - xx / (n * (n - left_out)) - zz / (m * (m - left_out))
    return (
        value.clamp(min=0) if estimator == "biased" else value
    )  # only rounding can make the V-statistic negative


def group_mmd2(
    representation: Tensor, labels: Tensor, domains: Tensor, estimator: str = "biased", **options
) -> Tensor:
    """MMD^2 between the groups of a labelled batch that share a class, a scalar: the mean over classes of the mean over pairs of domains.

    representation (B, C), labels (B,), domains (B,), the spurious attribute; options as for `mmd2`. Each pair has its own median.
    Groups too small for the estimator are left out, and so are classes with fewer than two groups left; with no class
    left the value is 0, with zero gradients. ValueError as for `mmd2`, but for small groups.
    """
    _check("estimator", estimator, ESTIMATORS)
    values = []
    for label in labels.unique():
        own = labels == label
        groups = [representation[own & (domains == domain)] for domain in domains[own].unique()]
        groups = [group for group in groups if len(group) >= SAMPLES_NEEDED[estimator]]
        if pairs := [mmd2(a, b, estimator, **options) for a, b in combinations(groups, 2)]:
            values.append(torch.stack(pairs).mean())
    return torch.stack(values).mean() if values else 0 * single(representation).sum()


def _above_diagonal(square: Tensor) -> Tensor:
    return square[tuple(torch.triu_indices(*square.shape, 1, device=square.device))]


def _median(squares: Tensor) -> Tensor:
    """The lower median is one of the values, so that its root is the median of the roots."""
    median = squares.median()
    positive = (
        squares.masked_fill(squares == 0, float("nan")).nanmedian().nan_to_num()
    )  # 0 if there is none
    return torch.where(median > 0, median, positive)


def _check(name: str, value: str, allowed: Sequence[str]) -> None:
    if value not in allowed:
        raise ValueError(f"{name} is '{value}': choose one of {', '.join(allowed)}")
