#!/usr/bin/env python3
"""Writes frames and what torchvision's bicubic resizing with antialias, which is torch's on 8-bit
tensors, makes of them: `K.from.png`, `K.to.png`.

Usage: resize.py FOLDER; needs torch, pillow and numpy.
"""

import sys
from pathlib import Path

import numpy
import torch
from PIL import Image

# Height and width, before and after.
SIZES = [
    ((60, 20), (12, 20)),
    ((61, 23), (8, 16)),
    ((90, 12), (7, 24)),
    ((20, 61), (32, 8)),
    ((13, 17), (32, 40)),
    ((24, 30), (24, 16)),
    ((33, 29), (32, 32)),
]


def main():
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    noise = numpy.random.default_rng(0)
    for k, ((height, width), target) in enumerate(SIZES):
        # Hard edges, where the rounding between the passes shows most.
        picture = noise.choice([0, 30, 255], (height, width, 3), p=[0.4, 0.2, 0.4]).astype("uint8")
        frame = torch.from_numpy(picture).permute(2, 0, 1)[None].contiguous()
        resized = torch.nn.functional.interpolate(frame, target, mode="bicubic", antialias=True)
        Image.fromarray(picture).save(folder / f"{k}.from.png", optimize=True)
        resized = resized[0].permute(1, 2, 0).contiguous().numpy()
        Image.fromarray(resized).save(folder / f"{k}.to.png", optimize=True)


main()
