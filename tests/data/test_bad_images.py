"""Images that must not be opened: programs, pipes, bombs. Each is one line with its name, and nothing is printed."""

import os
import struct
import subprocess
import sys
import zlib
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
import torch
from pictures import encoded, make_folder, picture, section
from PIL import Image

from pipeline.data import decode as decoding
from pipeline.data.decode import decode, open_image
from pipeline.data.prepare import prepare
from pipeline.data.sources.open import open_source
from pipeline.data.sources.streamed import write_manifest
from pipeline.data.streaming import StreamedViews
from pipeline.errors import DataError

ROOT = Path(__file__).parents[2]
EPS = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 20 20\n%%EndComments\nshowpage\n"


@pytest.fixture
def ghostscript(tmp_path, monkeypatch) -> Path:
    """A fake `gs` first on PATH, and the file in which it leaves a trace."""
    program = tmp_path / "bin" / "gs"
    program.parent.mkdir()
    program.write_text(f"#!/bin/sh\necho started >> {tmp_path}/trace\nexit 1\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(program.parent) + os.pathsep + os.environ["PATH"])
    return tmp_path / "trace"


def test_no_program_is_started_for_an_image(tmp_path, ghostscript):
    root = make_folder(tmp_path / "set")
    (root / "train/cat/zz.png").write_bytes(EPS)
    data = section("folder", root)
    with pytest.raises(DataError, match=r"zz\.png is not an image, or its format is unknown: expected PNG, JPEG"):
        prepare(open_source(data), data, tmp_path / "prepared")
    source = open_source(section("folder", root, on_error="skip"))
    assert source.skipped[0][0] == "train/cat/zz.png" and not ghostscript.exists()


def png_of(width: int, height: int) -> bytes:
    """A PNG file with a header and almost no pixels."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0")) + chunk(b"IEND", b"")


@pytest.mark.parametrize("size", [(10_001, 10_000), (14_000, 7_143), (2**31 - 1, 2**31 - 1), (200_000, 1000)])
def test_a_bomb_is_refused_without_a_warning(recwarn, size):
    with pytest.raises(DataError, match=f"a has {size[0]}x{size[1]} pixels; at most 100,000,000 pixels are decoded"):
        decode(png_of(*size), "a", channels=3)
    assert not recwarn.list


def test_a_large_image_is_decoded_without_a_warning(tmp_path):
    out = BytesIO()
    Image.new("1", (10_000, 9_500)).save(out, "PNG")
    (tmp_path / "a.png").write_bytes(out.getvalue())
    code = (
        "import sys; from pathlib import Path; from pipeline.data.decode import decode\n"
        "print(decode(Path(sys.argv[1]), 'a', channels=1).shape)"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "a.png")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "(9500, 10000, 1)" and done.stderr == ""


@pytest.mark.parametrize("error", [MemoryError(), struct.error("a\nb"), SyntaxError("a\x1bb"), RuntimeError("x\ny")])
def test_every_exception_of_a_decoder_is_one_line(monkeypatch, error):
    def fail(*_):
        raise error

    monkeypatch.setattr(decoding.ImageOps, "exif_transpose", fail)
    with pytest.raises(DataError, match=r"^a\\n\\xff\.png cannot be decoded: ") as caught:
        decode(encoded(picture(0)), "a\n\udcff.png", channels=3)
    assert str(caught.value).isprintable()


@pytest.mark.timeout(20)
def test_only_bytes_and_regular_files_are_opened(tmp_path):
    os.mkfifo(tmp_path / "pipe.png")
    for path in (tmp_path / "pipe.png", tmp_path, Path("/dev/zero")):
        with pytest.raises(DataError, match="cannot be read: it is not a regular file"):
            decode(path, str(path), channels=3)
    for path in (tmp_path / "a\0b", tmp_path / ("x" * 5000), tmp_path / "none"):
        with pytest.raises(DataError, match="cannot be read: "):
            decode(path, str(path), channels=3)
    with pytest.raises(TypeError, match="an image must be a Path or bytes, got str"):
        open_image("a.png", "a")  # type: ignore[arg-type]


def test_a_photograph_of_several_pictures_is_decoded():
    out = BytesIO()
    picture(0).save(out, "MPO", save_all=True, append_images=[picture(1)])
    assert decode(out.getvalue(), "a", channels=3).shape == (10, 12, 3)


def streamed(tmp_path: Path, content: bytes) -> StreamedViews:
    file = tmp_path / "set/train/cat/00.jpg"
    make_folder(tmp_path / "set")
    file.write_bytes(content)
    write_manifest(tmp_path / "set", tmp_path / "manifest", on_error="fail")
    source = open_source(section("folder", tmp_path / "manifest", storage="stream"))
    assert source.manifest is not None
    split = source.splits["train"]
    table = source.manifest.times["train"].with_columns(source=np.array(split.names))
    options = {"mean": [0.0] * 3, "std": [1.0] * 3, "image_size": (8, 8), "flip": False, "num_classes": 2}
    return StreamedViews(
        source.manifest.root, table, split.labels.copy(), device=torch.device("cpu"), workers=0, **options
    )


def jpeg_of(size=(12, 10)) -> bytes:
    out = BytesIO()
    picture(0, size).save(out, "JPEG")
    return out.getvalue()


def test_a_streamed_jpeg_has_the_bits_that_torchvision_reads(tmp_path):
    from torchvision.io import ImageReadMode, decode_jpeg, read_file

    views = streamed(tmp_path, jpeg_of())
    file = views.root / views.names[0]
    assert file.suffix == ".jpg"
    assert torch.equal(views.decode(0), decode_jpeg(read_file(str(file)), ImageReadMode.RGB))


def test_a_streamed_bomb_is_refused_by_its_header(tmp_path):
    content = bytearray(jpeg_of())
    start = content.index(b"\xff\xc0")
    content[start + 5 : start + 9] = struct.pack(">HH", 65000, 65000)
    with pytest.raises(DataError, match=r"train/cat/00\.jpg has 65000x65000 pixels"):
        streamed(tmp_path, bytes(content)).decode(0)


def test_a_damaged_streamed_image_is_named(tmp_path):
    with pytest.raises(DataError, match=r"train/cat/00\.jpg cannot be decoded: "):
        streamed(tmp_path, jpeg_of((100, 100))[:900]).decode(0)


@pytest.mark.timeout(20)
def test_a_pipe_instead_of_a_streamed_image_is_named(tmp_path):
    views = streamed(tmp_path, jpeg_of())
    file = views.root / views.names[0]
    file.unlink()
    os.mkfifo(file)
    views.sizes[0], views.mtimes[0] = 0, file.stat().st_mtime_ns
    with pytest.raises(DataError, match=r"00\.jpg cannot be read: it is not a regular file"):
        views.decode(0)
