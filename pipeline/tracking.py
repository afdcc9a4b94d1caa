"""Live logs in the formats of experiment trackers, for a person to watch a run. They decide no number."""

from importlib.util import find_spec
from pathlib import Path

from pipeline.errors import ParamsError
from pipeline.progress import Tracker


def open_tracker(kind: str, folder: Path, run: str) -> Tracker | None:
    """A tracker that writes to folder/run; None if `kind` is "none".

    kind: "none" or "tensorboard", of which only the main process writes.
    Raises ParamsError if the tracker is unknown or not installed.
    """
    if kind == "none":
        return None
    if kind != "tensorboard":
        raise ParamsError(f"runtime.tracker: must be none or tensorboard, got {kind}")
    if find_spec("tensorboard") is None:
        raise ParamsError("runtime.tracker: tensorboard is not installed: run `uv add tensorboard`")
    from accelerate.tracking import TensorBoardTracker

    tracker = TensorBoardTracker(run, folder)
    tracker.start()
    return tracker
