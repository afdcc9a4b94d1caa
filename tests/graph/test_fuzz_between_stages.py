"""A file between stages that is damaged, missing or something else is refused in one line, never read silently.

The long version is FUZZ=3200 pytest tests/graph/test_fuzz_between_stages.py -s -n 0 (docs/reliability.md).
"""

import os
import random
from collections import Counter

import pytest
from between_stages import READERS, attempt, files_of, mutate, restore
from PIL import Image

FUZZ = int(os.environ.get("FUZZ", "240"))


@pytest.mark.slow
@pytest.mark.parametrize("folder", READERS)
def test_a_damaged_file_is_refused_in_one_line(project, monkeypatch, folder):
    monkeypatch.chdir(project.folder)
    Image.new("L", (8, 8), 100).save("image.png")
    read, draw, counts, faults = READERS[folder], random.Random(folder), Counter(), []
    intact = attempt(read)
    assert len(intact) == 64, intact  # it is read before anything is damaged
    files = files_of(folder)
    assert files
    for _ in range(-(-FUZZ // len(READERS))):
        file = draw.choice(files)
        before = file.read_bytes()
        kind = mutate(file, draw)
        outcome = attempt(read)
        if outcome == "refused":
            counts["refused"] += 1
        elif outcome == intact:
            counts["harmless"] += 1
        else:
            faults.append((str(file), kind, outcome if not len(outcome) == 64 else "accepted silently"))
        restore(file, before)
    print(f"\n{folder}: {dict(counts)}, {len(faults)} faults")
    assert attempt(read) == intact
    assert faults == []
