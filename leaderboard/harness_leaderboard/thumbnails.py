"""Small JPEG images of files in one folder, made when they are shown. Nothing outside the folder is read."""

from __future__ import annotations

import io
from pathlib import Path

from PIL import Image, ImageOps

from harness.files import Damage, read_bytes

SIDE = 320
MOST_BYTES = 1 << 27
FORMATS = ("PNG", "JPEG", "BMP", "GIF", "WEBP", "TIFF", "PPM")
"""Pillow also opens forms that start other programs (EPS), which a thumbnail is not worth."""


class NoThumbnail(Exception):
    """Why an image cannot be shown, in a few words."""


def image_file(folder: str, name: str) -> Path:
    """The file of a name in a folder.

    Args:
        folder: absolute.
        name: relative to it; of anyone.

    Raises:
        NoThumbnail: where the name, or a link in the folder, leads elsewhere, or there is no such file.
    """
    try:
        home = Path(folder).resolve(strict=True)
        path = (home / name).resolve(strict=True)
    except (OSError, ValueError, RuntimeError):  # a NUL is a ValueError, a loop of links a RuntimeError up to 3.12
        raise NoThumbnail("The file is not there.") from None
    if not path.is_relative_to(home) or path == home:
        raise NoThumbnail("The file lies outside the data's folder and is not read.")
    return path


def thumbnail(path: Path) -> bytes:
    """A JPEG of at most 320 pixels on a side.

    Raises:
        NoThumbnail: for a file that cannot be read as an image.
    """
    try:
        content = read_bytes(path, most=MOST_BYTES)
        if content is None:
            raise NoThumbnail("The file is not there.")
        with Image.open(io.BytesIO(content), formats=FORMATS) as image:
            image.draft("RGB", (SIDE, SIDE))
            upright = ImageOps.exif_transpose(image)
            upright.thumbnail((SIDE, SIDE))
            out = io.BytesIO()
            upright.convert("RGB").save(out, "JPEG", quality=85)
            return out.getvalue()
    except (Damage, OSError, SyntaxError, ValueError, TypeError, EOFError, Image.DecompressionBombError):
        raise NoThumbnail("The file cannot be read as an image.") from None
