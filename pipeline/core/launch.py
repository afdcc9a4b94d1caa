"""How a stage begins to compute: threads before torch is imported, processes, determinism, the device."""

import ctypes
import logging
import os
import platform
import signal
import sys
from datetime import timedelta
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from pipeline.core.interrupt import Interrupted
from pipeline.errors import UserError

if TYPE_CHECKING:
    from accelerate import Accelerator

    from pipeline.core.numerics import Numerics

GUARD = "GROUP_DISTILLATION_STAGE"  # the process of the stage, in those that it starts: they start no more

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # of glibc's malloc.h
PR_SET_PDEATHSIG = 1  # of Linux's prctl.h


def settle_threads(threads: int) -> None:
    """Fix the number of OpenMP threads, and let waiting ones sleep. Before torch is imported."""
    os.environ["OMP_NUM_THREADS"] = str(threads)
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")


def begin(runtime: Any, stage: str, *arguments: str) -> None:
    """Settle threads; where several processes are asked for, run the stage as those and exit as they do.

    A stage that `accelerate launch` or `torchrun` has started already is one of several and goes on.
    """
    settle_threads(runtime.threads)
    if GUARD in os.environ:
        end_with_parent()
    started = GUARD in os.environ or "LOCAL_RANK" in os.environ or "WORLD_SIZE" in os.environ
    if runtime.num_processes == 1 or started:
        return
    sys.exit(share(runtime.num_processes, stage, *arguments))


def end_with_parent() -> None:
    """Be told by SIGTERM when the stage that started this process is killed, where the system can (Linux)."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != int(os.environ[GUARD]):
            sys.exit(Interrupted.exit_code)


def share(processes: int, stage: str, *arguments: str) -> int:
    """Run a stage as so many processes under torchrun; its exit status. The process in which something goes wrong says
    what: torchrun's own account of it would bury that. Raises UserError if one was killed.
    """
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.run import parse_args, run

    os.environ[GUARD] = str(os.getpid())
    logging.disable()  # in this process, which does nothing else
    try:
        run(parse_args(["--standalone", f"--nproc-per-node={processes}", "-m", stage, *arguments]))
    except SignalException:
        return Interrupted.exit_code
    except ChildFailedError as failed:
        rank, code = told_by({rank: (f.exitcode, f.timestamp) for rank, f in failed.failures.items()})
        if code < 0:
            raise UserError(
                f"process {rank} of {processes} was killed by {signal.Signals(-code).name}: run the same command "
                f"again to go on from the checkpoint"
            ) from None
        return code
    return 0


def told_by(failures: dict[int, tuple[int, int]]) -> tuple[int, int]:
    """The rank that tells most, and its exit status: (status, time) of each. Where one is killed the others end by an
    error, and where one ends by an error torchrun asks the others, by SIGTERM, to stop.
    """

    def asked_to(code: int) -> bool:
        return code in (-signal.SIGTERM, Interrupted.exit_code)

    rank = min(failures, key=lambda k: (asked_to(failures[k][0]), failures[k][0] > 0, failures[k][1]))
    return rank, failures[rank][0]


def accelerate(threads: int, numerics: "Numerics") -> "Accelerator":
    """The Accelerator of this process, deterministic; a rank that does not answer for ten minutes ends the run.

    Raises ParamsError where this machine cannot do what is asked.
    """
    import torch
    from accelerate import Accelerator, InitProcessGroupKwargs

    from pipeline.core.numerics import check, settle

    torch.set_num_threads(threads)
    settle(numerics.precision)
    cuda = torch.cuda.is_available()
    gpus = torch.cuda.device_count() if cuda else 0
    check(numerics, gpus=gpus, processes=int(os.environ.get("LOCAL_WORLD_SIZE", "1")))
    keep_memory()
    return Accelerator(
        cpu=not cuda,
        mixed_precision="bf16" if numerics.precision == "bf16" else "no",
        kwargs_handlers=[InitProcessGroupKwargs(timeout=timedelta(minutes=10))],
    )


def keep_memory() -> None:
    """Have glibc keep what a step frees: in some processes it returns it to the system and asks again in every step,
    which costs up to a fifth of a CPU's time. Nothing where the C library is another.
    """
    if platform.libc_ver()[0] == "glibc" and not any(name.startswith("MALLOC_") for name in os.environ):
        libc = ctypes.CDLL(None)
        libc.mallopt(M_MMAP_THRESHOLD, 32 << 20)  # the most that glibc takes
        libc.mallopt(M_TRIM_THRESHOLD, 512 << 20)


def environment(accelerator: "Accelerator", threads: int, numerics: "Numerics") -> dict[str, Any]:
    """What besides parameters, data and code decides the last bits of a result; recorded with its cost."""
    import torch

    cuda = accelerator.device.type == "cuda"
    return {
        "world_size": accelerator.num_processes,
        "threads": threads,
        "device": torch.cuda.get_device_name(accelerator.device) if cuda else platform.machine(),
        "precision": numerics.precision,
        "versions": {
            "python": platform.python_version(),
            **{name: version(name) for name in ("torch", "timm", "accelerate", "numpy")},
        },
    }
