"""Judges on trial: sound files must pass, every planted defect must be found.

usage: selftest.py --binary encircle [--venvs DIR]
Builds tiny files with the published binding; seconds.
"""

import argparse
import contextlib
import io
import os
import subprocess
import sys
import tempfile

import numpy as np

import circle_file
import schema_check
from circle_file import TYPE, Editor, OP, schema

HERE = os.path.dirname(os.path.abspath(__file__))


def norm_and_linear():
    """RMS_NORM (rank 3, or onert refuses), then FULLY_CONNECTED; both values are outputs."""
    rng = np.random.default_rng(7)
    gamma = rng.uniform(0.5, 1.5, 8).astype(np.float32)
    weight = rng.standard_normal((4, 8)).astype(np.float32)
    bias = rng.standard_normal(4).astype(np.float32)
    e = Editor()
    x, inner, y = (e.tensor([1, 3, n], name=name) for n, name in ((8, "x"), (8, "inner"), (4, "y")))
    e.graph.inputs, e.graph.outputs = [x], [y, inner]
    e.add(OP.RMS_NORM, [x, e.constant(gamma)], [inner], "RmsNormOptions", epsilon=1e-6)
    weights = [inner, e.constant(weight), e.constant(bias)]
    e.add(OP.FULLY_CONNECTED, weights, [y], "FullyConnectedOptions", keepNumDims=True)
    value = rng.standard_normal((1, 3, 8)).astype(np.float32)
    normed = value / np.sqrt((value**2).mean(-1, keepdims=True) + 1e-6) * gamma
    return e, {"in0": value, "out0": normed @ weight.T + bias, "out1": normed}


def parameters(scale, zero_point):
    """A quantization table."""
    table = schema.QuantizationParameters.QuantizationParametersT()
    table.scale, table.zeroPoint = scale, zero_point
    return table


def defects():
    """Name of a defect, what plants it, and a word of the message that must appear."""

    def quantize(tensor, dtype, scale, zero):
        def plant(e):
            e.graph.tensors[tensor].type = dtype
            e.graph.tensors[tensor].quantization = parameters(scale, zero)

        return plant

    def attribute(path, value):
        def plant(e):
            spot = e
            for part in path[:-1]:
                spot = spot[part] if isinstance(part, int) else getattr(spot, part)
            setattr(spot, path[-1], value)

        return plant

    graph, codes = ("graph",), ("model", "operatorCodes")
    first, second = (*graph, "operators", 0), (*graph, "operators", 1)
    weight = (*graph, "tensors", 4)
    return [
        ("no name", attribute((*weight, "name"), ""), "no name"),
        ("same name twice", attribute((*weight, "name"), "x"), "are named"),
        ("short payload", attribute((*weight, "shape"), [4, 9]), "payload: expected 144"),
        ("buffer index", attribute((*weight, "buffer"), 99), "buffer 99"),
        ("empty signature", attribute((*weight, "shapeSignature"), []), "shape_signature"),
        ("one opcode field", attribute((*codes, 1, "deprecatedBuiltinCode"), 0), "deprecated code"),
        ("opcode index", attribute((*first, "opcodeIndex"), 9), "code 9"),
        ("no options", attribute((*first, "builtinOptions"), None), "no option table"),
        ("epsilon left out", attribute((*first, "builtinOptions", "epsilon"), 0.0), "epsilon"),
        ("two inputs", attribute((*second, "inputs"), [1, 4]), "expected 3 inputs"),
        ("input index", attribute((*second, "inputs"), [1, 4, 77]), "inputs [1, 4, 77]"),
        ("order", lambda e: e.graph.operators.reverse(), "before it is made"),
        ("two producers", attribute((*second, "outputs"), [1]), "made twice"),
        ("lost output", attribute((*graph, "outputs"), [2, 99]), "outputs [2, 99]"),
        ("lengths", quantize(0, TYPE.UINT8, [1.0, 2.0], [0]), "2 scales, 1 zero points"),
        ("channels", quantize(0, TYPE.UINT8, [1.0, 2.0], [0, 0]), "2 scales along axis 0"),
        ("int16 zero point", quantize(0, TYPE.INT16, [1.0], [3]), "zero point beyond"),
        ("zero scale", quantize(0, TYPE.UINT8, [0.0], [0]), "scale 0.0"),
        ("quantized float", quantize(0, TYPE.FLOAT32, [1.0], [0]), "of a float type"),
    ]


def found(data):
    """What schema_check says about `data`, without printing it."""
    with tempfile.NamedTemporaryFile(suffix=".circle") as file:
        file.write(data)
        file.flush()
        said = io.StringIO()
        with contextlib.redirect_stdout(said):
            sound = schema_check.report(file.name, 16, False)
    return sound, said.getvalue()


def schema_trials():
    sound, said = found(circle_file.pack(norm_and_linear()[0].model))
    assert sound, said
    assert "without quantization: FLOAT32 6" in said, said
    for name, plant, word in defects():
        editor, _ = norm_and_linear()
        plant(editor)
        sound, said = found(circle_file.pack(editor.model))
        assert not sound and word in said, f"{name}: expected {word!r} in:\n{said}"
    good = circle_file.pack(norm_and_linear()[0].model)
    for name, data in (("identifier", good[:4] + b"TFL3" + good[8:]), ("truncated", good[:200])):
        assert not found(data)[0], name
    print(f"schema_check: {len(defects()) + 2} planted defects found")


def runtime_trials(venvs):
    with tempfile.TemporaryDirectory() as scratch:
        path, values = os.path.join(scratch, "m.circle"), os.path.join(scratch, "io.npz")
        editor, arrays = norm_and_linear()
        np.savez(values, **arrays)
        with open(path, "wb") as file:
            file.write(circle_file.pack(editor.model))
        command = [sys.executable, os.path.join(HERE, "compare.py"), path, values, "--venvs", venvs]
        good = subprocess.run(command, capture_output=True, text=True)
        print(good.stdout, end="")
        assert good.returncode == 0, good.stdout + good.stderr
        arrays["out0"] = arrays["out0"] + 0.01
        np.savez(values, **arrays)
        wrong = subprocess.run(command, capture_output=True, text=True)
        assert wrong.returncode == 1 and "beyond" in wrong.stdout, wrong.stdout
        good_bytes = circle_file.pack(editor.model)
        editor.graph.operators[1].builtinOptions = None  # onert dereferences it
        for data in (good_bytes[:300], circle_file.pack(editor.model)):
            with open(path, "wb") as file:
                file.write(data)
            broken = subprocess.run(command, capture_output=True, text=True)
            assert broken.returncode == 1 and "failed" in broken.stdout, broken.stdout
        assert "crashed with SIGSEGV" in broken.stdout, broken.stdout
    print("compare: wrong numbers, a truncated file and a crashing file were refused")


def quantized_trial(venvs, binary):
    """Integers through `encircle export --qdq` against the same arithmetic in NumPy."""
    editor, arrays = norm_and_linear()
    x, inner, y = editor.graph.tensors[:3]
    x.type, x.quantization = TYPE.UINT8, parameters([0.03], [128])
    inner.type, inner.quantization = TYPE.INT16, parameters([1e-4], [0])
    y.type, y.quantization = TYPE.INT16, parameters([1e-3], [0])
    rng = np.random.default_rng(8)
    codes = rng.integers(0, 16, (4, 8)).astype(np.uint8)
    scale, zero = rng.uniform(0.1, 0.2, 4), np.array([7, 8, 8, 9])
    packed = codes.reshape(-1, 2)
    weight = editor.graph.tensors[4]
    weight.type, weight.quantization = TYPE.UINT4, parameters(list(scale), list(zero))
    weight.buffer = editor.buffer(packed[:, 0] | (packed[:, 1] << 4))
    sound, said = found(circle_file.pack(editor.model))
    assert sound, said

    def grid(value, step, offset, low, high):
        return (np.clip(np.rint(value / step) + offset, low, high) - offset) * step

    gamma, bias = (
        np.frombuffer(circle_file.payload(editor.model, editor.graph.tensors[i]), np.float32)
        for i in (3, 5)
    )
    value = grid(arrays["in0"], 0.03, 128, 0, 255)
    normed = value / np.sqrt((value**2).mean(-1, keepdims=True) + 1e-6) * gamma
    normed = grid(normed, 1e-4, 0, -32768, 32767)
    real = (codes - zero[:, None]) * scale[:, None]
    arrays["out0"] = grid(normed @ real.T + bias, 1e-3, 0, -32768, 32767)
    arrays["out1"] = normed
    with tempfile.TemporaryDirectory() as scratch:
        paths = [os.path.join(scratch, name) for name in ("q.circle", "f.circle", "io.npz")]
        with open(paths[0], "wb") as file:
            file.write(circle_file.pack(editor.model))
        np.savez(paths[2], **arrays)
        export = [binary, "export", paths[0], "--qdq", "-o", paths[1]]
        subprocess.run(export, check=True, stdout=subprocess.DEVNULL)
        command = [sys.executable, os.path.join(HERE, "compare.py"), *paths[1:], "--venvs", venvs]
        command += ["--tolerance", "1e-3", "--only", "onert 0.2 dev", "LiteRT reference"]
        done = subprocess.run(command, capture_output=True, text=True)
        print(done.stdout, end="")
        assert done.returncode == 0, done.stdout + done.stderr
    print("qdq: uint8, int16 and uint4 agree with NumPy")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--venvs", default=os.path.join(HERE, "..", "..", "target", "judges"))
    parser.add_argument("--binary", required=True)
    a = parser.parse_args()
    schema_trials()
    runtime_trials(a.venvs)
    quantized_trial(a.venvs, a.binary)


if __name__ == "__main__":
    main()
