"""A copy of this project as a separate Git and DVC repository, in which tests run real stages."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ruamel.yaml import YAML

ROOT = Path(__file__).parents[2]
BIN = Path(sys.executable).parent
# dvc.lock has the default's 46 stages, and DVC writes all of it again after every stage.
LEFT_OUT = ("tests", "docs", "uv.lock", "dvc.lock")
ENVIRONMENT = {
    **os.environ,
    "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}",
    "OMP_NUM_THREADS": "1",
    "CUDA_VISIBLE_DEVICES": "",  # same results on every machine; tests/training/test_gpu.py tests GPUs
    "GIT_AUTHOR_NAME": "a",
    "GIT_AUTHOR_EMAIL": "a@example.com",
    "GIT_COMMITTER_NAME": "a",
    "GIT_COMMITTER_EMAIL": "a@example.com",
}


class Project:
    """The files of this project, copied into a folder and committed."""

    def __init__(self, folder: Path):
        self.folder = folder
        listed = subprocess.run(
            ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
            cwd=ROOT,
            capture_output=True,
            check=True,
        ).stdout.decode()
        for name in filter(None, listed.split("\0")):
            if name.split("/")[0] not in LEFT_OUT and (ROOT / name).is_file():
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(ROOT / name, folder / name)
        progress = folder / "pipeline/progress.py"
        text = progress.read_text().replace("SECONDS_BETWEEN_LINES = 20.0", "SECONDS_BETWEEN_LINES = 0.0")
        assert "SECONDS_BETWEEN_LINES = 0.0" in text
        progress.write_text(text)  # tests wait for the line of an epoch
        self.run("git", "init", "-q")
        self.commit()

    def clone(self, folder: Path) -> "Project":
        """A fresh clone of the last commit."""
        subprocess.run(["git", "clone", "-q", str(self.folder), str(folder)], check=True)
        return Project.at(folder)

    @classmethod
    def at(cls, folder: Path) -> "Project":
        """A project whose files are already in the folder, or will be copied there."""
        project = cls.__new__(cls)
        project.folder = folder
        return project

    def run(self, *command: str, ok: bool = True, **options) -> subprocess.CompletedProcess:
        """Run a command in the project and return its output as text. Asserts that it succeeds, unless ok is False."""
        done = subprocess.run(
            command,
            cwd=self.folder,
            env=ENVIRONMENT,
            capture_output=True,
            text=True,
            timeout=600,
            check=False,
            **options,
        )
        assert not ok or done.returncode == 0, done.stdout + done.stderr
        return done

    def dvc(self, *arguments: str, ok: bool = True) -> subprocess.CompletedProcess:
        return self.run(sys.executable, "-m", "dvc", *arguments, ok=ok)

    def stage(self, *arguments: str, ok: bool = True) -> subprocess.CompletedProcess:
        return self.run(sys.executable, "-m", f"stages.{arguments[0]}", *arguments[1:], ok=ok)

    def commit(self) -> None:
        self.run("git", "add", "-A")
        self.run("git", "commit", "-qm", "snapshot")

    def reset(self) -> None:
        """Restore the last commit and its outputs."""
        (self.folder / "params.yaml").touch()  # after a failed `exp run`, Git may miss an edit of the same length
        self.run("git", "reset", "-q", "--hard")
        self.dvc("checkout", "-q", "--force")

    @contextmanager
    def empty_store(self, label: str) -> Iterator[None]:
        """Within the context, the checkpoint store has nothing of this stage; then it is as before."""
        store = self.folder / ".checkpoints" / label
        store.rename(store.with_name("aside"))
        try:
            yield
        finally:
            shutil.rmtree(store, ignore_errors=True)
            store.with_name("aside").rename(store)

    def edit(self, change) -> None:
        """Edit params.yaml: `change` is called with the document."""
        yaml = YAML()
        file = self.folder / "params.yaml"
        document = yaml.load(file)
        change(document)
        yaml.dump(document, file)

    def set(self, key: str, value) -> None:
        """Set a dotted key of params.yaml."""
        *path, last = key.split(".")

        def change(document):
            for part in path:
                document = document[part]
            document[last] = value

        self.edit(change)


def ran(output: str) -> list[str]:
    """The stages that DVC ran, or would run, according to its output."""
    return re.findall(r"Running stage '([^']+)'", output)
