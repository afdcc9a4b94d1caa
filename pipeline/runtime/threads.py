"""OpenMP threads, which must be set before torch is imported."""

import os


def set_threads(threads: int) -> None:
    """Fix the number of OpenMP threads and let waiting threads sleep. Call it before torch is imported."""
    os.environ["OMP_NUM_THREADS"] = str(threads)
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
