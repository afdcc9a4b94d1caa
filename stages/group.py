"""Gather the teacher and the architectures of a group of students."""

import shutil
from pathlib import Path

from stages.command import command

TEACHER = Path("models/teacher")


def main() -> None:
    """Write models/group: the teacher of each seed with its weights, and the architecture of each of `assistants`.

    Methods whose students learn together (ORC, DML) train these architectures from scratch, so their records hold no
    weights. Reads models/teacher.
    """
    from pipeline.errors import DataError
    from pipeline.params.load import load
    from pipeline.storage.atomic import replace_folder
    from pipeline.storage.bundle import add_record, seed_folders

    p = load("assistants")
    if not TEACHER.is_dir():
        raise DataError(f"{TEACHER} is missing: run `dvc repro group`, which trains the teacher first")

    def fill(folder: Path) -> None:
        shutil.copytree(TEACHER, folder, dirs_exist_ok=True)
        for bundle in seed_folders(folder) or [folder]:
            for name, assistant in p["assistants"].items():
                add_record(bundle, name, {"arch": assistant.arch})

    replace_folder(Path("models/group"), fill)


if __name__ == "__main__":
    command(main)
