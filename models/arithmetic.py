"""One arithmetic for all that trains, scores, explains and measures: exact float32 and the same kernels in every run.

A threshold comes from training and is compared with scores, so both must be computed alike. Torch's own settings differ from
that (TF32 in cuDNN is on), and the environment and other code of the process may change them.
"""

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from models.faults import ModelError

log = logging.getLogger(__name__)

# Libraries below torch read these by themselves, some when they are loaded, so no setting of torch overrules them.
# Variable: the values that change nothing.
OUTSIDE = {
    "NVIDIA_TF32_OVERRIDE": ("", "0"),
    "CUBLAS_EMULATE_SINGLE_PRECISION": ("", "0"),
    "CUBLAS_EMULATE_DOUBLE_PRECISION": ("", "0"),
    "CUBLAS_EMULATION_STRATEGY": ("", "default"),
    "PYTORCH_TUNABLEOP_ENABLED": ("", "0"),  # it chooses kernels by their time
    "CUBLASLT_WORKSPACE_SIZE": ("",),  # this and the next three change which kernel multiplies matrices
    "TORCH_CUBLASLT_UNIFIED_WORKSPACE": ("",),
    "DISABLE_ADDMM_CUDA_LT": ("", "0"),
    "TORCH_BLAS_PREFER_CUBLASLT": ("", "0"),
    "TORCH_CUDNN_USE_HEURISTIC_MODE_B": ("", "0"),  # this and the next change which kernel convolves
    "TORCH_CUDNN_V8_API_DISABLED": ("", "0"),
    "ONEDNN_DEFAULT_FPMATH_MODE": ("", "strict"),
    "DNNL_DEFAULT_FPMATH_MODE": ("", "strict"),
}
# cuBLAS gives the same bits on several streams only with a workspace of this kind (cuBLAS manual, "Results reproducibility").
WORKSPACE, WORKSPACE_VALUE = "CUBLAS_WORKSPACE_CONFIG", ":4096:8"


class OutsideArithmetic(ModelError):
    """The environment asks for other arithmetic than that of the models, and nothing in this process can overrule it."""


def check_environment() -> None:
    """Raises OutsideArithmetic if a variable of OUTSIDE would change results.

    >>> check_environment()  # raises nothing: none is set
    """
    found = {name: os.environ.get(name, "") for name in OUTSIDE}
    wrong = [f"{name}={value}" for name, value in found.items() if value.lower() not in OUTSIDE[name]]
    if wrong:
        raise OutsideArithmetic(
            f"environment must not change the arithmetic of models; got {', '.join(wrong)}. Unset it on every machine: scores "
            "would differ from the thresholds that were set without it."
        )


def set_arithmetic() -> None:
    """Set all flags of torch on which results depend, whatever set them before. Other flags stay.

    TORCH_ALLOW_TF32_CUBLAS_OVERRIDE is overruled, and so is CUBLAS_WORKSPACE_CONFIG if cuBLAS has not started.

    Raises:
        OutsideArithmetic: see check_environment.

    >>> import torch
    >>> set_arithmetic()
    >>> torch.backends.cudnn.allow_tf32, torch.get_float32_matmul_precision()
    (False, 'highest')
    """
    import torch  # takes seconds, and the driver of a run, which only checks the environment, does without

    check_environment()
    if os.environ.get(WORKSPACE) != WORKSPACE_VALUE:
        if torch.cuda.is_initialized():
            log.warning("CUDA has started without %s=%s; scores may differ in bits between runs", WORKSPACE, WORKSPACE_VALUE)
        os.environ[WORKSPACE] = WORKSPACE_VALUE
    backends: Any = torch.backends
    backends.cudnn.deterministic, backends.cudnn.benchmark = True, False
    # The newer names come first: each holds for itself, and the older ones refuse to be read while these disagree.
    for part in (
        backends,
        backends.cudnn,
        backends.cudnn.conv,
        backends.cudnn.rnn,
        backends.cuda.matmul,
        backends.mkldnn,
        backends.mkldnn.conv,
        backends.mkldnn.matmul,
        backends.mkldnn.rnn,
    ):
        part.fp32_precision = "ieee"
    torch.set_float32_matmul_precision("highest")
    backends.cuda.matmul.allow_tf32 = backends.cudnn.allow_tf32 = False
    backends.cuda.matmul.allow_fp16_reduced_precision_reduction = False
    backends.cuda.matmul.allow_bf16_reduced_precision_reduction = False
    backends.cuda.matmul.allow_fp16_accumulation = False
    backends.cuda.allow_fp16_bf16_reduction_math_sdp(False)


@contextmanager
def same_sums(wanted: bool) -> Iterator[None]:
    """While it lasts, torch takes algorithms that add in one order, and warns where it has none; if not wanted, its usual ones,
    as scoring does. Without them a GPU adds up the gradient of CS-Flow's interpolation in the order in which its threads come.

    >>> import torch
    >>> with same_sums(True):
    ...     torch.are_deterministic_algorithms_enabled()
    True
    """
    import torch

    deterministic: Any = torch.utils.deterministic
    before = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    filled = deterministic.fill_uninitialized_memory
    torch.use_deterministic_algorithms(wanted, warn_only=True)
    deterministic.fill_uninitialized_memory = False  # it costs a pass over every new tensor and changes no result of ours
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before[0], warn_only=before[1])
        deterministic.fill_uninitialized_memory = filled
