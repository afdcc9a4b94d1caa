"""Train the center teacher, and begin both chains with it."""

import shutil
from pathlib import Path

from stages.command import command

OUTS = (Path("models/teacher"), Path("models/takd/teacher"), Path("models/dgkd/teacher"))


def main() -> None:
    """Train the teacher (teacher.arch, train.*) by cross-entropy, or take the user's checkpoint as it is.

    Reads data/prepared; writes models/teacher, models/takd/teacher and models/dgkd/teacher, the same bundle.
    """
    from pipeline.core.launch import begin
    from pipeline.params.load import load, runtime

    p = load("train", "teacher")
    begin(runtime(), "stages.pretrain")
    from pipeline.core.outs import replace_folder
    from pipeline.core.session import Session
    from pipeline.core.vocabulary import Network
    from pipeline.errors import ParamsError
    from pipeline.methods.scratch import Scratch
    from pipeline.models.create import new_head

    epochs = p["train"].epochs if p["teacher"].epochs is None else p["teacher"].epochs
    session = Session(
        "pretrain",
        recipe=p["train"].model_copy(update={"epochs": epochs}),
        decides=p.plain(),
        code=("stages/pretrain.py", "pipeline/methods/scratch.py"),
        runtime=runtime(),
        data=Path("data/prepared"),
    )
    if p["teacher"].pretrained and (said := new_head(p["teacher"].arch, session.data.meta.num_classes)):
        if epochs == 0:
            raise ParamsError(f"teacher.epochs: 0 needs a head that fits; {said}")
        print(f"{said}: it is replaced by a new one, which is trained")
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
