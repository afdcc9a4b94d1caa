"""What decides the last bits of a computation, and what this machine cannot compute."""

import os
import shutil
import sysconfig
from pathlib import Path
from typing import Protocol

import torch

from pipeline.errors import ParamsError

GRAPHS = (2, 15)  # before it CUDA graphs of several networks may overwrite what a backward still reads (pytorch#194124)


class Numerics(Protocol):
    """The keys of params.yaml's `train` that the machine must be able to do."""

    precision: str
    compile: bool
    sync_batchnorm: bool


def settle(precision: str = "fp32") -> None:
    """The same bits every time; sums of products in single precision, where tf32 is not asked for."""
    torch.use_deterministic_algorithms(True, warn_only=True)
    torch.utils.deterministic.fill_uninitialized_memory = False  # pyright: ignore[reportAttributeAccessIssue]
    torch.backends.cudnn.benchmark = False
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = precision == "tf32"


def check(numerics: Numerics, *, gpus: int, processes: int = 1) -> None:
    """Raises ParamsError where a machine with so many GPUs, and so many processes on it, cannot do what is asked."""
    if gpus and processes > gpus:
        raise ParamsError(f"runtime.num_processes: {processes} processes on this machine need as many GPUs, not {gpus}")
    if numerics.precision == "tf32" and not gpus:
        raise ParamsError("train.precision: tf32 is an NVIDIA GPU's, and there is none")
    if numerics.sync_batchnorm and not gpus:
        raise ParamsError("train.sync_batchnorm: PyTorch has it on GPUs only, and there is none")
    if numerics.compile:
        check_compiler(on_gpu=gpus > 0)
    if numerics.precision == "bf16" and not gpus and not torch.cpu._is_avx512_bf16_supported():
        print("warning: train.precision: bf16 is slower than fp32 on this processor, which has no units for it")


def check_compiler(*, on_gpu: bool) -> None:
    """Raises ParamsError where torch.compile lacks what it needs: it would say so at length, in the first step."""
    if not any(map(shutil.which, (os.environ.get("CXX", "g++"), "g++", "clang++"))):
        raise ParamsError("train.compile: needs a C++ compiler, and neither g++ nor clang++ is there")
    if on_gpu and not any(map(shutil.which, (os.environ.get("CC", "gcc"), "gcc", "clang", "cc"))):
        raise ParamsError("train.compile: on a GPU needs a C compiler, and neither gcc nor clang is there")
    headers = Path(sysconfig.get_path("include"))
    if not (headers / "Python.h").is_file():
        raise ParamsError(f"train.compile: needs Python's headers, and {headers} lacks them (Debian: python3-dev)")
    if on_gpu and tuple(map(int, torch.__version__.split(".")[:2])) < GRAPHS:
        wanted = ".".join(map(str, GRAPHS))
        raise ParamsError(f"train.compile: on a GPU needs PyTorch {wanted}, and this is {torch.__version__}")
