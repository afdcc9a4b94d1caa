"""Refuse a params.yaml that cannot be meant, before anything is run."""

from pathlib import Path

from stages.command import command

OUT = Path(".params.ok")


def main() -> None:
    """Check params.yaml: types, bounds, names, and whether parameters contradict each other.

    Reads the whole of params.yaml; writes .params.ok, which is always the same: a valid edit invalidates nothing by
    itself. Every mistake is one line; the exit code is then 2.
    """
    from pipeline.params.load import load

    data = load("data")["data"]
    root = Path(data.root)
    if data.source in ("fashion_mnist", "cifar10", "cifar100"):
        root.mkdir(parents=True, exist_ok=True)  # where the download will lie: DVC asks that a dependency exists
    elif not root.is_dir():
        from pipeline.errors import ParamsError

        raise ParamsError(f"params.yaml: data.root: there is no folder {data.root!r}")
    OUT.write_text("ok\n")


if __name__ == "__main__":
    command(main)
