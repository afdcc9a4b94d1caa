"""Deterministic kernels, and what the hardware of this machine cannot compute."""

import os
import shutil
import sysconfig
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from pipeline.errors import ParamsError

if TYPE_CHECKING:
    from pipeline.params.schema import Train

# Before this version CUDA graphs of several networks may overwrite what a backward still reads (pytorch#194124).
GRAPHS_SINCE = (2, 15)


def enable_determinism(precision: str = "fp32", *, compiled: bool = False) -> None:
    """Enable deterministic kernels, and TF32 only where it is asked for.

    precision: fp32, tf32 or bf16.  compiled: whether networks are compiled.
    """
    torch.set_deterministic_debug_mode("warn")
    if compiled:  # tells the compiler, too; its import takes seconds
        torch.use_deterministic_algorithms(True, warn_only=True)
    torch.utils.deterministic.fill_uninitialized_memory = False  # pyright: ignore[reportAttributeAccessIssue]
    torch.backends.cudnn.benchmark = False
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = precision == "tf32"


def check_machine(recipe: "Train", *, gpus: int, processes: int = 1) -> None:
    """Raise ParamsError if a machine with so many GPUs, and so many processes on it, cannot do what is asked."""
    if gpus and processes > gpus:
        raise ParamsError(
            f"runtime.num_processes: {processes} processes on this machine require as many GPUs, but it has {gpus}"
        )
    if recipe.precision == "tf32" and not gpus:
        raise ParamsError("train.precision: tf32 requires an NVIDIA GPU, and none was found")
    if recipe.sync_batchnorm and not gpus:
        raise ParamsError("train.sync_batchnorm: true requires GPUs, and none was found")
    if recipe.compile:
        check_compiler(on_gpu=gpus > 0)
    if recipe.precision == "bf16" and not gpus and not torch.cpu._is_avx512_bf16_supported():
        print("warning: train.precision: bf16 is slower than fp32 on this processor, which has no bf16 instructions")


def check_compiler(*, on_gpu: bool) -> None:
    """Raise ParamsError if torch.compile lacks something; it would fail in the first step with a long traceback."""
    if not any(map(shutil.which, (os.environ.get("CXX", "g++"), "g++", "clang++"))):
        raise ParamsError("train.compile: true requires a C++ compiler, and neither g++ nor clang++ was found")
    if on_gpu and not any(map(shutil.which, (os.environ.get("CC", "gcc"), "gcc", "clang", "cc"))):
        raise ParamsError("train.compile: true requires a C compiler on a GPU, and neither gcc nor clang was found")
    headers = Path(sysconfig.get_path("include"))
    if not (headers / "Python.h").is_file():
        raise ParamsError(
            f"train.compile: true requires the headers of Python, and {headers} lacks them (Debian: python3-dev)"
        )
    if on_gpu and tuple(map(int, torch.__version__.split(".")[:2])) < GRAPHS_SINCE:
        wanted = ".".join(map(str, GRAPHS_SINCE))
        raise ParamsError(f"train.compile: true requires PyTorch {wanted} on a GPU, and this is {torch.__version__}")
