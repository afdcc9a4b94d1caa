"""Check params.yaml before anything runs."""

import os
from pathlib import Path

from stages.command import command

OUT = Path(".params.ok")
TUNE = Path("results/tune")


def main() -> None:
    """Check types, bounds and names in params.yaml, and whether parameters contradict each other.

    Reads the whole of params.yaml; writes .params.ok, whose content never changes, so that a valid edit by itself makes
    no other stage run. Prints one line for each mistake and then exits with status 2. Prints a warning for each value
    that is valid but probably not meant.
    """
    from pipeline.estimators.check import check_estimators
    from pipeline.params.cautions import cautions
    from pipeline.params.load import FILE, validated
    from pipeline.params.yaml_file import read

    values = validated(read(FILE))
    data, members = values["data"], values["cooperative"].members
    if isinstance(members, dict):
        check_estimators(members)
    root = Path(data.root)
    if data.source in ("fashion_mnist", "cifar10", "cifar100", "breast_cancer", "wine"):
        root.mkdir(parents=True, exist_ok=True)  # the download goes there; DVC requires that a dependency exists
    elif not os.path.isdir(root):  # never raises, unlike Path.is_dir
        from pipeline.errors import ParamsError

        raise ParamsError(f"params.yaml: data.root: the folder {data.root!r} does not exist")
    for caution in cautions(values):
        print(f"warning: {FILE}: {caution}")
    TUNE.mkdir(parents=True, exist_ok=True)  # `report` depends on it, whether or not anything was tuned
    OUT.write_text("ok\n")


if __name__ == "__main__":
    command(main)
