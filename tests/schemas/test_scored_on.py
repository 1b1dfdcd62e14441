from schemas.scored_on import ScoredOn


def test_in_words():
    assert str(ScoredOn("cuda-bf16", "NVIDIA L4, torch 2.15.0")) == "cuda-bf16: NVIDIA L4, torch 2.15.0"
    assert str(ScoredOn("cuda-bf16", "NVIDIA L4, torch 2.15.0", one_by_one=True)) == "cuda-bf16: NVIDIA L4, torch 2.15.0"
    assert str(ScoredOn("cpu-float32")) == "cpu-float32"
