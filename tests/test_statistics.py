"""Statistics against numbers by hand, slow loops, other libraries and simulations."""

import itertools
import math
import statistics as plain

import numpy as np
import pytest
from scipy import stats

from tools import statistics
from tools.statistics import Part, hierarchical, holm, part, power, t_test, units_needed


def harmonic(pairs):
    return 2 * pairs[..., 0] * pairs[..., 1] / (pairs[..., 0] + pairs[..., 1])


def first(pairs):
    return pairs[..., 0]


@pytest.fixture(autouse=True)
def _fewer_replicates(monkeypatch):
    """Simulations make hundreds of intervals."""
    monkeypatch.setattr(statistics, "REPLICATES", 2000)
    statistics._cluster_draws.cache_clear()
    yield
    statistics._cluster_draws.cache_clear()


# Student's t


def test_an_interval_by_hand():
    """Gains 1, 2, 3: mean 2, standard error 1 / sqrt(3), t of two degrees of freedom 4.3027."""
    error = statistics.standard_error([1.0, 2.0, 3.0])
    assert error == pytest.approx(0.57735, abs=1e-5)
    low, high, p = t_test(2.0, error, 3)
    assert (low, high) == (pytest.approx(-0.48414, abs=1e-4), pytest.approx(4.48414, abs=1e-4))
    # With two degrees of freedom p = 1 - t / sqrt(2 + t²), t = 2 sqrt(3).
    assert p == pytest.approx(1 - math.sqrt(12) / math.sqrt(14))


@pytest.mark.parametrize("count", [2, 5, 30])
def test_p_and_interval_are_those_of_scipy(count):
    gains = np.random.default_rng(count).normal(1, 2, count)
    theirs = stats.ttest_1samp(gains, 0)
    interval = theirs.confidence_interval(0.95)
    ours = t_test(gains.mean(), statistics.standard_error(gains), count)
    assert ours == pytest.approx((interval.low, interval.high, theirs.pvalue))


def test_what_has_no_spread():
    assert t_test(2.0, 0.0, 3) == (2.0, 2.0, 1.0)  # not p 0: nothing tells the spread
    for call in (lambda: t_test(1.0, 1.0, 1), lambda: power(1.0, 1)):
        with pytest.raises(ValueError, match="1 unit.* no spread: give two or more"):
            call()


@pytest.mark.parametrize("images", [350, 589, 1319])
def test_equal_gains_of_seeds_are_equal_whatever_rounding_makes_of_them(images):
    """Three images more with every seed; floating-point differences of 1e-14 are no spread."""
    for seeds in ([201, 207, 215], [180, 240, 300], [199, 211, 305]):
        gains = [100.0 * (right + 3) / images - 100.0 * right / images for right in seeds]
        mean, error = float(np.mean(gains)), statistics.standard_error(gains)
        assert t_test(mean, error, 3) == (mean, mean, 1.0)
        assert power(float(np.std(gains, ddof=1)), 3) == 1.0


def test_two_standard_errors_of_three_seeds_are_18_percent_by_chance():
    assert t_test(2.0, 1.0, 3).p == pytest.approx(0.1835, abs=1e-4)
    gains = np.random.default_rng(0).normal(size=(20_000, 3))
    errors = gains.std(1, ddof=1) / 3**0.5
    assert (abs(gains.mean(1)) > 2 * errors).mean() == pytest.approx(0.1835, abs=0.01)


def test_intervals_of_seeds_hold_the_truth_in_95_of_100_cases():
    random, held = np.random.default_rng(1), 0
    for gains in random.normal(1.5, 2.2, (2000, 3)):
        low, high, _ = t_test(gains.mean(), statistics.standard_error(gains), 3)
        held += low <= 1.5 <= high
    assert held / 2000 == pytest.approx(0.95, abs=0.015)


def test_the_jackknife_of_a_mean_is_its_standard_error():
    values = np.random.default_rng(2).normal(size=9)
    ours = statistics.jackknife_error(lambda units: float(units.mean()), values)
    assert ours == pytest.approx(statistics.standard_error(list(values)))


def test_the_jackknife_of_a_harmonic_mean_is_near_the_truth():
    random = np.random.default_rng(3)
    drawn = random.normal((70, 60), (5, 8), (4000, 8, 2))
    truth = harmonic(drawn.mean(1)).std()
    errors = [
        statistics.jackknife_error(lambda units: float(harmonic(units.mean(0))), units)
        for units in drawn[:300]
    ]
    assert plain.mean(errors) == pytest.approx(truth, rel=0.05)


# Holm


def test_holm_by_hand():
    # Sorted: 0.01 * 4, 0.02 * 3, 0.03 * 2, 0.04 * 1; the last two may not be below 0.06.
    assert holm([0.03, 0.01, 0.04, 0.02]) == pytest.approx([0.06, 0.04, 0.06, 0.06])
    assert holm([0.5, 0.6]) == [1.0, 1.0] and holm([]) == [] and holm([0.2]) == [0.2]


def test_holm_is_the_step_down_procedure():
    """Reject the smallest while it is below the level over the number of those left."""
    random = np.random.default_rng(4)
    for _ in range(200):
        values = list(random.random(6) ** 3)
        left, rejected = sorted(range(6), key=lambda i: values[i]), set()
        while left and values[left[0]] <= 0.05 / len(left):
            rejected.add(left.pop(0))
        assert {i for i, p in enumerate(holm(values)) if p <= 0.05} == rejected


def test_holm_keeps_false_verdicts_of_a_table_at_5_percent():
    gains = np.random.default_rng(5).normal(size=(20_000, 12, 3))  # 12 comparisons, no effect
    p = 2 * stats.t.sf(abs(gains.mean(2)) / (gains.std(2, ddof=1) / 3**0.5), 2)
    corrected = np.mean([min(holm(list(table))) <= 0.05 for table in p])
    assert corrected <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / 20_000)
    assert (p.min(1) <= 0.05).mean() > 0.4  # without a correction


# Power


def test_power_is_that_of_scipy_and_of_a_simulation():
    for units, deviation, effect in itertools.product((2, 3, 10, 40), (0.7, 2.2), (0.5, 1.5)):
        shift, bound = effect * units**0.5 / deviation, stats.t.ppf(0.975, units - 1)
        theirs = stats.nct.sf(bound, units - 1, shift)
        if not np.isnan(other := stats.nct.cdf(-bound, units - 1, shift)):  # near 0
            theirs += other
        assert power(deviation, units, effect) == pytest.approx(theirs, abs=1e-4)
    gains = np.random.default_rng(6).normal(1.5, 2.2, (20_000, 10))
    seen = (stats.ttest_1samp(gains, 0, axis=1).pvalue <= 0.05).mean()
    assert power(2.2, 10) == pytest.approx(seen, abs=0.01)
    assert power(2.2, 10, 0.0) == pytest.approx(0.05, abs=1e-4)
    assert power(0.0, 3) == 1.0 and power(1e-9, 3) == 1.0
    assert power(0.1, 4000) == 1.0


def test_the_audit_s_numbers():
    """Standard deviation 2.2 to 2.3: about 20 seeds for +1.5; three have 7 to 23%."""
    assert units_needed(2.2) in (19, 20) and units_needed(2.3) in (20, 21)
    assert 0.07 < power(2.25, 3) < 0.23


@pytest.mark.parametrize("deviation", [0.0, 0.3, 1.0, 2.25, 7.0])
def test_no_fewer_units_are_enough(deviation):
    count = units_needed(deviation)
    assert power(deviation, count) >= 0.8
    assert count == 2 or power(deviation, count - 1) < 0.8


def test_of_too_many_units_no_number_is_told():
    assert units_needed(2.0, 1e-6) is None


# The hierarchical bootstrap


def drawn_part(random, seeds: int, images: int, gain: float, flips: float = 0.1) -> Part:
    """Two methods of which `flips` of the images differ, half of these in all seeds."""
    always, theirs, ours = random.random(images), [], []
    kept = random.random(images) < 0.5
    for _ in range(seeds):
        dice = np.where(kept, always, random.random(images))
        up = (flips + gain / 100) / 2
        right = random.random(images) < 0.7
        won, lost = dice < up, dice > 1 - (flips - up)
        ours.append((right | won) & ~lost)
        theirs.append((right | lost) & ~won)
    return part(ours, theirs, np.arange(images))


def test_sums_over_clusters_by_hand():
    ours, theirs = [np.array([1, 1, 0, 1, 0]) > 0], [np.array([0, 1, 1, 1, 0]) > 0]
    found = part(ours, theirs, np.array(["b", "a", "b", "a", "c"]))
    assert found.ours.tolist() == [[2, 1, 0]] and found.theirs.tolist() == [[2, 1, 0]]
    assert found.images.tolist() == [2, 2, 1]
    assert found.accuracies.tolist() == [[60.0, 60.0]]


def test_many_clusters_are_pooled_and_the_spread_stays(monkeypatch):
    random = np.random.default_rng(7)
    whole = drawn_part(random, 4, 1000, 2.0)
    monkeypatch.setattr(statistics, "MOST_CLUSTERS", 200)
    correct = [[sums[seed] > 0 for seed in range(4)] for sums in (whole.ours, whole.theirs)]
    pooled = part(*correct, np.arange(1000))
    assert pooled.images.sum() == 1000 and len(pooled.images) == 200
    assert pooled.accuracies.tolist() == whole.accuracies.tolist()
    wide = [
        high - low for low, high in (hierarchical([[x]], first, False) for x in (whole, pooled))
    ]
    assert wide[1] == pytest.approx(wide[0], rel=0.15)


def slow(data_sets, combine, over, same_runs, images=True, shrink=1.0, slope=None) -> np.ndarray:
    """Gains of a bootstrap of image by image loops; images: whether clusters are drawn, too.

    shrink: of the data sets' distances from their mean. slope: derivatives of the gain by the means
    (M, 2), in whose place they stand.
    """
    random, gains = np.random.default_rng(11), []
    count, seeds = len(data_sets), len(data_sets[0][0].ours)
    centres = [[one.accuracies.mean(0) for one in parts] for parts in data_sets]
    for _ in range(700):
        chosen = random.integers(count, size=count) if over else range(count)
        shared, means = random.integers(seeds, size=seeds), []
        for number in chosen:
            drawn = shared if same_runs else random.integers(seeds, size=seeds)
            row = []
            for one in data_sets[number]:
                clusters = np.arange(len(one.images))
                if images:
                    clusters = random.choice(clusters, len(clusters))
                total = one.images[clusters].sum()
                row.append(
                    [
                        100 * np.mean([sums[seed][clusters].sum() / total for seed in drawn])
                        for sums in (one.ours, one.theirs)
                    ]
                )
            moved = np.mean(centres, 0) - np.array(centres[number])
            means.append(np.array(row) + (1 - shrink) * moved)
        mean = np.mean(means, 0)
        if slope is None:
            gains.append(float(combine(mean[:, 0]) - combine(mean[:, 1])))
        else:
            gains.append(float((mean * slope).sum()))
    return np.array(gains)


def gain_of(data_sets, combine) -> float:
    means = np.array([[one.accuracies.mean(0) for one in parts] for parts in data_sets]).mean(0)
    return float(combine(means[:, 0]) - combine(means[:, 1]))


def widened(gains, gain: float, factor: float) -> tuple[float, float]:
    low, high = np.quantile(gains, (0.025, 0.975))
    return gain + factor * (low - gain), gain + factor * (high - gain)


def two_parts(gains, seeds: int = 4) -> list[list[Part]]:
    random = np.random.default_rng(8)
    return [[drawn_part(random, seeds, count, gain) for count in (30, 20)] for gain in gains]


@pytest.mark.parametrize("same_runs", [False, True])
def test_an_interval_for_these_data_sets_is_that_of_slow_loops(same_runs):
    """The seeds' share of the variance is widened by 4/3 and has its degrees of freedom."""
    data_sets = two_parts((0, 3, 6))
    gains = slow(data_sets, harmonic, False, same_runs)
    seeds = slow(data_sets, harmonic, False, same_runs, images=False).var()
    rest = gains.var() - seeds
    variance, freedom = 4 / 3 * seeds + rest, 3 if same_runs else 9
    freedom *= (variance / (4 / 3 * seeds)) ** 2
    factor = stats.t.ppf(0.975, freedom) / stats.norm.ppf(0.975) * (variance / gains.var()) ** 0.5
    theirs = widened(gains, gain_of(data_sets, harmonic), factor)
    ours = hierarchical(data_sets, harmonic, False, same_runs)
    assert ours == pytest.approx(theirs, abs=0.12 * (theirs[1] - theirs[0]))


@pytest.mark.parametrize(("same_runs", "gains"), [(False, (-20, 0, 9, 30)), (True, (0, 9, 30))])
def test_an_interval_over_data_sets_is_that_of_slow_loops(same_runs, gains):
    """Data sets are drawn after their scatter has lost what seeds and images make of it."""
    data_sets, within = two_parts(gains), []
    centres = np.array([[one.accuracies.mean(0) for one in parts] for parts in data_sets])
    base, new = centres.mean(0)  # (2,) each: ours and theirs
    # H = 2bn / (b + n) grows by 2n² / (b + n)² with b, and by 2b² / (b + n)² with n.
    slope = np.array([2 * new**2, 2 * base**2]) / (base + new) ** 2 * [1, -1]
    for parts in data_sets:
        if same_runs:  # what seeds do, they do to all data sets
            means = [
                Part(one.ours.mean(0)[None], one.theirs.mean(0)[None], one.images) for one in parts
            ]
            within.append(slow([means], harmonic, False, False, slope=slope).var())
        else:
            within.append(slow([parts], harmonic, False, False, slope=slope).var())
    between = np.var((centres * slope).sum((1, 2)), ddof=1)
    shrink = math.sqrt(1 - np.mean(within) / between)
    assert 0.3 < shrink < 0.99
    drawn = slow(data_sets, harmonic, True, same_runs, shrink=shrink)
    count = len(data_sets)
    factor = stats.t.ppf(0.975, count - 1) / stats.norm.ppf(0.975) * math.sqrt(count / (count - 1))
    theirs = widened(drawn, gain_of(data_sets, harmonic), factor)
    ours = hierarchical(data_sets, harmonic, True, same_runs)
    assert ours == pytest.approx(theirs, abs=0.12 * (theirs[1] - theirs[0]))


def test_an_interval_is_always_the_same_and_of_one_sign_when_methods_change_places():
    random = np.random.default_rng(9)
    data_sets = [[drawn_part(random, 3, 50, 2.0)] for _ in range(5)]
    other_way = [[Part(one.theirs, one.ours, one.images)] for (one,) in data_sets]
    low, high = hierarchical(data_sets, first, True)
    assert hierarchical(data_sets, first, True) == (low, high)
    assert hierarchical(other_way, first, True) == pytest.approx((-high, -low))
    same = [[Part(one.ours, one.ours, one.images)] for (one,) in data_sets]
    assert hierarchical(same, first, True) == (0.0, 0.0)


def test_pictures_of_one_thing_make_an_interval_wider():
    random = np.random.default_rng(10)
    one = drawn_part(random, 6, 50, 2.0)
    eight = np.repeat(np.arange(50), 8)
    correct = [[sums[seed][eight] > 0 for seed in range(6)] for sums in (one.ours, one.theirs)]
    clustered, alone = (part(*correct, cluster) for cluster in (eight, np.arange(400)))
    wide = [
        high - low for low, high in (hierarchical([[x]], first, False) for x in (clustered, alone))
    ]
    assert wide[0] > 1.3 * wide[1]
    assert hierarchical([[clustered]], first, False) == hierarchical([[one]], first, False)


@pytest.mark.parametrize(("over", "seeds"), [(True, 4), (False, 1)])
def test_one_unit_alone_is_refused(over, seeds):
    data_sets = [[drawn_part(np.random.default_rng(0), seeds, 20, 0)]]
    with pytest.raises(ValueError, match="one data set or seed alone has no spread"):
        hierarchical(data_sets, first, over)


@pytest.mark.parametrize(
    ("data_sets", "seeds", "between", "over", "same_runs"),
    [
        (8, 3, 2.0, True, False),
        (3, 3, 0.0, False, True),
    ],
)
def test_bootstrap_intervals_hold_the_truth_in_about_95_of_100_cases(
    data_sets, seeds, between, over, same_runs
):
    random, held, count = np.random.default_rng(12), 0, 80
    for _ in range(count):
        gains = random.normal(2.0, between, data_sets)
        drawn = [[drawn_part(random, seeds, 200, gain)] for gain in gains]
        low, high = hierarchical(drawn, first, over, same_runs)
        held += low <= 2.0 <= high
    assert held / count > 0.95 - 2 * math.sqrt(0.05 * 0.95 / count)


def test_a_bootstrap_over_data_sets_is_about_as_wide_as_student_s_t():
    """Where data sets differ in truth; seeds and images count once."""
    random, wide = np.random.default_rng(13), []
    for _ in range(25):
        drawn = [[drawn_part(random, 4, 200, gain)] for gain in random.normal(2.0, 5.0, 8)]
        gains = [gain_of([parts], first) for parts in drawn]
        low, high, _ = t_test(np.mean(gains), statistics.standard_error(gains), 8)
        ours = hierarchical(drawn, first, True)
        wide.append((ours[1] - ours[0]) / (high - low))
    assert np.mean(wide) == pytest.approx(1.0, abs=0.06)


def test_the_interval_of_h_is_as_wide_as_what_data_sets_add_to_it_scatters():
    """Base and new gains that cancel in each data set's own H do not cancel in H of the means."""
    random, wide = np.random.default_rng(14), []

    def sums(percent, images):
        return np.tile((np.arange(images) < images * percent / 100).astype(float), (3, 1))

    for _ in range(10):
        drawn = []
        for base, new in random.uniform(30, 80, (8, 2)):
            # H stays as it is: the base gain times its slope is minus the new one's.
            more = random.normal(0, 3)
            less = -more * (new / base) ** 2
            drawn.append(
                [
                    Part(sums(ours, 2000), sums(theirs, 2000), np.ones(2000))
                    for ours, theirs in ((base + more, base), (new + less, new))
                ]
            )
        means = np.array([[one.accuracies.mean(0) for one in parts] for parts in drawn])

        def gain(units):
            ours, theirs = np.moveaxis(units.mean(0), -1, 0)
            return float(harmonic(ours) - harmonic(theirs))

        low, high, _ = t_test(gain(means), statistics.jackknife_error(gain, means), 8)
        ours = hierarchical(drawn, harmonic, True)
        wide.append((ours[1] - ours[0]) / (high - low))
    assert 0.75 < np.mean(wide) < 1.15  # by the scatter of each data set's own H it is 0.46
