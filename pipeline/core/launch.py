"""How a stage begins to compute: threads before torch is imported, processes, determinism, the device."""

import os
import platform
import subprocess
import sys
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


def processes(module: str, arguments: list[str], count: int) -> int | None:
    """Run `python -m module arguments` as several processes; its exit code, or None if this is one of them."""
    if count == 1 or GUARD in os.environ or "LOCAL_RANK" in os.environ or "WORLD_SIZE" in os.environ:
        return None
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={count}"]
    return subprocess.run(
        [*command, "-m", module, *arguments], env={**os.environ, GUARD: str(count)}, check=False
    ).returncode


def accelerate(threads: int) -> "Accelerator":
    """The Accelerator of this process, deterministic."""
    import torch
    from accelerate import Accelerator

    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(True, warn_only=True)
    torch.utils.deterministic.fill_uninitialized_memory = False  # pyright: ignore[reportAttributeAccessIssue]
    torch.backends.cudnn.benchmark = False
    return Accelerator(cpu=not torch.cuda.is_available())


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
