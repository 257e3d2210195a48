#!/usr/bin/env python3
"""Writes small JPEG files of all kinds, and beside each what PIL makes of it: `NAME.jpg`, `NAME.png`.

Usage: jpeg.py FOLDER; needs pillow and numpy.
"""

import sys
from pathlib import Path

import numpy
from PIL import Image

KINDS = {
    "full": {"subsampling": 0},
    "half": {"subsampling": 1},
    "quarter": {"subsampling": 2},
    "fine": {"subsampling": 2, "quality": 98},
    "coarse": {"subsampling": 2, "quality": 10},
    "progressive": {"subsampling": 2, "progressive": True},
    "restarts": {"subsampling": 1, "restart_marker_blocks": 2},
    "grey": {},
    "cmyk": {},
    "colours": {"keep_rgb": True},
}
MODES = {"grey": "L", "cmyk": "CMYK"}


def main():
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    noise = numpy.random.default_rng(0)
    for name, options in KINDS.items():
        # Sides that are no multiple of a block; slopes, an edge and noise.
        rows, columns = numpy.mgrid[0:21, 0:39]
        waves = [rows * 9 + columns, columns * 5 + 20, (rows + columns) * 4]
        picture = numpy.stack(waves, axis=-1) + noise.integers(-25, 25, (21, 39, 3))
        picture[:, 17:] = 255 - picture[:, 17:]
        picture = Image.fromarray(picture.clip(0, 255).astype("uint8"))
        file = folder / f"{name}.jpg"
        picture.convert(MODES.get(name, "RGB")).save(file, **{"quality": 80, **options})
        Image.open(file).convert("RGB").save(file.with_suffix(".png"), optimize=True)


main()
