import pytest

from jobs.benchmark.hardware import cores, described, hardware_name


@pytest.mark.parametrize(
    ("model", "name"),
    [
        ("AMD EPYC", "amd-epyc"),
        ("Intel(R) Xeon(R) CPU E5-2680 v4 @ 2.40GHz", "intel-xeon-e5-2680-v4"),
        ("AMD EPYC 7B13 64-Core Processor", "amd-epyc-7b13-64-core"),
    ],
)
def test_a_file_name_from_the_processors_model(tmp_path, model, name):
    (tmp_path / "cpuinfo").write_text(f"processor\t: 0\nmodel\t\t: 17\nmodel name\t: {model}\nflags\t: fpu\n\nprocessor\t: 1\n")
    assert hardware_name("cpu", tmp_path / "cpuinfo") == f"{name}-{cores()}-cores"


def test_without_a_list_of_processors_nothing_is_claimed(tmp_path):
    assert hardware_name("cpu", tmp_path / "none").endswith(f"-{cores()}-cores")
    assert described("cpu", tmp_path / "none") == "this CPU"


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ("fpu avx512_bf16 amx_bf16", "AVX512-bf16, AMX"),
        ("fpu avx512_bf16", "AVX512-bf16, no AMX"),
        ("fpu avx2", "no AVX512-bf16, no AMX"),
    ],
)
def test_what_bf16_depends_on(tmp_path, flags, words):
    (tmp_path / "cpuinfo").write_text(f"model name\t: x\nflags\t\t: {flags}\n")
    assert described("cpu", tmp_path / "cpuinfo") == f"this CPU ({words})"
