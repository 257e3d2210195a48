"""Runs a float Circle file, or a TFLite file, on LiteRT.

usage: run_litert.py FILE.(circle|tflite) IO OUT.npz [--kernels xnnpack|builtin|reference]
IO is an .npz or a folder of .npy with in0, in1, …; OUT.npz receives out0, out1, …

Circle is TFLite plus some: the identifier and the version are switched, and RMS_NORM, which
LiteRT lacks, becomes MUL, MEAN, ADD, RSQRT, MUL, MUL. Everything else passes through.
"""

import argparse
import sys

import numpy as np

import circle_file
import golden_io
from circle_file import OP, TYPE

TFLITE_VERSION = 3
LEAST_VERSION = {OP.BROADCAST_TO: 2}  # LiteRT knows no version 1 of these


def decompose_rms_norm(editor, operator):
    """The six operators that compute what `operator` does."""
    x, gamma = (int(index) for index in operator.inputs)
    shape = circle_file.ints(editor.graph.tensors[x].shape)
    row = shape[:-1] + [1]
    last = editor.constant([len(shape) - 1], TYPE.INT32)
    epsilon = editor.constant(operator.builtinOptions.epsilon)
    square, unit = editor.tensor(shape), editor.tensor(shape)
    mean, shifted, inverse = editor.tensor(row), editor.tensor(row), editor.tensor(row)
    return [
        editor.operator(OP.MUL, [x, x], [square], "MulOptions"),
        editor.operator(OP.MEAN, [square, last], [mean], "ReducerOptions", keepDims=True),
        editor.operator(OP.ADD, [mean, epsilon], [shifted], "AddOptions"),
        editor.operator(OP.RSQRT, [shifted], [inverse]),
        editor.operator(OP.MUL, [x, inverse], [unit], "MulOptions"),
        editor.operator(OP.MUL, [unit, gamma], list(operator.outputs), "MulOptions"),
    ]


def to_tflite(data):
    """The bytes of a TFLite file with the meaning of the Circle file `data`."""
    model = circle_file.unpack(data)
    model.version = TFLITE_VERSION
    for code in model.operatorCodes:
        code.version = max(code.version, LEAST_VERSION.get(code.builtinCode, 1))
    editor = circle_file.Editor(model)
    operators = []
    for operator in editor.graph.operators:
        if model.operatorCodes[operator.opcodeIndex].builtinCode == OP.RMS_NORM:
            operators += decompose_rms_norm(editor, operator)
        else:
            operators.append(operator)
    editor.graph.operators = operators
    editor.drop_unused_codes()
    return circle_file.pack(model, b"TFL3")


def run(content, inputs, kernels):
    """The outputs of a TFLite file, in the order of its subgraph."""
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    resolver = {
        "xnnpack": OpResolverType.AUTO,
        "builtin": OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
        "reference": OpResolverType.BUILTIN_REF,
    }[kernels]
    interpreter = Interpreter(model_content=content, experimental_op_resolver_type=resolver)
    details = interpreter.get_input_details()
    if len(details) != len(inputs):
        raise RuntimeError(f"the file takes {len(details)} inputs, found {len(inputs)}")
    for detail, value in zip(details, inputs):
        if -1 in detail["shape_signature"]:
            interpreter.resize_tensor_input(detail["index"], value.shape)
    interpreter.allocate_tensors()
    details = interpreter.get_input_details()
    for detail, value in zip(details, inputs):
        array = np.ascontiguousarray(value, detail["dtype"]).reshape(detail["shape"])
        interpreter.set_tensor(detail["index"], array)
    interpreter.invoke()
    return [interpreter.get_tensor(d["index"]) for d in interpreter.get_output_details()]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("file")
    parser.add_argument("io")
    parser.add_argument("out")
    parser.add_argument("--kernels", default="xnnpack", choices=["xnnpack", "builtin", "reference"])
    a = parser.parse_args()
    with open(a.file, "rb") as file:
        content = file.read()
    try:
        if content[4:8] == b"CIR0":
            content = to_tflite(content)
        golden_io.write_outputs(a.out, run(content, golden_io.read(a.io, "in"), a.kernels))
    except (RuntimeError, ValueError) as error:
        print(f"{a.file}: LiteRT: {error}", file=sys.stderr)
        sys.exit(1)


if __name__ == "__main__":
    main()
