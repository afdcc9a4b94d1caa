"""Train the center teacher, the first network of both chains."""

import shutil
from pathlib import Path

from stages.command import command

OUTS = (Path("models/teacher"), Path("models/takd/teacher"), Path("models/dgkd/teacher"))


def main() -> None:
    """Train the teacher (teacher.*, train.*) by cross-entropy, or take the weights of a checkpoint as they are.

    Reads data/prepared; writes the same bundle to models/teacher, models/takd/teacher and models/dgkd/teacher.
    """
    from pipeline.params.load import load, runtime
    from pipeline.runtime.launch import begin

    p = load("train", "teacher")
    begin(runtime(), "stages.pretrain")
    from pipeline.core.interface import Network
    from pipeline.errors import ParamsError
    from pipeline.methods.scratch import Scratch
    from pipeline.models.create import new_head
    from pipeline.storage.atomic import replace_folder
    from pipeline.training.session import Session

    epochs = p["train"].epochs if p["teacher"].epochs is None else p["teacher"].epochs
    session = Session(
        "pretrain",
        recipe=p["train"].model_copy(update={"epochs": epochs}),
        parameters=p.plain(),
        code=("stages/pretrain.py", "pipeline/methods/scratch.py"),
        runtime=runtime(),
        data=Path("data/prepared"),
    )
    if p["teacher"].pretrained and (mismatch := new_head(p["teacher"].arch, session.data.meta.num_classes)):
        if epochs == 0:
            raise ParamsError(f"teacher.epochs: 0 requires a head that fits the data; {mismatch}")
        print(f"{mismatch}: the head is replaced by a new one, which is trained")
    teacher = Network(p["teacher"].arch, pretrained=p["teacher"].pretrained, checkpoint=p["teacher"].checkpoint)
    trained = session.train(
        Scratch(label_smoothing=0.0),
        {"teacher": teacher},
        p["train"].seed,
        {"method": "pretrain", "student": "teacher"},
    )
    if session.accelerator.is_main_process:
        for out in OUTS:
            replace_folder(out, lambda folder: shutil.copytree(trained / "networks", folder, dirs_exist_ok=True))


if __name__ == "__main__":
    command(main)
