"""Files of torchvision's data sets are verified before anything is read: a wrong one is one line that names it."""

import pytest
from pictures import section

from pipeline.data.sources.open import open_source
from pipeline.errors import DataError


def refused(root, name: str) -> str:
    file = root / "FashionMNIST" / name
    file.parent.mkdir(parents=True)
    file.write_bytes(b"no")
    with pytest.raises(DataError) as caught:
        open_source(section("fashion_mnist", root))
    text = str(caught.value)
    assert text.startswith(f"{file} ") and text.isprintable()
    return text.removeprefix(f"{file} ")


def test_a_wrong_md5_is_reported_before_anything_is_used(tmp_path):
    said = refused(tmp_path, "raw/train-images-idx3-ubyte.gz")
    assert said.startswith(
        "has MD5 7fa3b767c460b54a2be4d49030b349c7, expected 8d4fb7e6c68d591d4c3dfef9ec88bf0d: remove"
    )


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("raw/train-images-idx3-ubyte", "expected f4a8712d7a061bf5bd6d2ca38dc4d50a: remove it"),
        ("raw/t10k-labels-idx1-ubyte", "expected 15d484375f8d13e6eb1aabb0c3f46965: remove it"),
        ("processed/training.pt", "is of an old version of torchvision and cannot be verified: remove it"),
    ],
)
def test_extracted_files_of_fashion_mnist_are_verified(tmp_path, name, message):
    assert message in refused(tmp_path, name)
