from types import SimpleNamespace

import pytest
import torch

from models.faults import NoSuchDevice
from pipeline.scoring import device
from pipeline.scoring.device import bf16_is_native, check_given, hardware, resolve_device, take_share, why_no_gpu
from pipeline.scoring.faults import WrongDevice

OLD_DRIVER = "The NVIDIA driver on your system is too old (found version 11040). Please update your GPU driver by ..."


@pytest.fixture
def gpu(monkeypatch):
    """Lets torch find a GPU, or say why not."""

    def find(says=None):
        def init():
            raise RuntimeError(says)

        monkeypatch.setattr(torch.cuda, "is_available", lambda: says is None)
        monkeypatch.setattr(torch.cuda, "init", init)

    return find


@pytest.mark.parametrize("name", ["tpu", "gpu", "mps", "cuda:0", "cuda:1", "cuda:x", "cpu:0", "", "CUDA"])
def test_what_is_no_device_is_refused_even_where_there_are_gpus(gpu, name):
    gpu()
    with pytest.raises(NoSuchDevice, match=f"device must be auto, cpu or cuda; got '{name}'"):
        resolve_device(name)


def test_auto_is_a_gpu_where_torch_finds_one(gpu):
    gpu()
    assert [resolve_device(name) for name in ("auto", "cpu", "cuda")] == ["cuda", "cpu", "cuda"]
    gpu(OLD_DRIVER)
    assert [resolve_device(name) for name in ("auto", "cpu")] == ["cpu", "cpu"]
    with pytest.raises(
        NoSuchDevice, match="auto or cpu on this machine; got 'cuda', and torch says: The NVIDIA driver .* too old"
    ):
        resolve_device("cuda")


def test_the_reason_is_one_sentence_of_torch(gpu):
    gpu(OLD_DRIVER)
    assert why_no_gpu() == "The NVIDIA driver on your system is too old (found version 11040)"
    gpu("CUDA error: no device\nCompile with TORCH_USE_CUDA_DSA")
    assert why_no_gpu() == "CUDA error: no device"


def test_a_scorer_that_was_told_cuda_refuses_where_torch_finds_none(gpu, monkeypatch):
    gpu(OLD_DRIVER)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3")
    with pytest.raises(WrongDevice) as refused:
        check_given("cuda", ["3"], "node n7 (10.0.0.7)")
    says = str(refused.value)
    for part in (
        "node n7 (10.0.0.7)",
        "Ray gave it GPU 3",
        "CUDA_VISIBLE_DEVICES is '3'",
        "too old (found version 11040)",
        "--device cpu",
    ):
        assert part in says, part
    assert "\n" not in says
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    with pytest.raises(WrongDevice, match="Ray gave it no GPU, CUDA_VISIBLE_DEVICES is not set"):
        check_given("cuda", [], "node n7")


def test_a_scorer_that_was_told_cpu_looks_for_no_gpu_and_holds_none(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: pytest.fail("looked"))
    check_given("cpu", [], "node n7")
    with pytest.raises(WrongDevice, match="node n7 must hold no GPU; .* CPU, and Ray gave it GPU 0, 1"):
        check_given("cpu", ["0", "1"], "node n7")


def test_a_scorer_that_was_told_cuda_and_finds_it_goes_on(gpu):
    gpu()
    check_given("cuda", ["0"], "node n7")


def test_a_share_limits_the_memory(monkeypatch):
    taken = []
    monkeypatch.setattr(torch.cuda, "set_per_process_memory_fraction", taken.append)
    take_share(1.0)
    take_share(0.25)
    assert taken == [0.25]


@pytest.mark.parametrize(("major", "native"), [(7, False), (8, True), (9, True)])
def test_a_t4_only_emulates_bf16(monkeypatch, major, native):
    """torch 2.15 says of a T4 (7.5) that it supports bf16, unless it is asked for the real thing."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: SimpleNamespace(major=major))
    monkeypatch.setattr(torch.cuda, "_check_bf16_tensor_supported", lambda device: True)
    assert torch.cuda.is_bf16_supported() and bf16_is_native("cuda") == native


def test_a_gpu_in_words(monkeypatch):
    h100 = SimpleNamespace(name="NVIDIA H100 80GB HBM3 MIG 1g.10gb", multi_processor_count=16)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: h100)
    monkeypatch.setattr(torch, "__version__", "2.15.0+cu132")
    monkeypatch.setattr(torch.backends.cudnn, "version", lambda: 92600)
    monkeypatch.setattr(device, "version", {"triton": "3.9.0"}.__getitem__)
    chip, libraries = "NVIDIA H100 80GB HBM3 MIG 1g.10gb, 16 multiprocessors", "torch 2.15.0+cu132, cuDNN 9.26.0, Triton 3.9.0"
    assert hardware("cuda") == f"{chip}, {libraries}"
    monkeypatch.setattr(torch.backends.cudnn, "version", lambda: None)
    assert hardware("cuda").endswith("cuDNN none, Triton 3.9.0")


def test_a_cpu_in_words(monkeypatch):
    monkeypatch.setattr(torch, "__version__", "2.15.0+cpu")
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX512")
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": True, "amx_bf16": True, "avx2": True})
    assert hardware("cpu") == "CPU with AVX512, bf16, AMX, torch 2.15.0+cpu"
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": False})
    assert hardware("cpu") == "CPU with AVX512, torch 2.15.0+cpu"


def test_names_of_capabilities_are_those_of_this_torch():
    assert (
        set(device.BF16_OF_CPUS) <= set(torch.cpu.get_capabilities())
        or torch.cpu.get_capabilities()["architecture"] != "x86_64"
    )
