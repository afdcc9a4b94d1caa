"""The process that forks: the project's code is always the newest, and its commands end with it."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture
def server(tmp_path):
    """A fork server, started in a project whose package `stages` has one command."""
    (tmp_path / "stages").mkdir()
    (tmp_path / "stages/__init__.py").touch()
    process = subprocess.Popen(
        [sys.executable, "-m", "pipeline.parallel.fork_server"],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    yield process
    process.kill()
    process.wait()


def request(server, folder, code: str | None = None, *arguments: str) -> None:
    if code is not None:
        (folder / "stages/command.py").write_text(code)
    asked = {"module": "stages.command", "arguments": arguments, "folder": str(folder), "log": str(folder / "log")}
    server.stdin.write(json.dumps(asked) + "\n")
    server.stdin.flush()


def test_a_command_runs_as_if_by_python_with_the_libraries_imported(server, tmp_path):
    code = "import sys\nprint(sys.argv[1:], 'torch' in sys.modules, __name__, __file__)\nsys.exit(len(sys.argv))\n"
    request(server, tmp_path, code, "a", "b")
    answer = json.loads(server.stdout.readline())
    assert answer["status"] == 3 and answer["mib"] > 50
    assert (tmp_path / "log").read_text() == f"['a', 'b'] True __main__ {tmp_path}/stages/command.py\n"


def test_an_edit_of_the_project_is_seen_and_an_exception_is_status_1(server, tmp_path):
    for status, code in ((0, "print('one')"), (1, "raise ValueError('two')")):
        request(server, tmp_path, code)
        assert json.loads(server.stdout.readline())["status"] == status
    assert "ValueError: two" in (tmp_path / "log").read_text()


def test_temporary_folders_of_a_command_are_removed_when_it_ends(server, tmp_path):
    code = (
        "from tempfile import TemporaryDirectory\n"
        "class Owner:\n"
        "    def __init__(self):\n"
        f"        self.folder, self.me = TemporaryDirectory(dir={str(tmp_path)!r}, prefix='taken-'), self\n"
        "def main():\n"
        "    print(Owner().folder.name)\n"
        "main()\n"
    )
    request(server, tmp_path, code)
    assert json.loads(server.stdout.readline())["status"] == 0
    assert "taken-" in (tmp_path / "log").read_text() and not list(tmp_path.glob("taken-*"))


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux waits for a process and for input at once")
@pytest.mark.parametrize("how", ["the input ends", "the server is killed"])
def test_a_command_is_asked_to_end_when_nobody_waits_for_it(server, tmp_path, how):
    code = (
        "import signal, sys, time\n"
        "def end(*_):\n    print('saved', flush=True)\n    sys.exit(130)\n"
        "signal.signal(signal.SIGTERM, end)\nprint('running', flush=True)\ntime.sleep(60)\n"
    )
    request(server, tmp_path, code)
    wait_for(tmp_path / "log", "running")
    if how == "the input ends":
        server.stdin.close()
        assert json.loads(server.stdout.readline())["status"] == 130
    else:
        server.send_signal(signal.SIGKILL)
    wait_for(tmp_path / "log", "saved")


def wait_for(file: Path, words: str) -> None:
    deadline = time.monotonic() + 60
    while not (file.exists() and words in file.read_text()):
        assert time.monotonic() < deadline
        time.sleep(0.05)
