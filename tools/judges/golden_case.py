"""A sample of Hugging Face's golden values as arrays for a runtime.

usage: golden_case.py GOLDEN OUT
Reads inputs.safetensors and golden.safetensors of the folder GOLDEN; writes OUT/in0.npy (ids),
OUT/in1.npy (pixels) and OUT/out0.npy (the logits of transformers in f32) of the first sample.
"""

import json
import os
import sys

import numpy as np


def tensor(path, name):
    """One tensor of a safetensors file."""
    kinds = {"F32": np.float32, "I64": np.int64, "I32": np.int32, "U8": np.uint8}
    with open(path, "rb") as file:
        length = int.from_bytes(file.read(8), "little")
        entry = json.loads(file.read(length))[name]
        start, end = entry["data_offsets"]
        file.seek(8 + length + start)
        array = np.frombuffer(file.read(end - start), kinds[entry["dtype"]])
    return array.reshape(entry["shape"])


def main():
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    golden, out = sys.argv[1:]
    inputs, values = (os.path.join(golden, f"{n}.safetensors") for n in ("inputs", "golden"))
    os.makedirs(out, exist_ok=True)
    np.save(os.path.join(out, "in0.npy"), tensor(inputs, "0.input_ids").astype(np.int64))
    # Stored as 8-bit pixels; the processor maps them to -1 … 1.
    pixels = tensor(inputs, "0.pixels").astype(np.float32) / np.float32(255)
    np.save(os.path.join(out, "in1.npy"), (pixels - np.float32(0.5)) / np.float32(0.5))
    np.save(os.path.join(out, "out0.npy"), tensor(values, "0.logits"))


if __name__ == "__main__":
    main()
