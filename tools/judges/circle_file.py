"""A Circle file as Python objects, through the binding that Samsung publishes (circle-schema)."""

import flatbuffers
import numpy as np
from circle_schema.v0_10 import circle as schema

MAX_BYTE_CODE = 127  # the old byte-wide opcode field saturates here


def _names(enum):
    return {value: name for name, value in vars(enum).items() if isinstance(value, int)}


TENSOR_TYPES = _names(schema.TensorType.TensorType)
OPERATORS = _names(schema.BuiltinOperator.BuiltinOperator)
OPTIONS = _names(schema.BuiltinOptions.BuiltinOptions)
TYPE = schema.TensorType.TensorType
OP = schema.BuiltinOperator.BuiltinOperator

NUMPY = {
    TYPE.FLOAT32: np.float32,
    TYPE.FLOAT16: np.float16,
    TYPE.FLOAT64: np.float64,
    TYPE.INT8: np.int8,
    TYPE.INT16: np.int16,
    TYPE.INT32: np.int32,
    TYPE.INT64: np.int64,
    TYPE.UINT8: np.uint8,
    TYPE.UINT16: np.uint16,
    TYPE.UINT32: np.uint32,
    TYPE.UINT64: np.uint64,
    TYPE.BOOL: np.bool_,
}


class AlignedBuffer(schema.Buffer.BufferT):
    """A buffer whose payload starts on 16 bytes; the binding ignores the schema's force_align."""

    def Pack(self, builder):
        start = None
        if self.data is not None and len(self.data):
            data = bytes(np.asarray(self.data, np.uint8))
            builder.StartVector(1, len(data), 16)
            builder.head -= len(data)
            builder.Bytes[builder.Head() : builder.Head() + len(data)] = data
            start = builder.EndVector()
        schema.Buffer.Start(builder)
        if start is not None:
            schema.Buffer.AddData(builder, start)
        return schema.Buffer.End(builder)


def raw(data):
    """The accessor of the root table: offsets can be asked, nothing is copied."""
    return schema.Model.Model.GetRootAsModel(data, 0)


def unpack(data):
    """The whole file as mutable objects."""
    return schema.Model.ModelT.InitFromObj(raw(bytearray(data)))


def load(path):
    """Reads `path` as mutable objects."""
    with open(path, "rb") as file:
        return unpack(file.read())


def pack(model, identifier=b"CIR0"):
    """The bytes of `model`, payloads aligned to 16."""
    for index, buffer in enumerate(model.buffers):
        aligned = AlignedBuffer()
        aligned.data = buffer.data
        model.buffers[index] = aligned
    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), identifier)
    return bytes(builder.Output())


def text(value):
    """A schema string, which the binding hands out as bytes."""
    return value.decode() if isinstance(value, bytes) else value


def ints(values):
    """A schema vector, absent or not, as a list of ints."""
    return [] if values is None else [int(value) for value in values]


def payload(model, tensor):
    """The bytes of a constant, or None for a tensor that is computed."""
    data = model.buffers[tensor.buffer].data
    return None if data is None or len(data) == 0 else np.asarray(data, np.uint8).tobytes()


class Editor:
    """Appends tensors and operators to the first subgraph of a model."""

    def __init__(self, model=None):
        if model is None:
            model = schema.Model.ModelT()
            model.version, model.description = 0, "judge"
            model.operatorCodes, model.buffers = [], [schema.Buffer.BufferT()]
            graph = schema.SubGraph.SubGraphT()
            graph.tensors, graph.operators, graph.name = [], [], "main"
            graph.inputs, graph.outputs = [], []
            model.subgraphs = [graph]
        self.model, self.graph = model, model.subgraphs[0]

    def code(self, operator, version=1):
        """The index of an operator code, added when it is new."""
        for index, code in enumerate(self.model.operatorCodes):
            if code.builtinCode == operator and code.version == version:
                return index
        code = schema.OperatorCode.OperatorCodeT()
        code.builtinCode, code.version = operator, version
        code.deprecatedBuiltinCode = min(operator, MAX_BYTE_CODE)
        self.model.operatorCodes.append(code)
        return len(self.model.operatorCodes) - 1

    def tensor(self, shape, dtype=TYPE.FLOAT32, data=None, quantization=None, name=None):
        """Adds a tensor, constant when `data` is given; returns its index."""
        tensor = schema.Tensor.TensorT()
        tensor.shape, tensor.type, tensor.buffer = [int(n) for n in shape], dtype, 0
        tensor.name = name or f"judge.{len(self.graph.tensors)}"
        tensor.quantization = quantization
        if data is not None:
            tensor.buffer = self.buffer(data)
        self.graph.tensors.append(tensor)
        return len(self.graph.tensors) - 1

    def constant(self, values, dtype=TYPE.FLOAT32, name=None):
        """Adds a constant of `values`; returns its index."""
        values = np.asarray(values, NUMPY[dtype])
        return self.tensor(values.shape, dtype, values, name=name)

    def buffer(self, data):
        """Adds a payload; returns its index."""
        buffer = schema.Buffer.BufferT()
        buffer.data = np.frombuffer(np.ascontiguousarray(data).tobytes(), np.uint8)
        self.model.buffers.append(buffer)
        return len(self.model.buffers) - 1

    def operator(self, code, inputs, outputs, options=None, **fields):
        """An operator that is not yet part of the graph; `options` names its table."""
        operator = schema.Operator.OperatorT()
        operator.opcodeIndex = self.code(code)
        operator.inputs, operator.outputs = list(inputs), list(outputs)
        if options:
            operator.builtinOptionsType = getattr(schema.BuiltinOptions.BuiltinOptions, options)
            table = getattr(getattr(schema, options), options + "T")()
            for field, value in fields.items():
                setattr(table, field, value)
            operator.builtinOptions = table
        return operator

    def add(self, *args, **fields):
        """`operator`, appended."""
        self.graph.operators.append(self.operator(*args, **fields))

    def drop_unused_codes(self):
        """Runtimes refuse a file for an operator code they do not know, used or not."""
        used = sorted({operator.opcodeIndex for operator in self.graph.operators})
        moved = {old: new for new, old in enumerate(used)}
        self.model.operatorCodes = [self.model.operatorCodes[old] for old in used]
        for operator in self.graph.operators:
            operator.opcodeIndex = moved[operator.opcodeIndex]
