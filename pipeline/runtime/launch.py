"""How a training stage starts: threads, processes, deterministic kernels, and the Accelerator."""

import ctypes
import logging
import os
import platform
import signal
import sys
from datetime import timedelta
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.errors import UserError
from pipeline.runtime.signals import Interrupted
from pipeline.runtime.threads import set_threads

if TYPE_CHECKING:
    from accelerate import Accelerator

    from pipeline.params.schema import Runtime, Train

GUARD = "GROUP_DISTILLATION_STAGE"  # process ID of the stage, in the processes it has launched; they launch no more

GPU_DEVICES = ("/dev/nvidiactl", "/dev/dxg", "/dev/kfd")  # of NVIDIA, of Windows' subsystem for Linux, of AMD
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # malloc.h of glibc
PR_SET_PDEATHSIG = 1  # prctl.h of Linux
# packages whose version may change a result: networks, augmentation and decoding, and learners of other kinds
VERSIONS = ("torch", "timm", "accelerate", "numpy", "torchvision", "pillow", "scikit-learn", "skops")


def begin(runtime: "Runtime", stage: str, *arguments: str) -> None:
    """Set the threads. If several processes are asked for, run the stage in those and exit with their status.

    A stage that `accelerate launch` or `torchrun` has started is already one of several processes and goes on.
    """
    set_threads(runtime.threads)
    if GUARD in os.environ:
        end_with_parent()
    if runtime.num_processes == 1 or is_launched():
        return
    sys.exit(relaunch(runtime.num_processes, stage, *arguments))


def is_launched() -> bool:
    """Whether this process is one of several that a stage, `accelerate launch` or `torchrun` has started."""
    return any(name in os.environ for name in (GUARD, "LOCAL_RANK", "WORLD_SIZE"))


def is_main_process() -> bool:
    """Whether this is the only process of its run, or the one of rank 0."""
    return int(os.environ.get("RANK", "0")) == 0


def end_with_parent() -> None:
    """Have the system send SIGTERM when the stage that launched this process is killed (Linux only)."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != int(os.environ[GUARD]):
            sys.exit(Interrupted.exit_code)


def relaunch(processes: int, stage: str, *arguments: str) -> int:
    """Relaunch the stage under torchrun and return its exit status.

    The failing rank prints its own error; torchrun's summary would hide it. Raises UserError if a rank was killed.
    """
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.run import parse_args, run

    os.environ[GUARD] = str(os.getpid())
    logging.disable()  # this process does nothing else
    try:
        run(parse_args(["--standalone", f"--nproc-per-node={processes}", "-m", stage, *arguments]))
    except SignalException:
        return Interrupted.exit_code
    except ChildFailedError as failed:
        rank, code = root_cause({rank: (f.exitcode, f.timestamp) for rank, f in failed.failures.items()})
        if code < 0:
            raise UserError(
                f"process {rank} of {processes} was killed by {signal.Signals(-code).name}: run the same command "
                f"again to resume from the checkpoint"
            ) from None
        return code
    return 0


def root_cause(failures: dict[int, tuple[int, int]]) -> tuple[int, int]:
    """The rank whose failure is the root cause, and its exit status.

    failures: rank -> (exit status, time). When a rank is killed, the others end with an error; when a rank ends with an
    error, torchrun stops the others by SIGTERM.
    """

    def was_asked_to(code: int) -> bool:
        return code in (-signal.SIGTERM, Interrupted.exit_code)

    rank = min(failures, key=lambda k: (was_asked_to(failures[k][0]), failures[k][0] > 0, failures[k][1]))
    return rank, failures[rank][0]


def create_accelerator(threads: int, recipe: "Train") -> "Accelerator":
    """The Accelerator of this process, with deterministic kernels. A rank that is silent for ten minutes ends the run.

    Raises ParamsError if this machine cannot do what the recipe asks for.
    """
    import torch
    from accelerate import Accelerator, InitProcessGroupKwargs

    from pipeline.runtime.determinism import check_machine, enable_determinism

    torch.set_num_threads(threads)
    enable_determinism(recipe.precision, compiled=recipe.compile)
    cuda = torch.cuda.is_available()
    gpus = torch.cuda.device_count() if cuda else 0
    check_machine(recipe, gpus=gpus, processes=int(os.environ.get("LOCAL_WORLD_SIZE", "1")))
    keep_freed_memory()
    return Accelerator(
        cpu=not cuda,
        mixed_precision="bf16" if recipe.precision == "bf16" else "no",
        kwargs_handlers=[InitProcessGroupKwargs(timeout=timedelta(minutes=10))],
    )


def may_have_gpu() -> bool:
    """Whether this machine may have a GPU: False only if it surely has none."""
    return sys.platform != "linux" or any(Path(device).exists() for device in GPU_DEVICES)


def device_name() -> str:
    """The name of the GPU that this process uses, or of the processor.

    PyTorch, whose import takes seconds, is asked only on a machine that may have a GPU.
    """
    if not may_have_gpu():
        return platform.machine()
    import torch

    if not torch.cuda.is_available():
        return platform.machine()
    return torch.cuda.get_device_name(int(os.environ.get("LOCAL_RANK", "0")))


def keep_freed_memory() -> None:
    """Make glibc keep the memory that a step frees. Does nothing with another C library.

    Otherwise some processes return it to the system and request it again in every step, which costs up to a fifth of
    the CPU time.
    """
    if platform.libc_ver()[0] == "glibc" and not any(name.startswith("MALLOC_") for name in os.environ):
        libc = ctypes.CDLL(None)
        libc.mallopt(M_MMAP_THRESHOLD, 32 << 20)  # the maximum that glibc accepts
        libc.mallopt(M_TRIM_THRESHOLD, 512 << 20)


def environment(runtime: "Runtime", recipe: "Train") -> dict[str, Any]:
    """What decides the last bits of a result besides parameters, data and code; recorded beside the cost."""
    launched = int(os.environ.get("WORLD_SIZE", "1"))
    return {
        "world_size": launched if is_launched() else runtime.num_processes,
        "threads": runtime.threads,
        "device": device_name(),
        "precision": recipe.precision,
        "versions": {
            "python": platform.python_version(),
            **{name: version(name) for name in VERSIONS},
        },
    }
