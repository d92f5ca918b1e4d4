"""Reading QR pictures: what a scanner or a telephone made becomes text; anything else is told, and never trusted."""

from __future__ import annotations

import io
import sys

import pytest
import segno
from PIL import Image

from propagator import picture
from propagator.core import code
from propagator.core.errors import InputError
from tests.unit.test_statement import sealed

TEXT = code.for_picture(code.write(sealed()))


def drawn(*, form: str = "PNG", turned: float = 0) -> bytes:
    """Draw the code as a portal does, and take a picture of it."""
    plain = io.BytesIO()
    segno.make(TEXT, error="m").save(plain, kind="png", scale=4)
    if form == "PNG" and not turned:
        return plain.getvalue()
    photo = io.BytesIO()
    with Image.open(plain) as image:
        image.convert("RGB").rotate(turned, expand=True, fillcolor="white").save(photo, form, quality=75)
    return photo.getvalue()


@pytest.mark.parametrize(
    "raw",
    [drawn(), drawn(turned=8), drawn(form="JPEG"), drawn(form="JPEG", turned=90)],
    ids=["png", "skew", "jpeg", "on its side"],
)
def test_picture_gives_the_text_that_it_holds(raw: bytes) -> None:
    assert picture.is_picture(raw)
    assert picture.texts(raw) == (TEXT,)


def test_picture_without_a_code_gives_none() -> None:
    blank = io.BytesIO()
    Image.new("L", (100, 100), "white").save(blank, "PNG")
    assert picture.texts(blank.getvalue()) == ()


@pytest.mark.parametrize("raw", [b"", TEXT.encode(), b"GIF89a", b"%PDF-1.7"], ids=["nothing", "text", "gif", "pdf"])
def test_what_is_no_png_or_jpeg_is_no_picture(raw: bytes) -> None:
    assert not picture.is_picture(raw)


@pytest.mark.parametrize("length", [9, 60, 400])
def test_damaged_picture_is_told(length: int) -> None:
    with pytest.raises(InputError, match="damaged") as raised:
        picture.texts(drawn()[:length])
    assert raised.value.hint


@pytest.mark.parametrize("side", [10_000, 20_000], ids=["as many as Pillow warns of", "more than it opens"])
def test_small_file_with_a_picture_beyond_all_measure_is_refused(side: int) -> None:
    bomb = io.BytesIO()
    Image.new("1", (side, side)).save(bomb, "PNG")
    assert len(bomb.getvalue()) < 100_000
    with pytest.raises(InputError, match="more pixels than any camera"):
        picture.texts(bomb.getvalue())


@pytest.mark.parametrize("missing", ["PIL", "zxingcpp"])
def test_missing_library_is_told_with_the_extra_that_brings_it(missing: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, missing, None)  # as if it were not installed
    with pytest.raises(InputError, match="needs zxing-cpp and Pillow") as raised:
        picture.texts(drawn() if missing == "zxingcpp" else b"\x89PNG\r\n\x1a\n")
    assert raised.value.hint == "pip install 'propagator[qr]'"
