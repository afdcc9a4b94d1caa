"""The benchmarks train by the loop of today: nothing else would notice that they call it as it was."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
STEPS = """
import sys
from pathlib import Path
import torch
from benchmarks.bench import Bench
from benchmarks.cases import DGKD_, KD_, ORC_
from benchmarks.ours import guide
from pipeline.core.interface import Network
folder = Path(sys.argv[1])
bench = Bench(folder, repeats=1, compile=False, device=torch.device("cpu"))
student, teacher = Network("cifar_resnet8"), guide("cifar_resnet14", folder)
start = {"teacher": teacher, "ta1": Network("cifar_resnet8")}
bench.engine(KD_, {"student": student, "teacher": teacher}, bench.cache("kd")).with_filled_cache()()
bench.engine(DGKD_, {"student": student, "teacher": teacher, "ta1": teacher}, bench.cache("dgkd")).with_filled_cache()()
bench.engine(ORC_, ORC_.networks("cifar_resnet8", start))()
print("three steps")
"""


def python(*arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=ROOT,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-500:]
    return done.stdout


def test_methods_with_guides_stored_logits_and_a_pivot_take_a_step(tmp_path):
    assert python("-c", STEPS, str(tmp_path)) == "three steps\n"


def test_a_benchmark_measures_the_training_loop_of_today():
    printed = python("-m", "benchmarks", "host", "--repeats", "1")
    assert printed.startswith("overhead of the training loop, resnet20: ")
