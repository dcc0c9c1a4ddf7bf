"""CRAFT's MMD against slow loops over pairs, closed forms for Gaussians, and degenerate samples."""

import itertools
import math
import statistics

import pytest
import torch
import torch.nn.functional as F
from tiny_clip import named_tensor

from trainers.craft.mmd import (
    BANDWIDTHS,
    ESTIMATORS,
    MULTIPLIERS,
    SPACES,
    bandwidths,
    group_mmd2,
    mmd2,
    relative,
)

SCALE = 7.0
SIGMAS = (0.3, 1.5)
OPTIONS = [(estimator, bandwidth) for estimator in ESTIMATORS for bandwidth in BANDWIDTHS]


def normal(name, *shape):
    return named_tensor(name, shape).double()


def unit(name, *shape):
    return F.normalize(normal(name, *shape), dim=-1)


def distance(a, b):
    return math.sqrt(sum((p - q) ** 2 for p, q in zip(a, b, strict=True)))


def slow_sigmas(x, z, multipliers=MULTIPLIERS):
    median = statistics.median_low(
        [distance(a, b) for a, b in itertools.combinations([*x.tolist(), *z.tolist()], 2)]
    )
    return [factor * median for factor in multipliers]


def slow_mmd2(x, z, estimator, bandwidth, multipliers=MULTIPLIERS, sigmas=SIGMAS):
    widths = {
        "median": lambda: slow_sigmas(x, z, multipliers),
        "fixed": lambda: sigmas,
        "variances": lambda: [math.sqrt(a) for a in (10, 15, 20, 50)],
    }[bandwidth]()
    x, z = x.tolist(), z.tolist()

    def kernel(a, b):
        return sum(math.exp(-(distance(a, b) ** 2) / (2 * sigma**2)) for sigma in widths) / len(
            widths
        )

    def within(sample):
        values = [
            kernel(a, b)
            for i, a in enumerate(sample)
            for j, b in enumerate(sample)
            if estimator == "biased" or i != j
        ]
        return sum(values) / len(values)

    return within(x) + within(z) - 2 * sum(kernel(a, b) for a in x for b in z) / (len(x) * len(z))


def slow_relative(image, text, scale, space):
    if space == "feature":
        return image
    rows = []
    for i, row in enumerate(image.tolist()):
        anchors = text.tolist() if text.dim() == 2 else text[i].tolist()
        cosines = [sum(p * q for p, q in zip(row, anchor, strict=True)) for anchor in anchors]
        weights = [math.exp(scale * cosine) for cosine in cosines]
        rows.append(
            {
                "anchor": cosines,
                "logits": [scale * cosine for cosine in cosines],
                "probability": [weight / sum(weights) for weight in weights],
            }[space]
        )
    return torch.tensor(rows, dtype=torch.double)


def slow_group_mmd2(representation, labels, domains, estimator, bandwidth):
    least, values = (1 if estimator == "biased" else 2), []
    for label in sorted(set(labels)):
        groups = {}
        for i, row in enumerate(representation.tolist()):
            if labels[i] == label:
                groups.setdefault(domains[i], []).append(row)
        large = [torch.tensor(group) for group in groups.values() if len(group) >= least]
        pairs = [slow_mmd2(a, b, estimator, bandwidth) for a, b in itertools.combinations(large, 2)]
        if pairs:
            values.append(sum(pairs) / len(pairs))
    return sum(values) / len(values)


def expected_kernel(mean, variance, sigma):
    """E exp(-d^2 / (2 sigma^2)) over d of N(mean, variance): the integral of a product of two
    Gaussians.
    """
    return (
        sigma / math.sqrt(sigma**2 + variance) * math.exp(-(mean**2) / (2 * (sigma**2 + variance)))
    )


def draws(count, n, m, shift=0.0, s=1.0, t=1.0, width=1, **options):
    """MMD^2 of `count` pairs of samples of N(0, s^2) and N(shift, t^2): the mean and its standard
    error.
    """
    generator = torch.Generator().manual_seed(0)
    values = torch.stack(
        [
            mmd2(
                s * torch.randn(n, width, generator=generator),
                shift + t * torch.randn(m, width, generator=generator),
                **options,
            )
            for _ in range(count)
        ]
    ).double()
    return values.mean().item(), values.std().item() / math.sqrt(count)


def gradients(value, *inputs):
    return torch.autograd.grad(value, inputs)


# Values


def test_by_hand():
    """Points 0 and 1 against 3, sigma 1: the V-statistic has (2 + 2 e^-1/2) / 4, 1, and the mean of
    e^-9/2 and e^-2.
    """
    x, z = torch.tensor([[0.0], [1.0]]), torch.tensor([[3.0]])
    expected = (1 + math.exp(-0.5)) / 2 + 1 - (math.exp(-4.5) + math.exp(-2))
    assert mmd2(x, z, "biased", "fixed", sigmas=[1.0]).item() == pytest.approx(expected)
    pair = torch.tensor([[3.0], [3.0]])
    expected = math.exp(-0.5) + 1 - (math.exp(-4.5) + math.exp(-2))
    assert mmd2(x, pair, "unbiased", "fixed", sigmas=[1.0]).item() == pytest.approx(expected)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("space", SPACES)
@pytest.mark.parametrize("sizes", [(5, 3), (3, 4), (2, 2)])  # an even and two odd numbers of pairs
@pytest.mark.parametrize(("estimator", "bandwidth"), OPTIONS)
def test_equals_the_slow_loop(estimator, bandwidth, sizes, space, dtype):
    text = unit("classes", 4, 8)
    samples = [unit(f"sample {i}", size, 8) for i, size in enumerate(sizes)]
    x, z = (relative(sample.to(dtype), text.to(dtype), SCALE, space) for sample in samples)
    slow_x, slow_z = (slow_relative(sample, text, SCALE, space) for sample in samples)
    value = mmd2(x, z, estimator, bandwidth, sigmas=SIGMAS)
    assert value.dtype == dtype and value.shape == ()
    assert value.item() == pytest.approx(
        slow_mmd2(slow_x, slow_z, estimator, bandwidth),
        abs=1e-6 if dtype == torch.float32 else 1e-12,
    )


@pytest.mark.parametrize("space", SPACES)
def test_relative_equals_the_slow_loop(space):
    image = unit("image", 3, 8)
    for text in (unit("classes", 4, 8), unit("classes", 3, 4, 8)):
        assert torch.allclose(
            relative(image, text, SCALE, space), slow_relative(image, text, SCALE, space)
        )


def test_the_default_space_is_anchors_and_ignores_the_scale():
    image, text = unit("image", 3, 8), unit("classes", 4, 8)
    assert torch.equal(relative(image, text, 1.0), relative(image, text, 100.0, "anchor"))


def test_the_multipliers_scale_the_median_distance():
    assert MULTIPLIERS == (0.25, 0.5, 1, 2, 4)  # the specification's
    x, z = normal("x", 4, 3), normal("z", 3, 3)
    pairs = torch.pdist(torch.cat([x, z])) ** 2
    sigmas = bandwidths(pairs, multipliers=[0.5, 3.0])
    assert sigmas.tolist() == pytest.approx(slow_sigmas(x, z, [0.5, 3.0]))
    assert mmd2(x, z, multipliers=[0.5, 3.0]).item() == pytest.approx(
        slow_mmd2(x, z, "biased", "median", [0.5, 3.0])
    )
    assert mmd2(10 * x, 10 * z).item() == pytest.approx(
        mmd2(x, z).item()
    )  # the median follows the scale of the data


def test_pairs_that_coincide_count_in_the_median():
    """Points 0, 0, 0 and 1, 3 have the distances 0, 0, 0, 1, 1, 1, 2, 3, 3, 3, of lower median 1;
    the positive ones alone have 2.
    """
    x, z = torch.zeros(3, 1), torch.tensor([[1.0], [3.0]])
    assert mmd2(x, z).item() == pytest.approx(
        mmd2(x, z, bandwidth="fixed", sigmas=MULTIPLIERS).item()
    )


# Statistics


@pytest.mark.parametrize(("shift", "t"), [(1.0, 1.0), (0.0, 2.0), (2.0, 0.5)])
def test_closed_form_for_two_gaussians(shift, t):
    """Both estimators, in expectation; the biased one exceeds the truth by the terms of members
    with themselves.
    """
    n, m, sigmas = (
        30,
        20,
        (0.5, 2.0),
    )  # small enough for one thread: two would wait for each other on a busy machine
    own_x, own_z, across = (
        statistics.mean(expected_kernel(mean, variance, sigma) for sigma in sigmas)
        for mean, variance in ((0, 2), (0, 2 * t**2), (shift, 1 + t**2))
    )
    truth = own_x + own_z - 2 * across
    for estimator, expected in (
        ("unbiased", truth),
        ("biased", truth + (1 - own_x) / n + (1 - own_z) / m),
    ):
        mean, error = draws(
            1000, n, m, shift, 1.0, t, estimator=estimator, bandwidth="fixed", sigmas=sigmas
        )
        assert error < 0.05 * expected and abs(mean - expected) < 4 * error


@pytest.mark.parametrize("options", [{"bandwidth": "fixed", "sigmas": [0.7]}, {}])
def test_without_a_shift_only_the_unbiased_mean_is_zero(options):
    """Exactly so with the median too, which is the same for every way to deal a pooled sample out
    to two sides.
    """
    for n, m in ((8, 5), (6, 6), (2, 9)):
        mean, error = draws(400, n, m, width=3, estimator="unbiased", **options)
        assert abs(mean) < 4 * error
    mean, error = draws(400, 6, 6, width=3, estimator="biased", **options)
    assert mean > 20 * error


@pytest.mark.parametrize(("estimator", "bandwidth"), OPTIONS)
def test_grows_with_the_shift(estimator, bandwidth):
    x, z, direction = normal("x", 12, 4), normal("z", 9, 4), unit("direction", 4)
    values = [
        mmd2(x, z + shift * direction, estimator, bandwidth, sigmas=[2.0]).item()
        for shift in (0, 1, 2, 4, 8)
    ]
    assert values == sorted(values) and values[1] > 0 and values[-1] > 5 * values[1]


@pytest.mark.parametrize("bandwidth", BANDWIDTHS)
def test_the_biased_estimator_is_never_negative(bandwidth):
    for i in range(50):
        x = named_tensor(f"sample {i}", (6, 3))
        z = x.flip(0) + 1e-7 * named_tensor(f"noise {i}", (6, 3))
        assert 0 <= mmd2(x, z, "biased", bandwidth, sigmas=SIGMAS).item() < 1e-6


# Invariances


@pytest.mark.parametrize(("estimator", "bandwidth"), OPTIONS)
def test_neither_the_order_of_members_nor_of_samples_matters(estimator, bandwidth):
    x, z = normal("x", 5, 4), normal("z", 3, 4)
    value = mmd2(x, z, estimator, bandwidth, sigmas=SIGMAS)
    assert torch.allclose(
        value, mmd2(x[[3, 0, 4, 1, 2]], z[[2, 0, 1]], estimator, bandwidth, sigmas=SIGMAS)
    )
    assert torch.allclose(value, mmd2(z, x, estimator, bandwidth, sigmas=SIGMAS))


# Gradients


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_gradients_are_those_of_the_values(estimator):
    """The median counts as a constant, so with it the gradient is that of its value given as
    sigmas.
    """
    x, z = normal("x", 5, 3).requires_grad_(), normal("z", 4, 3).requires_grad_()
    assert torch.autograd.gradcheck(
        lambda x, z: mmd2(x, z, estimator, "fixed", sigmas=SIGMAS), (x, z)
    )
    sigmas = slow_sigmas(x, z)
    assert torch.autograd.gradcheck(
        lambda x, z: mmd2(x, z, estimator, "fixed", sigmas=sigmas), (x, z)
    )
    ours, theirs = mmd2(x, z, estimator, "median"), mmd2(x, z, estimator, "fixed", sigmas=sigmas)
    for own, other in zip(gradients(ours, x, z), gradients(theirs, x, z), strict=True):
        assert own.abs().max() > 1e-3 and torch.allclose(own, other)


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_gradients_where_members_coincide(estimator):
    """Half of z lies on members of x, where a distance has no derivative but its square has."""
    x, z = (
        normal("x", 4, 3).requires_grad_(),
        torch.cat([normal("x", 4, 3)[:2], normal("z", 2, 3)]).requires_grad_(),
    )
    assert torch.autograd.gradcheck(
        lambda x, z: mmd2(x, z, estimator, "fixed", sigmas=SIGMAS), (x, z)
    )


@pytest.mark.parametrize("space", SPACES[::2])
def test_gradients_reach_images_and_anchors(space):
    image, text = unit("image", 5, 6).requires_grad_(), unit("classes", 3, 6).requires_grad_()

    def value(image, text):
        representation = relative(image, text, SCALE, space)
        return mmd2(representation[:3], representation[3:], "biased", "fixed", sigmas=SIGMAS)

    assert torch.autograd.gradcheck(value, (image, text))
    assert all(
        gradient.abs().max() > 1e-3 for gradient in gradients(value(image, text), image, text)
    )


def test_descent_brings_samples_together():
    x, z = normal("x", 8, 3), (normal("z", 6, 3) + 2).requires_grad_()
    optimizer, start = torch.optim.SGD([z], lr=10.0), mmd2(x, z).item()
    for _ in range(60):
        optimizer.zero_grad()
        mmd2(x, z).backward()
        optimizer.step()
    assert mmd2(x, z).item() < start / 4


# Precision


def test_close_points_far_from_the_origin_are_told_apart():
    """|a|^2 + |b|^2 - 2ab would be rounding noise here."""
    x, z = (10 + 1e-3 * named_tensor(name, (6, 4)) for name in ("x", "z"))
    assert mmd2(x, z).item() == pytest.approx(slow_mmd2(x, z, "biased", "median"), rel=1e-4)


def test_a_kernel_wider_than_the_data_keeps_its_precision():
    """MMD^2 is 1e-6 of the kernel's values, which a float32 sum of them would lose in its last
    digits.
    """
    x, z = named_tensor("x", (6, 4)), 1 + named_tensor("z", (5, 4))
    for estimator in ESTIMATORS:
        value = mmd2(x, z, estimator, "fixed", sigmas=[1e3]).item()
        assert (
            value == pytest.approx(slow_mmd2(x, z, estimator, "fixed", sigmas=[1e3]), rel=1e-4)
            and value < 1e-5
        )


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.half])
@pytest.mark.parametrize("space", SPACES)
def test_half_precision_features_are_compared_in_float32(space, dtype):
    image, text = (
        unit("image", 6, 8).to(dtype).requires_grad_(),
        unit("classes", 4, 8).to(dtype).requires_grad_(),
    )
    exact = slow_relative(image.detach().double(), text.detach().double(), SCALE, space)
    with torch.autocast("cpu", torch.bfloat16):
        representation = relative(image, text, SCALE, space)
        value = mmd2(representation[:4], representation[4:])
        groups = group_mmd2(representation, torch.zeros(6), torch.tensor([0, 0, 0, 0, 1, 1]))
        none = group_mmd2(representation, torch.zeros(6), torch.zeros(6))
    assert {value.dtype, groups.dtype, none.dtype} == {torch.float32}
    assert (
        value.item()
        == groups.item()
        == pytest.approx(slow_mmd2(exact[:4], exact[4:], "biased", "median"), rel=1e-4)
    )
    (value + none).backward()
    assert image.grad.isfinite().all() and image.grad.count_nonzero()


# Degenerate samples


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize(("estimator", "bandwidth"), OPTIONS)
def test_one_point_repeated_gives_zero(estimator, bandwidth, dtype):
    x, z = (unit("point", 1, 8).to(dtype).repeat(size, 1).requires_grad_() for size in (4, 3))
    value = mmd2(x, z, estimator, bandwidth, sigmas=SIGMAS)
    value.backward()
    assert (
        value.item() == 0 and x.grad.count_nonzero() == z.grad.count_nonzero() == 0
    )  # and hence not NaN


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("bandwidth", BANDWIDTHS)
@pytest.mark.parametrize("size", [1, 2, 7])
def test_equal_samples_give_exactly_zero(size, bandwidth, dtype):
    x, z = (unit("sample", size, 8).to(dtype).requires_grad_() for _ in range(2))
    value = mmd2(x, z, "biased", bandwidth, sigmas=SIGMAS)
    value.backward()
    assert value.item() == 0
    assert x.grad.abs().max() < 1e-2 and z.grad.abs().max() < 1e-2  # a minimum; fails for NaN too
    if size > 1:  # a member's similarity to itself is missing within samples but not between them
        assert mmd2(x, z, "unbiased", bandwidth, sigmas=SIGMAS).item() < 0


def test_single_samples_by_hand():
    """Their distance is the median, whatever it is: 2 - 2 mean exp(-1 / (2 m^2))."""
    expected = 2 - 2 * sum(math.exp(-0.5 / m**2) for m in MULTIPLIERS) / len(MULTIPLIERS)
    for apart in (1e-5, 1.0, 1e4):
        x, z = (
            torch.zeros(1, 2, requires_grad=True),
            torch.tensor([[0.0, apart]], requires_grad=True),
        )
        value = mmd2(x, z)
        value.backward()
        assert (
            value.item() == pytest.approx(expected)
            and x.grad.isfinite().all()
            and z.grad.isfinite().all()
        )


def test_a_median_of_zero_gives_way_to_the_positive_distances():
    """Five copies of a point against another at distance 3: 10 of 15 pairs coincide; a sigma of 0
    would give the value 2.
    """
    x, z = torch.zeros(5, 2, requires_grad=True), torch.tensor([[0.0, 3.0]], requires_grad=True)
    value = mmd2(x, z, multipliers=[1.0])
    value.backward()
    assert value.item() == pytest.approx(2 - 2 * math.exp(-0.5))
    assert z.grad[0, 1] == pytest.approx(2 * math.exp(-0.5) / 3)


def test_samples_too_small_for_the_estimator():
    one, two = torch.zeros(1, 3), torch.zeros(2, 3)
    for x, z in ((one, two), (two, one)):
        with pytest.raises(
            ValueError, match="the unbiased estimator of MMD needs 2 or more on each side"
        ):
            mmd2(x, z, "unbiased")
        assert mmd2(x, z, "biased").item() == 0
    with pytest.raises(
        ValueError,
        match="samples of 0 and 2 are too small: the biased estimator of MMD needs 1 or more",
    ):
        mmd2(one[:0], two)


def test_bad_options():
    x = torch.eye(2)
    for call in (
        lambda: relative(x, x, 1.0, "logit"),
        lambda: mmd2(x, x, "logit"),
        lambda: mmd2(x, x, "biased", "logit"),
        lambda: group_mmd2(x, torch.arange(2), torch.arange(2), "logit"),
    ):
        with pytest.raises(ValueError, match="is 'logit': choose one of"):
            call()
    for sigmas in ((), (1.0, 0.0), (-1.0,), (math.nan,)):
        with pytest.raises(ValueError, match="sigmas is .*: give one or more positive numbers"):
            mmd2(x, x, bandwidth="fixed", sigmas=sigmas)
        with pytest.raises(
            ValueError, match="multipliers is .*: give one or more positive numbers"
        ):
            mmd2(x, x, multipliers=sigmas)


# Groups

#  class 0: groups of 3 and 2; 1: of 2, 1 and 2; 2: of one domain; 3: of 1 and 2
LABELS = [0, 1, 2, 0, 1, 0, 3, 1, 0, 2, 1, 0, 3, 1, 3]
DOMAINS = [5, 0, 5, 0, 2, 5, 2, 5, 0, 5, 2, 5, 0, 0, 2]


@pytest.mark.parametrize(("estimator", "bandwidth"), OPTIONS)
def test_groups_equal_the_slow_loop(estimator, bandwidth):
    representation = normal("representation", len(LABELS), 4)
    value = group_mmd2(
        representation,
        torch.tensor(LABELS),
        torch.tensor(DOMAINS),
        estimator,
        bandwidth=bandwidth,
        sigmas=SIGMAS,
    )
    assert value.item() == pytest.approx(
        slow_group_mmd2(representation, LABELS, DOMAINS, estimator, bandwidth), rel=1e-5
    )


def test_two_groups_of_one_class_are_two_samples():
    representation, domains = normal("representation", 5, 4), torch.tensor([0, 1, 1, 0, 1])
    value = group_mmd2(representation, torch.full((5,), 3), domains)
    assert torch.equal(value, mmd2(representation[[0, 3]], representation[[1, 2, 4]]))


def test_the_order_of_a_labelled_batch_does_not_matter():
    representation, labels, domains = (
        normal("representation", len(LABELS), 4),
        torch.tensor(LABELS),
        torch.tensor(DOMAINS),
    )
    order = torch.randperm(len(LABELS), generator=torch.Generator().manual_seed(0))
    assert torch.allclose(
        *(
            group_mmd2(representation[o], labels[o], domains[o])
            for o in (torch.arange(len(LABELS)), order)
        )
    )


def test_group_gradients_are_those_of_the_values():
    labels, domains = torch.tensor(LABELS), torch.tensor(DOMAINS)
    for estimator in ESTIMATORS:
        assert torch.autograd.gradcheck(
            lambda r, kind=estimator: group_mmd2(
                r, labels, domains, kind, bandwidth="fixed", sigmas=SIGMAS
            ),
            normal("representation", len(LABELS), 4).requires_grad_(),
        )


@pytest.mark.parametrize(
    ("labels", "domains", "estimator"),
    [
        ([1, 1, 1, 1], [2, 2, 2, 2], "biased"),  # one class, one domain
        ([0, 0, 1, 2], [2, 2, 2, 2], "biased"),  # one domain
        ([0, 0, 1, 1], [0, 0, 1, 1], "biased"),  # domain and class are one
        ([0, 0, 0, 1], [0, 0, 1, 1], "unbiased"),  # a pair of groups, one of them too small
        ([], [], "biased"),
    ],
)
def test_a_batch_without_a_pair_of_groups_gives_zero(labels, domains, estimator):
    representation = normal("representation", 4, 3)[: len(labels)].float().requires_grad_()
    value = group_mmd2(representation, torch.tensor(labels), torch.tensor(domains), estimator)
    value.backward()
    assert value.item() == 0 and value.shape == () and representation.grad.count_nonzero() == 0


# The authors' release: facts of its code, in a loop


RELEASED = {"bandwidth": "variances", "kernels": "sum", "normalise": "minmax"}


def released_mmd(x, z):
    """Columns min-max normalised over each sample; the sum over a of exp(-d^2 / 2a); biased."""

    def normalised(sample):
        columns = []
        for column in zip(*sample.tolist(), strict=True):
            low, high = min(column), max(column)
            columns.append([(value - low) / (high - low + 1e-8) for value in column])
        return list(zip(*columns, strict=True))

    def mean(one, other):
        values = [
            sum(math.exp(-(distance(a, b) ** 2) / (2 * width)) for width in (10, 15, 20, 50))
            for a in one
            for b in other
        ]
        return sum(values) / len(values)

    x, z = normalised(x), normalised(z)
    return mean(x, x) + mean(z, z) - 2 * mean(x, z)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("sizes", [(4, 4), (5, 3), (1, 6), (2, 2)])
def test_the_released_discrepancy_equals_the_slow_loop(sizes, dtype):
    image, other, text = unit("a", sizes[0], 6), unit("b", sizes[1], 6), unit("t", 9, 6)
    x, z = (
        relative(sample.to(dtype), text.to(dtype), SCALE, "logits") for sample in (image, other)
    )
    slow = released_mmd(slow_relative(image, text, SCALE, "logits"), z.double())
    assert mmd2(x, z, **RELEASED).item() == pytest.approx(slow, rel=1e-4, abs=1e-6)
    assert mmd2(z, x, **RELEASED).item() == pytest.approx(slow, rel=1e-4, abs=1e-6)
    assert slow > 0.01 or sizes == (2, 2)


def test_the_release_sums_and_normalises():
    """Each option alone: the sum is four means, and columns' scale and offset do not matter."""
    x, z = normal("a", 5, 3), normal("b", 4, 3)
    mean, total = (
        mmd2(x, z, bandwidth="variances", kernels=kernels) for kernels in ("mean", "sum")
    )
    assert total.item() == pytest.approx(4 * mean.item(), rel=1e-9)
    factors, offsets = torch.tensor([2.0, 30.0, 0.5]).double(), torch.tensor([1.0, -9.0, 4.0])
    plain, changed = (mmd2(sample, z, **RELEASED) for sample in (x, x * factors + offsets))
    assert changed.item() == pytest.approx(plain.item(), rel=1e-6)
    assert mmd2(x, z, normalise="minmax").item() != pytest.approx(mmd2(x, z).item(), rel=0.01)


def test_gradients_of_the_released_discrepancy_are_those_of_its_values():
    image, other, text = (
        unit(name, rows, 5).requires_grad_() for name, rows in (("a", 4), ("b", 3), ("t", 6))
    )

    def value(image, other, text):
        x, z = (relative(sample, text, SCALE, "logits") for sample in (image, other))
        return mmd2(x, z, **RELEASED)

    assert torch.autograd.gradcheck(value, (image, other, text))
    assert all(part.abs().max() > 1e-4 for part in gradients(value(image, other, text), text))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(
    "rows",
    [
        ([[3.0, 3.0]], [[3.0, 3.0]]),
        ([[1.0, 2.0]] * 3, [[1.0, 2.0]] * 2),
        ([[1.0, 5.0]], [[7.0, 2.0]]),
    ],
)
def test_released_batches_without_any_spread_give_zero(rows, dtype):
    """A constant column is 0 after the normalisation, wherever it was."""
    x, z = (torch.tensor(sample, dtype=dtype, requires_grad=True) for sample in rows)
    value = mmd2(x, z, **RELEASED)
    assert value.item() == 0
    assert all(part.isfinite().all() for part in gradients(value, x, z))


def test_a_column_without_spread_has_no_gradient():
    x = torch.tensor([[1.0, 2.0], [1.0, 3.0], [1.0, 5.0]], requires_grad=True)
    z = torch.tensor([[0.0, 1.0], [4.0, 2.0], [5.0, 9.0]])
    (gradient,) = gradients(mmd2(x, z, **RELEASED), x)
    assert gradient[:, 0].abs().max() == 0 < gradient[:, 1].abs().max() < 10


def test_released_groups_of_one_are_left_out():
    representation, options = normal("r", 5, 3), {"bandwidth": "variances", "normalise": "minmax"}
    labels, domains = torch.zeros(5, dtype=torch.long), torch.tensor([0, 0, 1, 1, 2])
    expected = mmd2(representation[:2], representation[2:4], **options)
    assert group_mmd2(representation, labels, domains, **options).item() == expected.item()


def test_released_groups_are_compared_as_samples_of_their_own():
    representation = normal("r", 7, 3)
    labels, domains = torch.zeros(7, dtype=torch.long), torch.tensor([0, 1, 0, 1, 0, 1, 1])
    slow = released_mmd(representation[domains == 0], representation[domains == 1])
    assert group_mmd2(representation, labels, domains, **RELEASED).item() == pytest.approx(slow)


def test_unknown_ways_to_normalise_and_add_kernels():
    x = normal("a", 3, 2)
    with pytest.raises(ValueError, match="normalise is 'zscore': choose one of none, minmax"):
        mmd2(x, x, normalise="zscore")
    with pytest.raises(ValueError, match="kernels is 'max': choose one of mean, sum"):
        mmd2(x, x, kernels="max")
    with pytest.raises(ValueError, match=r"variances is \[0.0\]: give one or more positive"):
        mmd2(x, x, bandwidth="variances", variances=[0.0])
