"""Reading QR pictures: a file as a scanner or a telephone took it becomes the text that it holds.

Needs zxing-cpp and Pillow, the extra `qr`; loaded only where there is a picture to read.
"""

from __future__ import annotations

import importlib.util
import io
import warnings
from typing import Final

from propagator.core.errors import InputError

_PNG: Final = b"\x89PNG\r\n\x1a\n"
_JPEG: Final = b"\xff\xd8\xff"


def is_picture(raw: bytes) -> bool:
    """Say whether this is a PNG or JPEG file."""
    return raw.startswith((_PNG, _JPEG))


def texts(raw: bytes) -> tuple[str, ...]:
    """Read every QR code of a picture. Raises InputError where it is none, or what is needed to read it is missing."""
    missing = [name for name in ("PIL", "zxingcpp") if importlib.util.find_spec(name) is None]
    if missing:
        raise InputError("Reading a picture needs zxing-cpp and Pillow.", hint="pip install 'propagator[qr]'")
    import zxingcpp  # noqa: PLC0415  large, and needed for pictures alone
    from PIL import Image  # noqa: PLC0415

    try:
        with (
            warnings.catch_warnings(action="error", category=Image.DecompressionBombWarning),
            Image.open(io.BytesIO(raw), formats=("PNG", "JPEG")) as image,
        ):
            plain = image.convert("L")
    except (Image.DecompressionBombWarning, Image.DecompressionBombError) as error:  # a small file may hold any size
        raise InputError("The picture has more pixels than any camera makes.", hint="make it smaller") from error
    except (OSError, SyntaxError, ValueError) as error:  # what Pillow raises for damaged files
        raise InputError("The picture is damaged, or no PNG or JPEG.", hint="save or take it again") from error
    found = zxingcpp.read_barcodes(plain, formats=zxingcpp.BarcodeFormats([zxingcpp.BarcodeFormat.QRCode]))
    return tuple(code.text for code in found)
