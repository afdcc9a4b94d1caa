"""Search the parameters of methods on the validation split."""

import json
from typing import Annotated

import typer

from stages.command import check_name, command

ALL = "all"


def main(
    methods: Annotated[
        list[str],
        typer.Argument(metavar="METHOD...", help="Entries of `methods` in params.yaml, or `all`, controls included."),
    ],
    trials: Annotated[
        int | None, typer.Option(help="Trials of each method; without it tune.trials.", min=1, max=10_000)
    ] = None,
    jobs: Annotated[int, typer.Option(help="Trainings at the same time, by workers on this machine.", min=1)] = 1,
    write: Annotated[bool, typer.Option("--write", help="Put the best parameters into params.yaml.")] = False,
    trial: Annotated[int | None, typer.Option(hidden=True, min=1)] = None,
    parameters: Annotated[str, typer.Option(hidden=True)] = "{}",
    seed: Annotated[int | None, typer.Option(hidden=True, min=0)] = None,
) -> None:
    """Search the parameters of each METHOD on the validation split (tune.*), every method with as many trials.

    A trial is a training as `distill` does it, once for each of tune.seeds; its result is the validation top-1 after
    the last epoch. The first trial has the parameters of params.yaml. docs/parameters.md has the range of each
    parameter. The test split is not read.

    Reads data/prepared and the networks that methods.METHOD.after names (run `dvc repro` first). Writes
    results/tune/METHOD.csv, which `report` reads, and prints the `-S` line that adopts the best trial. If this command
    is killed, the same command goes on, and ends with the same trials.
    """
    from pipeline.errors import ParamsError
    from pipeline.params.load import FILE, validated
    from pipeline.params.messages import hint
    from pipeline.params.yaml_file import read, write_values
    from pipeline.runtime.launch import is_launched
    from pipeline.runtime.signals import Interrupted
    from pipeline.tuning.search import MethodSearch, adoption, after_their_methods, sections_of, summary, workers
    from pipeline.tuning.space import space_of
    from pipeline.tuning.training import Trainer

    values = validated(read(FILE))
    entries = values["methods"]
    names = list(dict.fromkeys(entries if methods == [ALL] else map(check_name, methods)))
    for name in names:
        if name not in entries:
            raise ParamsError(f"{name!r} is not an entry of methods in {FILE}{hint(name, [*entries, ALL])}")
    if values["runtime"].num_processes > 1 or is_launched():
        raise ParamsError("runtime.num_processes: must be 1 for stages.tune; --jobs trains several trials at once")
    if trial is not None and seed is not None:  # a worker's part of --jobs
        Trainer(names[0], values).train(trial, json.loads(parameters), seed)
        return
    wanted, finished, session = trials or values["tune"].trials, 0, None
    again = " ".join(["python -m stages.tune", *methods, *([f"--trials {trials}"] if trials else [])])
    again += f" --jobs {jobs}" * (jobs > 1) + " --write" * write
    search: MethodSearch | None = None
    try:
        with workers(jobs, values) as cluster:
            for name in after_their_methods(names, entries):
                space = space_of(values[name], control=entries[name].control)
                if not space.searched:
                    print(f"{name}: not tuned: {'; '.join(space.left_out) or 'it has no parameter to search'}")
                    continue
                trainer = Trainer(name, values, session)
                search = MethodSearch(trainer, space, trials=wanted, jobs=jobs, cluster=cluster)
                study = search.run()
                session, finished = trainer.session, finished + len(study.finished)
                search = None
                settings = adoption(study, values, trainer.stage.data.meta.num_classes)
                for line in summary(study, settings):
                    print(line)
                if write and settings:
                    write_values(FILE, settings)
                    written = validated(read(FILE))  # the next entry may be a control that got other weights
                    values |= {section: written[section] for section in sections_of(settings)}
                    print(f"  written to {FILE}")
    except (KeyboardInterrupt, Interrupted):
        finished += len(search.study.finished) if search and search.study else 0
        count = f"{finished} finished trial{'s' * (finished != 1)}"
        raise Interrupted(f"stopped after {count}; go on with `{again}`") from None


if __name__ == "__main__":
    command(main)
