"""Inputs and outputs of a model on disk: `FILE.npz`, or a folder of in0.npy, in1.npy, … out0.npy, …"""

import os

import numpy as np


def read(path, prefix):
    """The arrays `prefix`0, `prefix`1, … in order, until the first that is missing."""
    found = []
    if os.path.isdir(path):
        while os.path.exists(name := os.path.join(path, f"{prefix}{len(found)}.npy")):
            found.append(np.load(name))
        return found
    with np.load(path) as archive:
        while (name := f"{prefix}{len(found)}") in archive:
            found.append(archive[name])
    return found


def write_outputs(path, arrays):
    """Writes `arrays` as out0, out1, … into an .npz."""
    np.savez(path, **{f"out{index}": array for index, array in enumerate(arrays)})
