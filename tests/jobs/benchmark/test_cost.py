import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.benchmark.cost import CostError, Estimate, Node, Rates, doublings, estimate, line

SECONDS = st.floats(1e-6, 10)
RATES = st.builds(Rates, st.booleans(), SECONDS, SECONDS, SECONDS, SECONDS, SECONDS)


def test_the_same_cores_decode_and_score_on_cpus():
    rates = Rates(on_gpu=False, decode_s=0.010, model_s=0.028, other_s=0.002, finalize_s=0.0001, once_s=20)
    found = estimate(100_000, rates, Node(cpus=8, usd_per_h=0.4), nodes=5)
    # 40 core-milliseconds an image on 40 cores: 100 s, 10 s of finalize, 20 s once
    assert found == Estimate(5, pytest.approx(130), 0.0, pytest.approx(130 / 3600 * 5 * 0.4), "model")


def test_the_slower_of_decoding_and_model_limits_gpus():
    node = Node(cpus=18, gpus=2, usd_per_h=3.6)
    by_decode = estimate(36_000, Rates(True, decode_s=0.030, model_s=0.001, other_s=0.002), node)
    # 16 cores beside the two scorers' own, 32 ms an image: 2 ms an image, where the GPUs need 0.5
    assert by_decode == Estimate(1, pytest.approx(72), pytest.approx(0.04), pytest.approx(0.072), "decode")
    by_model = estimate(36_000, Rates(True, decode_s=0.030, model_s=0.008, other_s=0.002), node, nodes=2)
    assert by_model == Estimate(2, pytest.approx(72), pytest.approx(0.08), pytest.approx(0.144), "model")


def test_what_does_not_scale_becomes_the_limit():
    rates = Rates(False, decode_s=0.01, model_s=0.02, finalize_s=1e-5, once_s=30)
    assert [estimate(1_000_000, rates, Node(16), nodes).limit for nodes in (1, 16, 256)] == ["model", "model", "start"]
    assert estimate(100_000_000, rates, Node(16), 4096).limit == "finalize"
    assert estimate(1, rates, Node(16)).usd is None


@given(RATES, st.integers(0, 10**9), st.integers(1, 100), st.integers(1, 1000))
def test_never_slower_with_more_nodes_and_never_faster_with_more_images(rates, images, cpus, nodes):
    node = Node(cpus + 2, gpus=2, usd_per_h=1.0)
    fewer, more = (estimate(images, rates, node, count) for count in (nodes, nodes + 1))
    assert more.seconds <= fewer.seconds
    assert estimate(images + 1, rates, node, nodes).seconds >= fewer.seconds
    assert more.usd >= more.seconds / 3600 and (fewer.gpu_hours > 0) == rates.on_gpu


def test_gpu_rates_need_nodes_with_gpus():
    for node in (Node(16), Node(1, gpus=1)):
        with pytest.raises(CostError, match="gpus_per_node"):
            estimate(1, Rates(True, 0.01, 0.01), node)


def test_a_line_through_runs():
    assert line([(1000, 3.0), (3000, 5.0)]) == (pytest.approx(2.0), pytest.approx(0.001))
    assert line([(1000, 3.0), (1000, 5.0)]) == (0.0, pytest.approx(0.004))
    assert line([(1000, 5.0), (3000, 3.0)]) == (4.0, 0.0)
    assert line([(1000, 1.0), (2000, 4.0)]) == (0.0, pytest.approx(9e6 / 5e6 / 1000))


def test_doublings_end_with_the_number_itself():
    assert [doublings(most) for most in (1, 2, 5, 8)] == [[1], [1, 2], [1, 2, 4, 5], [1, 2, 4, 8]]
