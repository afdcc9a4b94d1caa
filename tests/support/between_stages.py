"""The files that one stage writes and another reads: how they are read, and how they may be damaged."""

import hashlib
import os
import random
import re
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.core.interface import Network
from pipeline.data.prepared import Prepared
from pipeline.errors import UserError
from pipeline.evaluation.comparison import summary
from pipeline.evaluation.outcomes import outcomes, train_file
from pipeline.evaluation.page.method_figures import SHEETS, read_sheets
from pipeline.evaluation.page.results import Results
from pipeline.export.prediction import Predictor
from pipeline.export.selection import select_student
from pipeline.params.load import load
from pipeline.storage.bundle import Bundle, read_run, seed_folders
from pipeline.storage.digests import first_difference
from pipeline.training.network import initialise
from pipeline.training.participants import initial_networks

SECONDS = 10  # after which a reader counts as hanging


def digest(*values: Any) -> str:
    """A digest of arrays, tensors and plain data."""
    total = hashlib.sha256()
    for value in values:
        array = value if isinstance(value, np.ndarray) else None
        total.update(array.tobytes() + repr(array.shape).encode() if array is not None else repr(value).encode())
    return total.hexdigest()


def weights(module) -> list[Any]:
    return [part for name, value in module.state_dict().items() for part in (name, value.numpy())]


def read_data() -> str:
    """What every training stage and `evaluate` read of data/prepared."""
    data = Prepared.read(Path("data/prepared"))
    splits = ("train", "validation", "test")
    return digest(data.meta, data.classes, *(part for s in splits for part in (data.images(s)[:], data.labels(s))))


def read_bundle(folder: str) -> str:
    """What a training stage reads of the bundle that it starts from."""
    parts: list[Any] = []
    for name, network in initial_networks(Path(folder)).items():
        parts += [name, network.arch, network.sees]
        shape = {"num_classes": 10, "in_chans": 1, "image_size": (8, 8)}
        if network.weights is not None:
            parts += weights(initialise(Network(network.arch, weights=network.weights), seed=0, **shape))
    return digest(*parts)


def read_students(method: str) -> str:
    """What `evaluate` and `export` read of the students of a method."""
    parts: list[Any] = []
    for folder in seed_folders(Path("models/students", method)):
        bundle = Bundle.read(folder)
        parts += [read_run(folder), *bundle.networks.values()]
        for name in bundle.networks:
            parts += [p for which in ("last", "best") for p in weights(bundle.load(name, which))]
    if not parts:
        raise UserError("no students")
    selected = select_student(Path("models/students", method), method, "best")
    return digest(*parts, selected.seed, *weights(selected.module))


def read_results() -> str:
    """What `report` reads."""
    p = load("methods", "seeds", "report")
    reference = p["report"].reference
    compared = outcomes(p["methods"], p["seeds"], Path("results"))
    results = Results(Path("results"), compared, reference)
    parts: list[Any] = [summary(compared, reference), *(o.cost for o in compared), *(o.seeds for o in compared)]
    for o in compared:
        parts += [results.histories[o.name].rows.rows(), *(results.logits(o) if o.student else ())]
        if SHEETS in o.cost["sha256"]:
            sheets = read_sheets(train_file(Path("results"), o.name, o.cost, SHEETS))
            parts += [part for item in sheets.items() for part in item]
    return digest(*parts)


def read_export() -> str:
    """What `predict` reads, and what it says of an image."""
    return digest(Predictor(Path("models/export"))(Path("image.png"), 10))


def read_checkpoints() -> str:
    """Whether each finished run of the store is used."""
    finished = sorted(Path(".checkpoints").glob("*/*/finished"))  # not those that another test's run was stopped in
    for folder in finished:
        if (difference := first_difference(folder)) is not None:
            raise UserError(f"{difference}: it would be trained again")
    return digest([folder.parent.name for folder in finished])


READERS: dict[str, Callable[[], str]] = {
    "data/prepared": read_data,
    "models/teacher/seed-0": lambda: read_bundle("models/teacher/seed-0"),
    "models/group/seed-0": lambda: read_bundle("models/group/seed-0"),
    "models/students/kd": lambda: read_students("kd"),
    "models/students/orc": lambda: read_students("orc"),
    "results": read_results,
    "models/export": read_export,
    ".checkpoints": read_checkpoints,
}
"""The folders that stages hand on, and how they are read."""
NOT_READ = re.compile(
    r"README\.md|\.html|table\.md|summary\.json|curves|confusion|\.lock|\.group-distillation|\.gitignore|skipped|"
    r"(teacher|group)/seed-0/run\.json|teacher\.best|model\.safetensors|\.ckpt|"
    r"results/[a-z]+/(?!(kd|orc)[./])"  # of methods that the project does not have
)


def files_of(folder: str) -> list[Path]:
    """The files of a folder that a stage reads."""
    return sorted(f for f in Path(folder).rglob("*") if f.is_file() and not NOT_READ.search(f.as_posix()))


def attempt(read: Callable[[], str]) -> str:
    """What became of a reading: "refused", the digest of what was read, or the fault."""

    def hang(*_):
        raise TimeoutError

    signal.signal(signal.SIGALRM, hang)
    signal.alarm(SECONDS)
    try:
        return read()
    except UserError as error:
        lines = str(error).splitlines()
        return "refused" if len(lines) == 1 and lines[0].isprintable() else f"message of {len(lines)} lines: {error!r}"
    except TimeoutError:
        return "hang"
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt):
            raise
        return f"traceback: {type(error).__name__}: {str(error)[:300]}"
    finally:
        signal.alarm(0)


NUMBERS = [b"NaN", b"-1", b"1e999", b"null", b'"x"', b"[]", b"{}", b"true", b"99999999999999999999", b"0.5", b"1", b""]


def mutate(file: Path, draw: random.Random) -> str:
    """Damage a file at random. Returns the name of the damage."""
    content = bytearray(file.read_bytes())
    kinds = "flip flips truncate empty missing garbage append swap folder loop dangling fifo"
    kind = draw.choice(f"{kinds} number number digit digit line key text".split())
    size = max(1, len(content))
    numbers = list(re.finditer(rb"-?\d+(\.\d+)?(e-?\d+)?", bytes(content))) if b"\0" not in content else []
    if kind in ("flip", "flips") and content:
        for _ in range(1 if kind == "flip" else draw.randrange(2, 50)):
            content[draw.randrange(size)] ^= 1 << draw.randrange(8)
    elif kind == "truncate":
        del content[draw.randrange(size) :]
    elif kind == "empty":
        content.clear()
    elif kind == "garbage":
        content[:] = draw.randbytes(draw.randrange(1, 2000))
    elif kind == "append":
        content += draw.choice([b"\0", b"x", b"\n\n", b"{}", draw.randbytes(20), bytes(content)])
    elif kind == "swap":
        a, b = sorted((draw.randrange(size), draw.randrange(size)))
        content[:] = content[b:] + content[a:b] + content[:a]
    elif kind in ("number", "digit") and numbers:
        found = draw.choice(numbers)
        new = draw.choice(NUMBERS) if kind == "number" else str(draw.randrange(10 ** len(found[0]))).encode()
        content[found.start() : found.end()] = new
    elif kind == "line":
        lines = bytes(content).split(b"\n")
        k = draw.randrange(len(lines))
        lines[k : k + 1] = draw.choice([[], [lines[k]] * 2, [b""], [lines[k][: len(lines[k]) // 2]]])
        content[:] = b"\n".join(lines)
    elif kind == "key":
        names = list(re.finditer(rb'"[^"\n]+"', bytes(content)))
        if names:
            found = draw.choice(names)
            content[found.start() : found.end()] = draw.choice([b'"x"', b'"../x"', b'"' + b"n" * 5000 + b'"', b'"\\n"'])
    elif kind == "text":
        content[:] = draw.choice([b"\xff\xfe", b"[" * 100_000, b"null", b"[]", b"{}", b'"x"', b"PK\3\4", b"PAR1PAR1"])
    file.unlink()
    if kind == "folder":
        file.mkdir()
    elif kind == "loop":
        file.symlink_to(file.name)
    elif kind == "dangling":
        file.symlink_to("nothing")
    elif kind == "fifo":
        os.mkfifo(file)
    elif kind != "missing":
        file.write_bytes(content)
    return kind


def restore(file: Path, content: bytes) -> None:
    """Write a file again, whatever has taken its place."""
    if file.is_dir() and not file.is_symlink():
        shutil.rmtree(file)
    else:
        file.unlink(missing_ok=True)
    file.write_bytes(content)
