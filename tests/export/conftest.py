"""Photographs of several sizes, prepared once for each file of tests."""

import pytest
from pictures import make_folder, section

from pipeline.data.prepare import prepare
from pipeline.data.prepared import Prepared
from pipeline.data.sources.open import open_source


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Prepared:
    place = tmp_path_factory.mktemp("data")
    asked = section("folder", make_folder(place / "set", sizes=((50, 40), (33, 64))), image_size=32)
    prepare(open_source(asked), asked, place / "prepared")
    return Prepared.read(place / "prepared")
