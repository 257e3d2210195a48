#!/usr/bin/env python3
"""Writes pictures and what the reference makes of them into FILE, tests/data/pictures/expected.safetensors:
`resize.K.target` is torch's bicubic resizing with antialias of `resize.K.source`, which is torchvision's;
`process.K.pixel_values` and `video.pixel_values` are what transformers' image processor makes of
`process.K.source` and `video.frames`. What else is there stays.

Usage: resize.py FILE; needs torch, torchvision, transformers 4.57.3, safetensors and numpy.
"""

import sys

import numpy
import torch
from safetensors.numpy import load_file, save_file
from transformers import Qwen2VLImageProcessorFast

# Height and width of pictures from `resize.9` on, before and after.
SIZES = [
    ((60, 20), (12, 20)),
    ((61, 23), (8, 16)),
    ((90, 12), (7, 24)),
    ((20, 61), (32, 8)),
    ((13, 17), (32, 40)),
    ((24, 30), (24, 16)),
    ((33, 29), (32, 32)),
]


def planes(pixels):
    return torch.from_numpy(pixels).movedim(-1, -3).contiguous()


def main():
    arrays = load_file(sys.argv[1])
    noise = numpy.random.default_rng(0)
    for k, (before, after) in enumerate(SIZES, 9):
        # Hard edges, where the rounding between the passes shows most.
        picture = noise.choice([0, 30, 255], (*before, 3), p=[0.4, 0.2, 0.4]).astype("uint8")
        arrays[f"resize.{k}.source"], arrays[f"resize.{k}.target"] = picture, numpy.empty(after)
    for k in range(9 + len(SIZES)):
        source, target = (arrays[f"resize.{k}.{which}"] for which in ("source", "target"))
        resized = torch.nn.functional.interpolate(
            planes(source)[None], target.shape[:2], mode="bicubic", antialias=True
        )
        arrays[f"resize.{k}.target"] = resized[0].permute(1, 2, 0).contiguous().numpy()
    processor = Qwen2VLImageProcessorFast(min_pixels=1024, max_pixels=1536, patch_size=4)
    for k in range(3):
        patches = processor(planes(arrays[f"process.{k}.source"]), return_tensors="pt")
        arrays[f"process.{k}.pixel_values"] = patches["pixel_values"].numpy()
    patches = processor(images=None, videos=[planes(arrays["video.frames"])], return_tensors="pt")
    arrays["video.pixel_values"] = patches["pixel_values_videos"].numpy()
    save_file(arrays, sys.argv[1])


main()
