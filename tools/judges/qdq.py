"""Rewrites a quantized Circle file as a float one that passes every value through its grid.

usage: qdq.py FILE.q.circle OUT.circle

No runtime at hand executes int16 activations or uint4 weights of Circle. This keeps the meaning
of the file and needs less: constants are dequantized, and each annotated activation goes through
QUANTIZE and DEQUANTIZE with the file's own scale and zero point. Inputs and outputs become float.
"""

import argparse

import numpy as np

import circle_file
from circle_file import OP, TYPE, Editor, ints, payload


def codes_of(dtype, raw, shape):
    """The stored integers of a constant."""
    count = int(np.prod(shape, dtype=np.int64)) if shape else 1
    if dtype in (TYPE.UINT4, TYPE.INT4):
        packed = np.frombuffer(raw, np.uint8)
        codes = np.stack([packed & 15, packed >> 4], axis=1).reshape(-1)[:count].astype(np.int64)
        if dtype == TYPE.INT4:
            codes = (codes ^ 8) - 8
        return codes.reshape(shape)
    return np.frombuffer(raw, circle_file.NUMPY[dtype]).reshape(shape)


def dequantize(tensor, raw):
    """The real numbers a quantized constant stands for."""
    shape, table = ints(tensor.shape), tensor.quantization
    scale, zero = np.array(table.scale, np.float64), np.array(table.zeroPoint, np.float64)
    if len(scale) > 1:
        channel = [1] * len(shape)
        channel[table.quantizedDimension] = -1
        scale, zero = scale.reshape(channel), zero.reshape(channel)
    codes = codes_of(tensor.type, raw, shape)
    return ((codes - zero) * scale).astype(np.float32)


class Rewrite:
    """The file on its way to float."""

    def __init__(self, model):
        self.model, self.editor = model, Editor(model)
        self.graph = self.editor.graph
        self.grids, self.operators = {}, []
        for index, tensor in enumerate(list(self.graph.tensors)):
            self.unquantize(index, tensor)

    def unquantize(self, index, tensor):
        table = tensor.quantization
        if table is None or table.scale is None or len(table.scale) == 0:
            return
        raw = payload(self.model, tensor)
        if raw is None:
            self.grids[index] = (tensor.type, table)
        else:
            tensor.buffer = self.editor.buffer(dequantize(tensor, raw))
        tensor.type, tensor.quantization = TYPE.FLOAT32, None

    def through_grid(self, source, target):
        """`target` becomes `source` rounded to the grid of `target`."""
        dtype, table = self.grids[target]
        shape = ints(self.graph.tensors[target].shape)
        stored = self.editor.tensor(shape, dtype, quantization=table)
        make = self.editor.operator
        self.operators.append(make(OP.QUANTIZE, [source], [stored], "QuantizeOptions"))
        self.operators.append(make(OP.DEQUANTIZE, [stored], [target], "DequantizeOptions"))

    def fresh(self, like):
        """A new float tensor of the shape of `like`."""
        return self.editor.tensor(ints(self.graph.tensors[like].shape))

    def step(self, operator):
        code = self.model.operatorCodes[operator.opcodeIndex].builtinCode
        outputs = ints(operator.outputs)
        if code == OP.QUANTIZE:  # from one grid to another: the float value in between is enough
            self.through_grid(int(operator.inputs[0]), outputs[0])
            return
        rounded = [(index, self.fresh(index)) for index in outputs if index in self.grids]
        renamed = dict(rounded)
        operator.outputs = [renamed.get(index, index) for index in outputs]
        self.operators.append(operator)
        for target, source in rounded:
            self.through_grid(source, target)

    def run(self):
        inputs = []
        for index in ints(self.graph.inputs):
            inputs.append(self.fresh(index) if index in self.grids else index)
            if index in self.grids:
                self.through_grid(inputs[-1], index)
        for operator in self.graph.operators:
            self.step(operator)
        self.graph.inputs, self.graph.operators = inputs, self.operators
        self.editor.drop_unused_codes()
        return circle_file.pack(self.model)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("file")
    parser.add_argument("out")
    a = parser.parse_args()
    with open(a.out, "wb") as file:
        file.write(Rewrite(circle_file.load(a.file)).run())


if __name__ == "__main__":
    main()
