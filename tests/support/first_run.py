"""One small project, run once and shared by all tests of real runs. Every test restores it when it ends."""

import shutil

import pytest
from filelock import FileLock
from project import Project


@pytest.fixture(scope="session")
def project(tmp_path_factory, worker_id):
    """A project with two methods and few epochs, run once and committed; every pytest worker has a copy."""
    shared = tmp_path_factory.getbasetemp()
    if worker_id != "master":
        shared = shared.parent  # shared by all workers
    first = shared / "first-run.txt"
    with FileLock(shared / "first-run.lock"):
        if not first.is_file():
            first.write_text(create_project(shared / "first-run"))
    project = Project.at(tmp_path_factory.mktemp("copy") / "project")
    shutil.copytree(shared / "first-run", project.folder, symlinks=True)
    project.first = first.read_text()
    return project


def create_project(folder) -> str:
    """Create and run the project. Returns the output of `dvc repro`."""
    folder.mkdir()
    project = Project(folder)
    for table in (folder / "results/tune").glob("*.csv"):
        table.unlink()  # of the default

    def change(document):
        for name in [name for name in document["methods"] if name not in ("kd", "orc")]:
            del document["methods"][name]
        document["train"]["epochs"] = 2
        document["seeds"] = [0]
        document["data"]["limit"] = 64
        document["cooperative"]["members"] = {"auto": 2}
        document["dgkd"].update(document["takd"])  # the first assistants of both chains are then the same

    project.edit(change)
    output = project.dvc("repro").stdout
    project.commit()
    return output
