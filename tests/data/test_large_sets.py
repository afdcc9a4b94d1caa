"""Large data sets: memory stays bounded, and real sets have the published counts and statistics. Slow tests only."""

import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from pictures import section
from PIL import Image

from pipeline.data.prepare import prepare
from pipeline.data.prepared import Prepared
from pipeline.data.sources.open import open_source

ROOT = Path(__file__).parents[2]
REAL = Path(os.environ.get("GROUP_DISTILLATION_DATA", ROOT.parent / "shared" / "data"))


def prepared(tmp_path: Path, data: SimpleNamespace) -> Prepared:
    prepare(open_source(data, 0), data, tmp_path / "prepared")
    return Prepared.read(tmp_path / "prepared")


PREPARE = """
import sys
from pathlib import Path
from pictures import section
from pipeline.data.prepare import prepare
from pipeline.data.sources.open import open_source

def peak():
    return int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0])

folder = Path(sys.argv[1])
few, all = (section("folder", folder / name, image_size=512) for name in ("few", "all"))
prepare(open_source(few, 0), few, folder / "first")
before = peak()
prepare(open_source(all, 0), all, folder / "prepared")
print(before, peak())
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads the peak of resident memory from /proc")
def test_a_set_is_never_in_memory(tmp_path):
    """Preparing many images after a few hardly raises the peak of memory, which stays below 1 GiB."""
    draw = np.random.default_rng(0)
    for name, n in (("few/train", 4), ("few/test", 2), ("all/train", 150), ("all/test", 2)):
        for k in range(2 * n):
            file = tmp_path / name / "ab"[k % 2] / f"{k}.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(draw.integers(0, 256, (8, 8, 3), dtype=np.uint8)).save(file)
    places = os.pathsep.join([str(ROOT), str(ROOT / "tests/support")])
    environment = {**os.environ, "PYTHONPATH": places}
    done = subprocess.run(
        [sys.executable, "-c", PREPARE, str(tmp_path)], env=environment, stdout=subprocess.PIPE, check=True
    )
    before, peak = (int(kib) / 2**10 for kib in done.stdout.split())
    size = sum(file.stat().st_size for file in (tmp_path / "prepared").glob("*.npy")) / 2**20
    assert peak < 1024 and peak - before < size / 4, (before, peak, size)


@pytest.mark.slow
@pytest.mark.skipif(not (REAL / "cifar100").is_dir(), reason="needs the real CIFAR-100 shards")
def test_cifar100_has_the_published_counts_and_statistics(tmp_path):
    data = prepared(tmp_path, section("parquet", REAL / "cifar100", label_column="fine_label"))
    train = np.concatenate([data.images("train"), data.images("validation")])
    assert len(train) == 50_000 and data.meta.counts["test"] == 10_000 and data.meta.num_classes == 100
    both = np.concatenate([data.labels("train"), data.labels("validation")])
    assert (np.bincount(both) == 500).all() and (np.bincount(data.labels("test")) == 100).all()
    mean, std = train.mean((0, 1, 2)) / 255, train.std((0, 1, 2)) / 255
    assert mean == pytest.approx([0.5071, 0.4867, 0.4408], abs=1e-3)
    assert std == pytest.approx([0.2675, 0.2565, 0.2761], abs=1e-3)


@pytest.mark.slow
@pytest.mark.skipif(not (REAL / "FashionMNIST").is_dir(), reason="needs the real Fashion-MNIST files")
def test_fashion_mnist_is_read_from_files_that_are_there(tmp_path):
    shutil.copytree(REAL / "FashionMNIST" / "raw", tmp_path / "set" / "FashionMNIST" / "raw")
    data = prepared(tmp_path, section("fashion_mnist", tmp_path / "set", limit=100))
    assert data.meta.counts == {"train": 100, "validation": 6000, "test": 10_000}
    assert data.classes[0] == "T-shirt/top" and data.meta.in_chans == 1
