import gc
import threading
import weakref

import pytest
import torch

from pipeline.scoring.device_calls import on_device
from pipeline.scoring.faults import DeviceFault
from pipeline.scoring.watchdog import Watchdog


def raising(*errors):
    """A call that raises these one after another, then answers; and how often it was called."""
    calls = []

    def call():
        calls.append(1)
        if len(calls) <= len(errors):
            raise errors[len(calls) - 1]
        return "done"

    return call, calls


def no_memory():
    return torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")


def test_lack_of_memory_empties_the_cache_and_is_tried_once_more(monkeypatch):
    emptied = []
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: emptied.append(len(calls)))
    call, calls = raising(no_memory())
    assert on_device(call, "cuda", "a batch of 16 images") == "done"
    assert (len(calls), emptied) == (2, [1])


def test_the_first_call_holds_no_memory_at_the_second(monkeypatch):
    held = []

    def call():
        tensor = torch.zeros(4)
        held.append(weakref.ref(tensor))
        if len(held) == 1:
            raise no_memory()
        return held[0]()

    assert on_device(call, "cuda", "a batch") is None


def test_nor_when_the_cache_is_emptied_if_its_error_is_in_a_cycle(monkeypatch):
    """An error that a frame of its own traceback keeps holds that frame's tensors until the collector comes."""
    held, at_emptying = [], []
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: at_emptying.append(held[0]()))

    def call():
        if held:
            return "done"
        tensor = torch.zeros(4)
        held.append(weakref.ref(tensor))
        error = no_memory()
        raise error

    gc.disable()
    try:
        assert on_device(call, "cuda", "a batch") == "done"
    finally:
        gc.enable()
    assert at_emptying == [None]


def test_a_hang_while_memory_is_given_back_is_noticed(monkeypatch):
    """Memory is given back after all that the device has, also other lanes' batches."""
    hung, ended, said = threading.Event(), threading.Event(), []
    monkeypatch.setattr("pipeline.scoring.device_calls.LONG_S", 0.05)
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: ended.wait(60))
    watch = Watchdog(lambda sentence: (said.append(sentence), hung.set(), ended.set()), look_every_s=0.01)
    call, calls = raising(no_memory())
    assert on_device(call, "cuda", "a batch", watch) == "done"
    assert hung.is_set() and "giving back memory after a batch" in said[0]


def test_lack_of_memory_twice_names_batch_device_and_free_memory(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: None)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda: (1 << 29, 80 << 30))
    call, calls = raising(no_memory(), no_memory())
    with pytest.raises(DeviceFault, match="^cuda has too little memory: a batch of 16 images .*0.5 of 80.0 GiB free"):
        on_device(call, "cuda", "a batch of 16 images")
    assert len(calls) == 2


@pytest.mark.parametrize(
    "error",
    [
        torch.AcceleratorError("CUDA error: an illegal memory access was encountered\nCUDA kernel errors might be"),
        RuntimeError("CUDA error: out of memory"),  # pinned memory of the host
        RuntimeError("cuDNN error: CUDNN_STATUS_EXECUTION_FAILED"),
        RuntimeError("CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
        RuntimeError("Triton Error [CUDA]: device kernel image is invalid"),
        RuntimeError("CUDA driver initialization failed, you might not have a CUDA gpu."),
        RuntimeError("CUDA unknown error - this may be due to an incorrectly set up environment"),
        RuntimeError("No CUDA GPUs are available"),
        RuntimeError("Unable to find a valid cuDNN algorithm to run convolution"),
        RuntimeError("cusolver error: CUSOLVER_STATUS_INTERNAL_ERROR, when calling `cusolverDnCreate(handle)`"),
        RuntimeError("cuFFT error: CUFFT_INTERNAL_ERROR"),
        RuntimeError("NVML_SUCCESS == r INTERNAL ASSERT FAILED"),  # what the allocator says of a full MIG slice
    ],
    ids=str,
)
def test_any_other_error_of_a_device_is_its_fault_at_once(error):
    call, calls = raising(error)
    with pytest.raises(DeviceFault, match="^cuda failed at a batch: ") as caught:
        on_device(call, "cuda", "a batch")
    assert len(calls) == 1 and caught.value.__cause__ is error
    assert "\n" not in str(caught.value)


def test_after_lack_of_memory_too():
    call, _ = raising(no_memory(), RuntimeError("CUDA error: unspecified launch failure"))
    with pytest.raises(DeviceFault, match="unspecified launch failure"):
        on_device(call, "cuda", "a batch")


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("shape '[2]' is invalid for input of size 3"),
        RuntimeError("Expected all tensors to be on the same device, but found at least two devices, cuda:0 and cpu!"),
        RuntimeError("Expected a 'cuda' device type for generator but found 'cpu'"),
        RuntimeError("Cannot copy between CPU and CUDA tensors during CUDA graph capture unless the CPU tensor is pinned."),
        ValueError("CUDA"),
        MemoryError(),
    ],
    ids=str,
)
def test_an_error_of_our_own_stays(error):
    call, calls = raising(error)
    with pytest.raises(type(error)) as caught:
        on_device(call, "cuda", "a batch")
    assert caught.value is error and len(calls) == 1
