"""The drift benchmark's nights, on generated quantities: what it reports is what the chart said."""

import docs_script
import numpy as np
import pytest


@pytest.fixture(scope="module")
def benchmark():
    return docs_script.load("benchmarks/verdicts/drift.py")


@pytest.fixture(scope="module")
def quantities(benchmark):
    """600 pictures; a change of light moves brightness and contrast by its share, a blur halves edges, others lie far off."""
    rng = np.random.default_rng(0)
    plain = np.log([100.0, 20.0, 50.0, 1e5, 1.0, 1.0]) * [1, 1, 1, 1, 0, 0] + 0.1 * rng.normal(size=(600, 6))
    moved = {
        **{f"light {-share} %": np.log1p(-share / 100) * np.array([1, 1, 2, 0, 0, 0]) for share in (5, 10, 15, 20)},
        **{f"blur {name} px": np.array([0, -0.05, -1, 0, 0, 0]) for name in ("0.5", "1")},
        **{name: np.array([0, 0, 0, 0, 0, 1.0]) for name in benchmark.OTHERS},
    }
    return {name: benchmark.Quantities(plain + away) for name, away in (("plain", 0.0), *moved.items())}


def test_unchanged_nights_are_over_in_about_3_percent(benchmark, quantities):
    over, error, raw = benchmark.false_alarms(quantities, 200, 20, references=100)
    assert 0.0 < error < 0.02 and abs(over - 0.03) < 3.5 * error + 0.01
    assert raw > over  # raw counts are too skewed


def test_power_and_sources(benchmark, quantities):
    found = benchmark.power(quantities, 200, 20, references=20)
    assert set(found) == set(benchmark.CHANGES) | {
        f"{share} % {name}" for name in benchmark.OTHERS for share in benchmark.SHARES
    }
    assert found["light -20 %"] == found["blur 1 px"] == (1.0, 1.0, 1.0)
    assert found["10 % turned"].alarms == 1.0 and found["10 % turned"].named > 0.9


def test_a_mix_holds_its_share_of_the_other_product(benchmark, quantities):
    night = benchmark.Nights(quantities, 4000, seed=0).draw(mixed="turned", share=0.1)
    assert np.mean(night.embedding > 0.5) == pytest.approx(0.1, abs=0.02)


def test_few_unchanged_months_are_suspended(benchmark, quantities):
    two, sums = benchmark.suspensions(quantities, 200, 20, references=40)
    assert two <= 0.3 and sums <= 0.3  # computed: 4.6 % by the sums; two nights over in a row are about as rare
