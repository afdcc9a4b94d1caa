"""How a stage begins to compute: threads before torch is imported, processes, determinism, the device."""

import os
import platform
import subprocess
import sys
from datetime import timedelta
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from accelerate import Accelerator

GUARD = "GROUP_DISTILLATION_PROCESSES"  # set in the processes that a stage starts, so that they start no more


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
    started = GUARD in os.environ or "LOCAL_RANK" in os.environ or "WORLD_SIZE" in os.environ
    if runtime.num_processes == 1 or started:
        return
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    command += [f"--nproc-per-node={runtime.num_processes}", "-m", stage, *arguments]
    environment = {**os.environ, GUARD: str(runtime.num_processes)}
    sys.exit(subprocess.run(command, env=environment, check=False).returncode)


def accelerate(threads: int) -> "Accelerator":
    """The Accelerator of this process, deterministic; a rank that does not answer for ten minutes ends the run."""
    import torch
    from accelerate import Accelerator, InitProcessGroupKwargs

    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(True, warn_only=True)
    torch.utils.deterministic.fill_uninitialized_memory = False  # pyright: ignore[reportAttributeAccessIssue]
    torch.backends.cudnn.benchmark = False
    patience = InitProcessGroupKwargs(timeout=timedelta(minutes=10))
    return Accelerator(cpu=not torch.cuda.is_available(), kwargs_handlers=[patience])


def environment(accelerator: "Accelerator", threads: int) -> dict[str, Any]:
    """What besides parameters, data and code decides the last bits of a result; recorded with its cost."""
    import torch

    cuda = accelerator.device.type == "cuda"
    return {
        "world_size": accelerator.num_processes,
        "threads": threads,
        "device": torch.cuda.get_device_name(accelerator.device) if cuda else platform.machine(),
        "precision": "fp32",
        "versions": {
            "python": platform.python_version(),
            **{name: version(name) for name in ("torch", "timm", "accelerate", "numpy")},
        },
    }
