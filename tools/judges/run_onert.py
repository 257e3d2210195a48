"""Runs a Circle file on onert through its C API.

usage: run_onert.py FILE.circle IO OUT.npz [--timeout SECONDS] [--backend cpu]
IO is an .npz or a folder of .npy with in0, in1, …; OUT.npz receives out0, out1, …

The Python API of onert corrupts a graph output that a later operator reads, and malformed files
crash the runtime, so this uses the C API with our own output memory in a child process.
"""

import argparse
import ctypes
import importlib.util
import os
import signal
import subprocess
import sys

import numpy as np

import golden_io

MAX_RANK = 6
# NNFW_TYPE in the order of onert's header; 7 exists in the pre-release only
DTYPES = [np.float32, np.int32, np.uint8, np.bool_, np.uint8, np.int64, np.int8, np.int16]


class TensorInfo(ctypes.Structure):
    """nnfw_tensorinfo"""

    _fields_ = [
        ("dtype", ctypes.c_int),
        ("rank", ctypes.c_int32),
        ("dims", ctypes.c_int32 * MAX_RANK),
    ]

    def shape(self):
        return list(self.dims[: self.rank])


class Session:
    """A loaded model. Every failed call raises with the name of the call."""

    def __init__(self, path, backend, inputs):
        package = os.path.dirname(importlib.util.find_spec("onert").origin)
        self.library = ctypes.CDLL(os.path.join(package, "native", "libonert.so"))
        self.handle = ctypes.c_void_p()
        self.call("create_session", ctypes.byref(self.handle), session=False)
        self.call("load_model_from_file", path.encode())
        self.call("set_available_backends", backend.encode())
        self.resize(inputs)
        self.call("prepare")

    def call(self, name, *args, session=True):
        args = (self.handle, *args) if session else args
        status = getattr(self.library, f"nnfw_{name}")(*args)
        if status != 0:
            raise RuntimeError(f"nnfw_{name} returned {status}")

    def infos(self, side):
        count = ctypes.c_uint32()
        self.call(f"{side}_size", ctypes.byref(count))
        found = []
        for index in range(count.value):
            info = TensorInfo()
            self.call(f"{side}_tensorinfo", ctypes.c_uint32(index), ctypes.byref(info))
            found.append(info)
        return found

    def resize(self, inputs):
        """Gives dynamic inputs the shapes of their arrays."""
        for index, (info, value) in enumerate(zip(self.infos("input"), inputs)):
            if -1 in info.shape():
                for axis, extent in enumerate(value.shape):
                    info.dims[axis] = extent
                self.call("set_input_tensorinfo", ctypes.c_uint32(index), ctypes.byref(info))

    def bind(self, side, index, info, array):
        pointer = array.ctypes.data_as(ctypes.c_void_p)
        size = ctypes.c_size_t(array.nbytes)
        self.call(f"set_{side}", ctypes.c_uint32(index), info.dtype, pointer, size)

    def run(self, inputs):
        infos = self.infos("input")
        if len(infos) != len(inputs):
            raise RuntimeError(f"the file takes {len(infos)} inputs, found {len(inputs)}")
        kept = []  # the runtime holds pointers only
        for index, (info, value) in enumerate(zip(infos, inputs)):
            array = np.ascontiguousarray(value, DTYPES[info.dtype])
            if array.size != int(np.prod(info.shape())):
                raise RuntimeError(f"input {index}: expected {info.shape()}, found {value.shape}")
            kept.append(array)
            self.bind("input", index, info, array)
        outputs = []
        for index, info in enumerate(self.infos("output")):
            outputs.append(np.zeros(info.shape(), DTYPES[info.dtype]))
            self.bind("output", index, info, outputs[-1])
        self.call("run")
        return outputs


def guarded(arguments, timeout):
    """Runs this script as a child; returns what went wrong, or None."""
    command = [sys.executable, os.path.abspath(__file__), "--child", *arguments]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=timeout)
    except subprocess.TimeoutExpired:
        return f"no answer after {timeout} s"
    if done.returncode == 0:
        return None
    said = [line for line in (done.stdout + done.stderr).splitlines() if line.strip()]
    reasons = [line for line in said if line.lower().startswith("error")] or said[-1:]
    if done.returncode < 0:
        reasons.insert(0, f"crashed with {signal.Signals(-done.returncode).name}")
    return "; ".join(reasons) or f"exit code {done.returncode}"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("file")
    parser.add_argument("io")
    parser.add_argument("out")
    parser.add_argument("--timeout", type=float, default=300)
    parser.add_argument("--backend", default="cpu")
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    a = parser.parse_args()
    if a.child:
        inputs = golden_io.read(a.io, "in")
        outputs = Session(a.file, a.backend, inputs).run(inputs)
        golden_io.write_outputs(a.out, outputs)
        sys.stdout.flush()
        os._exit(0)  # a broken file may crash the runtime while it is torn down
    problem = guarded([a.file, a.io, a.out, "--backend", a.backend], a.timeout)
    if problem:
        print(f"{a.file}: onert: {problem}", file=sys.stderr)
        sys.exit(1)


if __name__ == "__main__":
    main()
