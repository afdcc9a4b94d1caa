"""A member of a group sees at least one image."""

import numpy as np
import pytest

from pipeline.data.members import Member, visible_rows
from pipeline.errors import ParamsError


def test_a_shard_without_an_image_is_an_error():
    labels = np.array([0, 0, 1, 1])
    sizes = [len(visible_rows("a", Member("x", (), f"{i}/2"), labels, 0)) for i in (1, 2)]
    assert sizes == [2, 2]
    with pytest.raises(ParamsError, match=r"cooperative\.members\.a\.keeps: shard 5/9 has no training image"):
        visible_rows("a", Member("x", (), "5/9"), labels, 0)


def test_a_member_whose_classes_have_no_image_is_an_error():
    with pytest.raises(ParamsError, match=r"cooperative\.members\.a\.lacks: no training image is left"):
        visible_rows("a", Member("x", (0,), 1.0), np.zeros(4, dtype=np.int64), 0)
