"""Train the center teacher, the first network of both chains, for each seed."""

import shutil
from pathlib import Path

from stages.command import Seed, command

OUTS = (Path("models/teacher"), Path("models/takd/teacher"), Path("models/dgkd/teacher"))


def main(seed: Seed = None) -> None:
    """Train the teacher (teacher.*, train.*) by cross-entropy, or take the weights of a checkpoint as they are.

    It sees the share data.teacher_share of the training images, whose rows its bundle records.
    Reads data/prepared; writes the same to models/teacher, models/takd/teacher and models/dgkd/teacher: a bundle seed-N
    for each of seeds, or one bundle for all seeds if teacher.per_seed is false or no teacher is trained.
    """
    from pipeline.params.load import load, runtime
    from pipeline.runtime.launch import is_main_process
    from pipeline.storage.atomic import replace_folder
    from pipeline.training.seeds import train_seeds
    from pipeline.training.stage import Participants, Stage

    p = load("train", "teacher", "seeds", "data.teacher_share", "data.seed")
    teacher = p["teacher"]
    epochs = p["train"].epochs if teacher.epochs is None else teacher.epochs
    stage = Stage(
        "stages.pretrain",
        recipe=p["train"].model_copy(update={"epochs": epochs}),
        parameters={
            **{key: value for key, value in p.plain().items() if key != "seeds"},
            "teacher": teacher.model_dump(exclude={"per_seed"}),
        },
        code=("stages/pretrain.py", "pipeline/methods/scratch.py"),
        runtime=runtime(),
        weights=None if teacher.checkpoint is None else Path(teacher.checkpoint),
    )

    def participants(seed: int) -> Participants:
        from pipeline.core.interface import Network
        from pipeline.data.split import teacher_rows
        from pipeline.errors import ParamsError
        from pipeline.methods.scratch import Scratch
        from pipeline.models.create import create, new_head

        if teacher.pretrained and (mismatch := new_head(teacher.arch, stage.data.meta.num_classes)):
            if epochs == 0:
                raise ParamsError(f"teacher.epochs: 0 requires a head that fits the data; {mismatch}")
            print(f"{mismatch}: the head is replaced by a new one, which is trained")
        if teacher.checkpoint is not None and epochs == 0:  # no training would follow for a new head
            meta = stage.data.meta
            shape = {"num_classes": meta.num_classes, "in_chans": meta.in_chans, "image_size": meta.image_size}
            create(teacher.arch, **shape, checkpoint=teacher.checkpoint)
        rows = teacher_rows(stage.data.labels("train"), p["data.teacher_share"], p["data.seed"])
        network = Network(teacher.arch, pretrained=teacher.pretrained, checkpoint=teacher.checkpoint, sees=rows)
        about = {"method": "pretrain", "student": "teacher"}
        return Participants(
            Scratch(ce_weight=1.0, label_smoothing=0.0), {"teacher": network}, about, student_arch=teacher.arch
        )

    chosen = [p["train"].seed] if teacher.shared else p["seeds"]
    trained = train_seeds(stage, chosen if seed is None else [seed], participants)

    def fill(folder: Path) -> None:
        for number, outputs in trained.items():
            target = folder if teacher.shared else folder / f"seed-{number}"
            shutil.copytree(outputs / "networks", target, dirs_exist_ok=True)

    if is_main_process() and seed is None:
        for out in OUTS:
            replace_folder(out, fill)


if __name__ == "__main__":
    command(main)
