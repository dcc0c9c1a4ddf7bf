"""CRAFT's maximum mean discrepancy between two image samples.

Sun et al., WACV 2025, arXiv 2407.15894; Gretton et al., JMLR 2012. The kernel is the mean (or the
sum) of Gaussians k(a, b) = exp(-|a - b|^2 / (2 sigma^2)). A bandwidth is a sigma, a length in the
space where samples are compared, so that "median" with multipliers m is "fixed" with the sigmas
m * (median distance). As in `losses`, all arithmetic is in float32, or in double for double input.
"""

from collections.abc import Sequence
from itertools import combinations

import torch
from torch import Tensor

from trainers.craft.losses import single

SPACES = ("anchor", "feature", "probability", "logits")
NORMALISATIONS = ("none", "minmax")
SAMPLES_NEEDED = {"biased": 1, "unbiased": 2}  # on each side
ESTIMATORS = tuple(SAMPLES_NEEDED)
BANDWIDTHS = ("median", "fixed", "variances")
MULTIPLIERS = (0.25, 0.5, 1.0, 2.0, 4.0)
VARIANCES = (10.0, 15.0, 20.0, 50.0)  # of the authors' release
KERNELS = ("mean", "sum")
EPSILON = 1e-8  # of the authors' release, keeps a constant column finite


def relative(image: Tensor, text: Tensor, scale: Tensor | float, space: str = "anchor") -> Tensor:
    """What images are compared through: CRAFT's relative representation, or another space.

    image (B, D) and text (C, D), or (B, C, D) where every image has its own class texts, both
    unit-norm. "anchor": the cosines to the text anchors, (B, C), without `scale`. "feature": the
    image features, (B, D). "logits": scale * cosines, (B, C). "probability": their softmax, (B, C).
    ValueError for any other space.
    """
    _check("space", space, SPACES)
    if space == "feature":
        return image
    with torch.autocast(image.device.type, enabled=False):
        cosines = torch.einsum(
            "bd,cd->bc" if text.dim() == 2 else "bd,bcd->bc", single(image), single(text)
        )
        if space == "anchor":
            return cosines
        return scale * cosines if space == "logits" else (scale * cosines).softmax(1)


def normalised(sample: Tensor, how: str = "none") -> Tensor:
    """A sample (N, C), every column brought to 0..1 over the sample with "minmax".

    As in the authors' release, (x - min) / (max - min + 1e-8), so that a constant column is 0; here
    with gradient 0, not one of 1e8. A sample of one member has constant columns only. ValueError
    for any other way than "none" and "minmax".
    """
    _check("normalise", how, NORMALISATIONS)
    if how == "none":
        return sample
    low, high = sample.amin(0), sample.amax(0)
    spread = high - low
    scaled = (sample - low) / (spread + EPSILON)
    return torch.where(spread > 0, scaled, torch.zeros_like(scaled))


def samples_needed(estimator: str, normalise: str = "none") -> int:
    """Members that each side needs for a value that tells them apart.

    Of one member alone, "minmax" leaves nothing.
    """
    return max(SAMPLES_NEEDED[estimator], 2 if normalise == "minmax" else 1)


def squared_distances(a: Tensor, b: Tensor) -> Tensor:
    """|a_i - b_j|^2, (A, B), of rows (A, C) and (B, C).

    From the differences, which costs A * B * C numbers (65 MB for batches of 128 and 1000 classes):
    |a|^2 + |b|^2 - 2ab loses in float32 just the small distances that MMD is to remove. Here equal
    rows are at exactly 0, with gradient 0.
    """
    return (a[:, None] - b).square().sum(2)


def bandwidths(
    pairs: Tensor,
    bandwidth: str = "median",
    multipliers: Sequence[float] = MULTIPLIERS,
    sigmas: Sequence[float] = (),
    variances: Sequence[float] = VARIANCES,
) -> Tensor:
    """The sigmas (M,) of the Gaussians, without gradient.

    pairs: squared distances (P,) of all pairs in the pooled sample. "median": multipliers times the
    median distance between two different members, Gretton et al.'s heuristic; of an even number of
    pairs, the lower median. If it is 0, because most pairs coincide, the median of the positive
    distances takes its place. "fixed": `sigmas` as given. "variances": the roots of `variances`.
    ValueError for any other bandwidth, and unless the numbers used are positive and at least one.
    """
    _check("bandwidth", bandwidth, BANDWIDTHS)
    name, factors = {
        "median": ("multipliers", multipliers),
        "fixed": ("sigmas", sigmas),
        "variances": ("variances", variances),
    }[bandwidth]
    if not factors or not all(factor > 0 for factor in factors):
        raise ValueError(f"{name} is {list(factors)}: give one or more positive numbers")
    widths = pairs.new_tensor(factors)
    if bandwidth == "variances":
        widths = widths.sqrt()
    elif bandwidth == "median":
        widths = _median(pairs.detach()).sqrt() * widths
    # where all distances are 0, any sigma will do whose inverse square is finite
    return widths.clamp(min=torch.finfo(pairs.dtype).tiny ** 0.25)


def mmd2(
    x: Tensor,
    z: Tensor,
    estimator: str = "biased",
    bandwidth: str = "median",
    multipliers: Sequence[float] = MULTIPLIERS,
    sigmas: Sequence[float] = (),
    variances: Sequence[float] = VARIANCES,
    kernels: str = "mean",
    normalise: str = "none",
) -> Tensor:
    """MMD^2 between samples x (N, C) and z (M, C), a scalar.

    Gradients flow to both samples, not through the median. estimator "biased": the V-statistic,
    never negative, 0 for equal samples; "unbiased": the U-statistic, Gretton et al. eq. 3, which
    leaves out the similarity of a member to itself and may be negative. kernels: the kernel is the
    "mean" or the "sum" of the Gaussians. normalise: as `normalised`, each sample by its members.
    The rest: see `bandwidths`. ValueError for any other option, for an empty sample, and for
    "unbiased" with fewer than two members on a side.
    """
    _check("estimator", estimator, ESTIMATORS)
    _check("kernels", kernels, KERNELS)
    n, m, least = len(x), len(z), SAMPLES_NEEDED[estimator]
    if min(n, m) < least:
        raise ValueError(
            f"samples of {n} and {m} are too small: the {estimator} estimator of MMD needs {least} "
            "or more on each side"
        )
    # single precision is enough under autocast too, which lowers matrix products only
    x, z = (normalised(single(sample), normalise) for sample in (x, z))
    # Three tensors, not blocks of one: vectorised functions may round by position, and equal
    # samples are to cancel exactly.
    xx, zz, xz = squared_distances(x, x), squared_distances(z, z), squared_distances(x, z)
    pairs = torch.cat([_above_diagonal(xx), _above_diagonal(zz), xz.flatten()])
    rate = 0.5 / bandwidths(pairs, bandwidth, multipliers, sigmas, variances) ** 2
    # Sums of 1 - k rather than k: the ones cancel in both estimators, small differences are not
    # rounded away next to them, and the term of a member with itself is 0, so that the estimators
    # differ only in what they divide by.
    xx, zz, xz = (
        -torch.expm1(-squared * rate[:, None, None]).mean(0).sum() for squared in (xx, zz, xz)
    )
    excluded = estimator == "unbiased"
    value = 2 * xz / (n * m) - xx / (n * (n - excluded)) - zz / (m * (m - excluded))
    if kernels == "sum":
        value = len(rate) * value
    # only rounding can make the V-statistic negative
    return value.clamp(min=0) if estimator == "biased" else value


def group_mmd2(
    representation: Tensor, labels: Tensor, domains: Tensor, estimator: str = "biased", **options
) -> Tensor:
    """MMD^2 between the groups of a labelled batch that share a class, a scalar.

    It is the mean over classes of the mean over pairs of domains. representation (B, C), labels
    (B,), domains (B,), the spurious attribute; options as for `mmd2`. Each pair has its own median,
    and each group its own normalisation. Groups smaller than `samples_needed` are left out, and so
    are classes with fewer than two groups left; with no class left the value is 0, with zero
    gradients. ValueError as for `mmd2`, but for small groups.
    """
    _check("estimator", estimator, ESTIMATORS)
    least = samples_needed(estimator, options.get("normalise", "none"))
    values = []
    for label in labels.unique():
        of_class = labels == label
        groups = [
            representation[of_class & (domains == domain)] for domain in domains[of_class].unique()
        ]
        groups = [group for group in groups if len(group) >= least]
        if pairs := [mmd2(a, b, estimator, **options) for a, b in combinations(groups, 2)]:
            values.append(torch.stack(pairs).mean())
    return torch.stack(values).mean() if values else 0 * single(representation).sum()


def _above_diagonal(square: Tensor) -> Tensor:
    rows, columns = square.shape
    return square[tuple(torch.triu_indices(rows, columns, offset=1, device=square.device))]


def _median(squares: Tensor) -> Tensor:
    """The lower median is one of the values, so that its root is the median of the roots."""
    median = squares.median()
    # 0 if there is no positive one
    positive = squares.masked_fill(squares == 0, float("nan")).nanmedian().nan_to_num()
    return torch.where(median > 0, median, positive)


def _check(name: str, value: str, allowed: Sequence[str]) -> None:
    if value not in allowed:
        raise ValueError(f"{name} is '{value}': choose one of {', '.join(allowed)}")
