"""Checks a Circle file against the published schema and against what runtimes trip over.

usage: schema_check.py FILE.circle … [--alignment 16] [--real-unquantized-is-error]
Prints counts, then one line per problem; exit code 1 when there is one.
"""

import argparse
import collections
import sys

import numpy as np

import circle_file
from circle_file import OP, OPERATORS, OPTIONS, TENSOR_TYPES, TYPE, ints, text

# operators whose loaders read no option table
BARE = {OP.LOGISTIC, OP.TANH, OP.RELU, OP.RELU6, OP.RSQRT, OP.SQRT, OP.SIN, OP.LOG, OP.FLOOR}
# operators whose option table is not named after them
TABLES = {
    "MEAN": "ReducerOptions",
    "SUM": "ReducerOptions",
    "REDUCE_MAX": "ReducerOptions",
    "CONV_2D": "Conv2DOptions",
    "ROPE": "RoPEOptions",
    "BATCH_MATMUL": "BatchMatMulOptions",
    "TOPK_V2": "TopKV2Options",
}
INPUTS = {OP.FULLY_CONNECTED: 3, OP.CONV_2D: 3, OP.BATCH_MATMUL: 2, OP.RMS_NORM: 2}
INTEGER_LIMITS = {
    TYPE.UINT4: (0, 15),
    TYPE.INT4: (-8, 7),
    TYPE.UINT8: (0, 255),
    TYPE.INT8: (-128, 127),
    TYPE.INT16: (0, 0),
    TYPE.INT32: (0, 0),
    TYPE.INT64: (0, 0),
}
BLOCK = 32
BLOCK_BYTES = {TYPE.GGML_Q4_0: 18, TYPE.GGML_Q8_0: 34}
FLOATS = {TYPE.FLOAT32, TYPE.FLOAT16, TYPE.BFLOAT16, TYPE.FLOAT64}


def option_table(name):
    """The option table an operator carries by the schema's naming habit."""
    return TABLES.get(name, "".join(part.capitalize() for part in name.split("_")) + "Options")


def payload_bytes(dtype, shape):
    """How many bytes a constant occupies, or None where the type has no fixed size."""
    count = int(np.prod(shape, dtype=np.int64)) if shape else 1
    if dtype in (TYPE.INT4, TYPE.UINT4):
        return (count + 1) // 2
    if dtype in BLOCK_BYTES:
        return count // BLOCK * BLOCK_BYTES[dtype]
    if dtype == TYPE.BFLOAT16:
        return 2 * count
    return count * np.dtype(circle_file.NUMPY[dtype]).itemsize if dtype in circle_file.NUMPY else None


class Check:
    """One walk over one file."""

    def __init__(self, data, alignment):
        self.data, self.alignment, self.problems, self.warnings = data, alignment, [], []
        self.root = circle_file.raw(bytearray(data))
        self.model = circle_file.unpack(data)
        self.used_buffers, self.used_codes = {0}, set()

    def expect(self, truth, message):
        if not truth:
            self.problems.append(message)
        return bool(truth)

    def run(self):
        model = self.model
        self.expect(self.data[4:8] == b"CIR0", f"identifier: expected CIR0, found {self.data[4:8]}")
        self.expect(model.version == 0, f"version: expected 0, found {model.version}")
        self.expect(model.subgraphs, "there is no subgraph")
        self.buffers()
        self.codes()
        for index, graph in enumerate(model.subgraphs or []):
            where = text(graph.name) or f"subgraph {index}"
            self.tensors(where, graph)
            self.operators(where, graph)
            self.flow(where, graph)
        self.metadata()
        self.unused()

    def buffers(self):
        count = self.root.BuffersLength()
        if not self.expect(count > 0, "there is no buffer"):
            return
        self.expect(self.root.Buffers(0).DataLength() == 0, "buffer 0: must be empty")
        spans = []
        for index in range(count):
            buffer = self.root.Buffers(index)
            if buffer.Offset() > 1:
                start, size = buffer.Offset(), buffer.Size()
            else:
                field, size = buffer._tab.Offset(4), buffer.DataLength()
                start = buffer._tab.Vector(field) if field else 0
            if size == 0:
                continue
            where = f"buffer {index}"
            self.expect(
                start % self.alignment == 0,
                f"{where}: payload at {start} is not aligned to {self.alignment} bytes",
            )
            self.expect(start + size <= len(self.data), f"{where}: reaches past the file")
            spans.append((start, start + size, where))
        spans.sort()
        for (_, end, one), (start, _, other) in zip(spans, spans[1:]):
            self.expect(end <= start, f"{one} and {other} overlap")

    def codes(self):
        for index, code in enumerate(self.model.operatorCodes or []):
            full, old = code.builtinCode, code.deprecatedBuiltinCode
            where = f"operator code {index} ({OPERATORS.get(full, full)})"
            self.expect(full in OPERATORS, f"{where}: not in the schema")
            want = min(full, circle_file.MAX_BYTE_CODE)
            self.expect(old == want, f"{where}: deprecated code: expected {want}, found {old}")
            self.expect(code.version >= 1, f"{where}: version {code.version}")

    def tensors(self, graph_name, graph):
        names = collections.Counter(text(tensor.name) for tensor in graph.tensors)
        for name, count in names.items():
            self.expect(count == 1 or not name, f"{graph_name}: {count} tensors are named {name!r}")
        for index, tensor in enumerate(graph.tensors):
            where = f"{graph_name}: tensor {index} {text(tensor.name)!r}"
            self.expect(text(tensor.name), f"{where}: has no name")
            self.expect(tensor.type in TENSOR_TYPES, f"{where}: type {tensor.type}")
            shape = ints(tensor.shape)
            self.expect(all(n > 0 for n in shape), f"{where}: shape {shape}")
            signature = tensor.shapeSignature
            self.expect(
                signature is None or len(signature) == len(shape),
                f"{where}: shape_signature {signature} beside shape {shape}",
            )
            if self.expect(
                0 <= tensor.buffer < len(self.model.buffers), f"{where}: buffer {tensor.buffer}"
            ):
                self.used_buffers.add(tensor.buffer)
                self.constant(where, tensor, shape)
            if tensor.quantization is not None:
                self.quantization(where, tensor, shape)

    def constant(self, where, tensor, shape):
        buffer = self.root.Buffers(tensor.buffer)
        found = buffer.Size() if buffer.Offset() > 1 else buffer.DataLength()
        want = payload_bytes(tensor.type, shape)
        if found == 0 or want is None:
            return
        if not self.expect(found == want, f"{where}: payload: expected {want} bytes, found {found}"):
            return
        if tensor.type in (TYPE.FLOAT32, TYPE.FLOAT16) and buffer.Offset() <= 1:
            values = np.frombuffer(bytes(buffer.DataAsNumpy()), circle_file.NUMPY[tensor.type])
            self.expect(np.isfinite(values).all(), f"{where}: holds values that are not finite")

    def quantization(self, where, tensor, shape):
        table = tensor.quantization
        scale = np.array([] if table.scale is None else table.scale, np.float64)
        zero = ints(table.zeroPoint)
        if table.scale is None and table.zeroPoint is None:
            return
        self.expect(
            len(scale) == len(zero) > 0, f"{where}: {len(scale)} scales, {len(zero)} zero points"
        )
        self.expect((scale > 0).all() and np.isfinite(scale).all(), f"{where}: scale {scale.min()}")
        self.expect(tensor.type not in FLOATS, f"{where}: quantized, yet of a float type")
        if len(scale) > 1:
            axis = table.quantizedDimension
            ok = 0 <= axis < len(shape) and shape[axis] == len(scale)
            self.expect(ok, f"{where}: {len(scale)} scales along axis {axis} of {shape}")
        low, high = INTEGER_LIMITS.get(tensor.type, (-(2**31), 2**31))
        self.expect(all(low <= z <= high for z in zero), f"{where}: zero point beyond {low}..{high}")
        for name in ("min", "max"):
            values = getattr(table, name)
            self.expect(values is None or len(values) == len(scale), f"{where}: {name} length")

    def operators(self, graph_name, graph):
        codes = self.model.operatorCodes or []
        for index, operator in enumerate(graph.operators):
            where = f"{graph_name}: operator {index}"
            if not self.expect(
                0 <= operator.opcodeIndex < len(codes), f"{where}: code {operator.opcodeIndex}"
            ):
                continue
            self.used_codes.add(operator.opcodeIndex)
            code = codes[operator.opcodeIndex].builtinCode
            where += f" ({OPERATORS.get(code, code)})"
            self.options(where, code, operator)
            inputs, outputs = ints(operator.inputs), ints(operator.outputs)
            count = len(graph.tensors)
            self.expect(all(-1 <= i < count for i in inputs), f"{where}: inputs {inputs}")
            self.expect(all(0 <= i < count for i in outputs), f"{where}: outputs {outputs}")
            self.expect(outputs, f"{where}: has no output")
            if code == OP.RMS_NORM and 0 <= inputs[0] < count:
                rank = len(ints(graph.tensors[inputs[0]].shape))
                self.expect(rank in (3, 4), f"{where}: rank {rank}: onert takes 3 or 4")
            if code in INPUTS:
                want = INPUTS[code]
                self.expect(len(inputs) == want, f"{where}: expected {want} inputs, found {inputs}")

    def options(self, where, code, operator):
        table, kind = operator.builtinOptions, OPTIONS.get(operator.builtinOptionsType)
        if code in BARE or code not in OPERATORS:
            return
        want = option_table(OPERATORS[code])
        if not self.expect(table is not None, f"{where}: has no option table, runtimes crash"):
            return
        self.expect(kind == want, f"{where}: options: expected {want}, found {kind}")
        bites = {
            "beta": lambda value: value > 0,
            "epsilon": lambda value: value > 0,
            "potScaleInt16": lambda value: not value,
            "strideW": lambda value: value > 0,
            "strideH": lambda value: value > 0,
        }
        for field, good in bites.items():
            if hasattr(table, field):
                value = getattr(table, field)
                self.expect(good(value), f"{where}: {field} {value}: left at the schema's default")

    def flow(self, graph_name, graph):
        """Every value is computed once, before it is read."""
        model = self.model
        inputs, outputs = ints(graph.inputs), ints(graph.outputs)
        count = len(graph.tensors)
        for side, indices in (("input", inputs), ("output", outputs)):
            self.expect(all(0 <= i < count for i in indices), f"{graph_name}: {side}s {indices}")
        valid = [i for i, t in enumerate(graph.tensors) if t.buffer < len(model.buffers)]
        constant = {i for i in valid if self.has_payload(graph.tensors[i].buffer)}
        self.expect(not constant & set(inputs), f"{graph_name}: an input is constant")
        known, read = set(inputs) | constant, set(outputs)
        for index, operator in enumerate(graph.operators):
            where = f"{graph_name}: operator {index}"
            for tensor in ints(operator.inputs):
                read.add(tensor)
                if tensor != -1:
                    self.expect(tensor in known, f"{where}: reads tensor {tensor} before it is made")
            for tensor in ints(operator.outputs):
                self.expect(tensor not in known, f"{where}: tensor {tensor} is made twice")
                known.add(tensor)
        for tensor in outputs:
            self.expect(tensor in known, f"{graph_name}: output {tensor} is never made")
        idle = [text(t.name) for i, t in enumerate(graph.tensors) if i not in read]
        if idle:
            self.warnings.append(f"{graph_name}: {len(idle)} tensors nobody reads: {idle[:4]}")

    def has_payload(self, index):
        buffer = self.root.Buffers(index)
        return buffer.DataLength() > 0 or buffer.Offset() > 1

    def metadata(self):
        count = len(self.model.buffers or [])
        for entry in self.model.metadata or []:
            self.used_buffers.add(entry.buffer)
            self.expect(entry.buffer < count, f"metadata {text(entry.name)!r}: {entry.buffer}")
        graphs = self.model.subgraphs or []
        for entry in self.model.signatureDefs or []:
            where = f"signature {text(entry.signatureKey)!r}"
            if not self.expect(entry.subgraphIndex < len(graphs), f"{where}: no such subgraph"):
                continue
            graph = graphs[entry.subgraphIndex]
            for side in ("inputs", "outputs"):
                ends = set(ints(getattr(graph, side)))
                named = [tensor.tensorIndex for tensor in getattr(entry, side) or []]
                self.expect(set(named) <= ends, f"{where}: {side} {named} are not the subgraph's")

    def unused(self):
        idle = set(range(len(self.model.operatorCodes or []))) - self.used_codes
        if idle:
            self.warnings.append(f"operator codes nobody uses: {sorted(idle)}")
        idle = set(range(len(self.model.buffers or []))) - self.used_buffers
        if idle:
            self.warnings.append(f"{len(idle)} buffers nobody uses: {sorted(idle)[:8]}")

    def unquantized(self):
        """Names of real-valued tensors without quantization, by type."""
        found = collections.defaultdict(list)
        for graph in self.model.subgraphs or []:
            for tensor in graph.tensors:
                if tensor.quantization is None or tensor.quantization.scale is None:
                    found[TENSOR_TYPES.get(tensor.type, tensor.type)].append(text(tensor.name))
        return found

    def summary(self):
        """The counts people ask for."""
        model = self.model
        graphs = model.subgraphs or []
        types, operators = collections.Counter(), collections.Counter()
        for graph in graphs:
            types.update(TENSOR_TYPES.get(t.type, t.type) for t in graph.tensors)
            for operator in graph.operators:
                if operator.opcodeIndex < len(model.operatorCodes):
                    code = model.operatorCodes[operator.opcodeIndex].builtinCode
                    operators[OPERATORS.get(code, code)] += 1
        bare = {dtype: len(names) for dtype, names in self.unquantized().items()}
        show = lambda counts: " ".join(f"{k} {n}" for k, n in sorted(counts.items()))
        yield f"{len(self.data)} bytes, {len(graphs)} subgraphs, {len(model.buffers)} buffers"
        yield f"tensors {sum(types.values())}: {show(types)}"
        yield f"operators {sum(operators.values())}: {show(operators)}"
        yield f"without quantization: {show(bare) or 'none'}"


def report(path, alignment, strict):
    """Prints what was found about one file; true when it is sound."""
    with open(path, "rb") as file:
        data = file.read()
    try:
        check = Check(data, alignment)
        check.run()
    except Exception as error:  # the binding raises what it likes on malformed bytes
        print(f"{path}: problem: not a FlatBuffer of this schema: {error!r}")
        return False
    if strict:
        for name in check.unquantized().get("FLOAT32", []):
            check.problems.append(f"{name}: FLOAT32 without quantization")
    for line in check.summary():
        print(f"{path}: {line}")
    for line in check.warnings:
        print(f"{path}: warning: {line}")
    for line in check.problems:
        print(f"{path}: problem: {line}")
    return not check.problems


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("files", nargs="+")
    parser.add_argument("--alignment", type=int, default=16)
    parser.add_argument("--real-unquantized-is-error", action="store_true")
    a = parser.parse_args()
    sound = [report(path, a.alignment, a.real_unquantized_is_error) for path in a.files]
    sys.exit(0 if all(sound) else 1)


if __name__ == "__main__":
    main()
