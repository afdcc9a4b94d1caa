"""One small project, run once, for all tests of real runs; each leaves it as it was."""

import pytest
from project import Project


@pytest.fixture(scope="session")
def project(tmp_path_factory):
    """A project with two methods and few epochs, run once and committed."""
    project = Project(tmp_path_factory.mktemp("project"))

    def change(document):
        for name in [name for name in document["methods"] if name not in ("kd", "orc")]:
            del document["methods"][name]
        document["train"]["epochs"] = 2
        document["data"]["limit"] = 64
        document["cooperative"]["members"] = {"auto": 2}

    project.edit(change)
    project.first = project.dvc("repro").stdout
    project.commit()
    return project
