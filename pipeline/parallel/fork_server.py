"""A process that has imported the libraries and runs each command of a stage in a fork of itself.

Requests and answers are lines of JSON on its standard input and output. A request has `module` and `arguments` of the
command, the `folder` of the project, and the file `log` that receives what the command prints. The answer has its
exit `status` and its peak memory `mib`. The project's own code is imported by the fork alone, so an edit is seen.

When the input ends, because the worker that started this process has ended, the running command gets SIGTERM: it
writes a checkpoint and ends.
"""

import ctypes
import gc
import importlib
import json
import os
import runpy
import select
import signal
import sys
import traceback
import warnings
from contextlib import suppress
from typing import Any

OWN = ("pipeline", "stages")  # packages of the project
PR_SET_PDEATHSIG = 1  # prctl.h of Linux
SLOW = ("numpy", "torch", "accelerate", "safetensors.torch", "polars", "pydantic", "typer", "ruamel.yaml")


def main() -> None:
    """Serve requests until the input ends. The arguments are libraries to import besides those of every stage."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the worker decides what ends
    warnings.filterwarnings("ignore", "This process .* is multi-threaded")  # the threads are idle ones of libraries
    for library in (*SLOW, *sys.argv[1:]):
        importlib.import_module(library)
    while line := sys.stdin.buffer.raw.readline():  # pyright: ignore[reportAttributeAccessIssue]: unbuffered, to poll
        request = json.loads(line)
        pid = os.fork()
        if pid == 0:
            status = run(request)
            gc.collect()  # temporary folders that the command's objects own: _exit calls no finalizer
            os._exit(status)
        answer = wait(pid)
        try:
            print(json.dumps(answer), flush=True)
        except BrokenPipeError:  # the worker that asked has ended
            os._exit(1)


def wait(pid: int) -> dict[str, Any]:
    """The answer for a command that runs. It gets SIGTERM if the input ends first."""
    with suppress(AttributeError, OSError):  # Linux alone can wait for a process and for input at once
        ended = os.pidfd_open(pid)
        ready, _, _ = select.select([ended, sys.stdin], [], [])
        os.close(ended)
        if ended not in ready:
            os.kill(pid, signal.SIGTERM)
    _, status, usage = os.wait4(pid, 0)
    per_mib = 2**20 if sys.platform == "darwin" else 2**10
    return {"status": os.waitstatus_to_exitcode(status), "mib": usage.ru_maxrss / per_mib}


def run(request: dict[str, Any]) -> int:
    """Run a command in this process, as `python -m` would. Returns its exit status."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    out = os.open(request["log"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
    null = os.open(os.devnull, os.O_RDONLY)
    for target, source in ((0, null), (1, out), (2, out)):
        os.dup2(source, target)
    os.chdir(request["folder"])
    for name in [name for name in sys.modules if name.split(".")[0] in OWN]:
        del sys.modules[name]
    sys.path[0] = request["folder"]
    sys.argv = [request["module"], *request["arguments"]]
    status = 0
    try:
        runpy.run_module(request["module"], run_name="__main__", alter_sys=True)
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        traceback.print_exc()
        status = 1
    with suppress(OSError, ValueError):
        sys.stdout.flush()
        sys.stderr.flush()
    return status


if __name__ == "__main__":
    main()
