"""Which runtime executes which operator in which type: writes the table of docs/runtimes.md.

usage: ops.py DOC [--venvs DIR] [--check]
Every operator the project writes, on small values in float and on integers, against NumPy. A cell
is `ok` where the result is within one step of its grid (float: 1e-5 of the greatest value), `wrong`
where a runtime computes something else, and a number where it refuses: its words are below the
table. --check writes nothing and fails where DOC says otherwise.
"""

import argparse
import os
import pickle
import subprocess
import sys
import tempfile

import numpy as np

import circle_file
import compare
from circle_file import OP, TYPE, Editor, schema

HERE = os.path.dirname(os.path.abspath(__file__))
BEGIN, END = "<!-- operators: begin -->", "<!-- operators: end -->"
RUNTIMES = {"onert 0.1.0": "main", "onert 0.2 dev": "dev", "LiteRT": "main"}
TYPES = {"f32": TYPE.FLOAT32, "u8": TYPE.UINT8, "i8": TYPE.INT8, "i16": TYPE.INT16}
MIDDLE = {TYPE.UINT8: 128, TYPE.INT8: 0, TYPE.INT16: 0}
STEPS = {TYPE.UINT8: 127, TYPE.INT8: 127, TYPE.INT16: 32767}
SHAPE = (1, 4, 8)


def softmax(x):
    weights = np.exp(x - x.max(-1, keepdims=True))
    return weights / weights.sum(-1, keepdims=True)


def gelu(x):
    return 0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)))


def norm(x, gain):
    return x / np.sqrt((x**2).mean(-1, keepdims=True) + 1e-6) * gain


def integers(*values):
    return ("integers", np.array(values, np.int32))


# operator: operands after x (("integers", …) as they are, else reals on a grid), options, result
def operators():
    rng = np.random.default_rng(5)
    gain = rng.uniform(0.5, 1.0, 8).astype(np.float32)
    other = rng.uniform(-1, 1, SHAPE).astype(np.float32)
    matrix = rng.uniform(-1, 1, (1, 8, 4)).astype(np.float32)
    weight = rng.uniform(-1, 1, (4, 8)).astype(np.float32)
    ids = ("integers", np.array([[1, 0, 3]], np.int32))
    linear = ([weight], ("FullyConnectedOptions", {"keepNumDims": True}), lambda x, w: x @ w.T)
    return {
        "ADD": ([other], ("AddOptions", {"potScaleInt16": False}), np.add),
        "SUB": ([other], ("SubOptions", {"potScaleInt16": False}), np.subtract),
        "MUL": ([other], ("MulOptions", {}), np.multiply),
        "NEG": ([], ("NegOptions", {}), np.negative),
        "RSQRT": ([], None, lambda x: 1 / np.sqrt(x)),
        "LOGISTIC": ([], None, lambda x: 1 / (1 + np.exp(-x))),
        "TANH": ([], None, np.tanh),
        "GELU": ([], ("GeluOptions", {"approximate": True}), gelu),
        "SOFTMAX": ([], ("SoftmaxOptions", {"beta": 1.0}), softmax),
        "MEAN": (
            [integers(2)],
            ("ReducerOptions", {"keepDims": True}),
            lambda x, _: x.mean(-1, keepdims=True),
        ),
        "RMS_NORM": ([gain], ("RmsNormOptions", {"epsilon": 1e-6}), norm),
        "RESHAPE": (
            [integers(1, 8, 4)],
            ("ReshapeOptions", {"newShape": [1, 8, 4]}),
            lambda x, _: x.reshape(1, 8, 4),
        ),
        "TRANSPOSE": (
            [integers(0, 2, 1)],
            ("TransposeOptions", {}),
            lambda x, _: x.transpose(0, 2, 1),
        ),
        "STRIDED_SLICE": (
            [integers(0, 1, 0), integers(1, 3, 8), integers(1, 1, 1)],
            ("StridedSliceOptions", {}),
            lambda x, *_: x[:, 1:3],
        ),
        "CONCATENATION": (
            [other],
            ("ConcatenationOptions", {"axis": 1}),
            lambda x, y: np.concatenate([x, y], 1),
        ),
        "SPLIT_V": (
            [integers(4), ("integers", np.array(1, np.int32))],
            ("SplitVOptions", {"numSplits": 1}),
            lambda x, *_: x,
        ),
        "GATHER": (
            [ids],
            ("GatherOptions", {"axis": 1}),
            lambda x, i: x[:, i[1][0]].reshape(1, 1, 3, 8),
        ),
        "BATCH_MATMUL": ([matrix], ("BatchMatMulOptions", {}), np.matmul),
        "FULLY_CONNECTED": linear,
        "FULLY_CONNECTED, scales by channel": linear,
        "QUANTIZE": ([], ("QuantizeOptions", {}), lambda x: x),
        "DEQUANTIZE": ([], ("DequantizeOptions", {}), lambda x: x),
    }


def parameters(scale, zero):
    table = schema.QuantizationParameters.QuantizationParametersT()
    table.scale, table.zeroPoint = np.atleast_1d(scale).tolist(), np.atleast_1d(zero).tolist()
    return table


def codes(values, scale, zero, dtype):
    limits = np.iinfo(circle_file.NUMPY[dtype])
    whole = np.clip(np.rint(values / scale) + zero, limits.min, limits.max)
    return whole.astype(circle_file.NUMPY[dtype])


def stored(editor, values, dtype, channels=False):
    """A constant on a grid of its own, and the reals it stands for."""
    if dtype == TYPE.FLOAT32:
        return editor.constant(values), values
    # Weights beside 16-bit activations have 8 bits.
    dtype = TYPE.INT8 if channels and dtype == TYPE.INT16 else dtype
    greatest = np.abs(values).max(-1) if channels else np.abs(values).max()
    scale, zero = greatest / STEPS[dtype], np.full_like(greatest, MIDDLE[dtype])
    wide = (scale[:, None], zero[:, None]) if channels else (scale, zero)
    q = codes(values, *wide, dtype)
    index = editor.tensor(values.shape, dtype, q, parameters(scale, zero.astype(int)))
    return index, (q.astype(np.float64) - wide[1]) * wide[0]


def result_grid(name, dtype, expected):
    if name in ("LOGISTIC", "SOFTMAX"):  # the only grid LiteRT knows here
        return {TYPE.INT16: (1 / 32768, 0), TYPE.UINT8: (1 / 256, 0), TYPE.INT8: (1 / 256, -128)}[dtype]
    if name == "TANH" and dtype == TYPE.INT16:
        return 1 / 32768, 0
    return float(np.abs(expected).max() / STEPS[dtype]), MIDDLE[dtype]


def case(name, row, dtype):
    """The file of one operator in one type, its input, what must come out, and how near."""
    operands, options, function = row
    editor, rng = Editor(), np.random.default_rng(6)
    low = 0.2 if name == "RSQRT" else -1.5
    x = rng.uniform(low, 1.5, SHAPE).astype(np.float32)
    moved = name in ("RESHAPE", "TRANSPOSE", "STRIDED_SLICE", "CONCATENATION", "SPLIT_V", "GATHER")
    grid = None if dtype == TYPE.FLOAT32 else (float(1.5 / STEPS[dtype]), MIDDLE[dtype])
    given, reals = x, x
    if grid and name != "QUANTIZE":
        given = codes(x, *grid, dtype)
        reals = (given.astype(np.float64) - grid[1]) * grid[0]
    as_float = dtype if name != "QUANTIZE" else TYPE.FLOAT32
    table = parameters(*grid) if grid and name != "QUANTIZE" else None
    inputs, values = [editor.tensor(SHAPE, as_float, quantization=table, name="x")], [reals]
    for operand in operands:
        if isinstance(operand, tuple):
            inputs.append(editor.constant(operand[1], TYPE.INT32))
            values.append(operand)
        elif moved and grid:
            q = codes(operand, *grid, dtype)
            inputs.append(editor.tensor(operand.shape, dtype, q, parameters(*grid)))
            values.append((q.astype(np.float64) - grid[1]) * grid[0])
        else:
            index, value = stored(editor, operand, dtype, channels="channel" in name)
            inputs.append(index)
            values.append(value)
    if name.startswith("FULLY"):
        inputs.append(-1)
    expected = function(*values)
    final, last = (None, TYPE.FLOAT32), grid
    if grid and name != "DEQUANTIZE":
        last = grid if moved or name == "QUANTIZE" else result_grid(name, dtype, expected)
        final = (parameters(*last), dtype)
        expected = codes(expected, *last, dtype)
    y = editor.tensor(expected.shape, final[1], quantization=final[0], name="y")
    editor.graph.inputs, editor.graph.outputs = inputs[:1], [y]
    label = name.split(",")[0]
    extra = (options[0], options[1]) if options else (None, {})
    editor.add(getattr(OP, label), inputs, [y], extra[0], **extra[1])
    return circle_file.pack(editor.model), given, expected


def execute(runtime, data, given):
    """The output of one file; raises what the runtime says."""
    if runtime == "LiteRT":
        import run_litert

        # Operators LiteRT lacks are asked for as they are.
        model = circle_file.unpack(data)
        model.version = 3
        return run_litert.run(circle_file.pack(model, b"TFL3"), [given], "reference")[0]
    import run_onert

    with tempfile.NamedTemporaryFile(suffix=".circle") as file:
        file.write(data)
        file.flush()
        return run_onert.Session(file.name, "cpu", [given]).run([given])[0]


def attempt(runtime, data, given, scratch):
    """(output, None) or (None, message), in a child that may crash."""
    out, said = os.path.join(scratch, "out.pickle"), os.path.join(scratch, "said")
    child = os.fork()
    if child == 0:
        log = os.open(said, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(log, 1), os.dup2(log, 2)
        try:
            answer = (execute(runtime, data, given), None)
        except (RuntimeError, ValueError) as error:
            answer = (None, str(error))
        with open(out, "wb") as file:
            pickle.dump(answer, file)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    if status != 0:
        return None, f"crashes (signal {os.waitstatus_to_exitcode(status) * -1})"
    with open(out, "rb") as file:
        value, message = pickle.load(file)
    with open(said, errors="replace") as file:
        words = [line.strip() for line in file if line.lower().startswith(("error", "fail"))]
    if message:
        words = words if runtime != "LiteRT" else message.splitlines()
        return None, (words or [message])[0]
    return value, None


def survey(runtime):
    """Cells of one runtime by operator and type."""
    cells = {}
    with tempfile.TemporaryDirectory() as scratch:
        for name, row in operators().items():
            for label, dtype in TYPES.items():
                if name in ("QUANTIZE", "DEQUANTIZE") and label == "f32":
                    continue
                data, given, expected = case(name, row, dtype)
                found, message = attempt(runtime, data, given, scratch)
                if message is None:
                    found = found.reshape(expected.shape).astype(np.float64)
                    apart = np.abs(found - expected).max()
                    limit = 1 if expected.dtype.kind in "iu" else 1e-5 * np.abs(expected).max()
                    message = "ok" if apart <= limit else "wrong"
                cells[name, label] = message
    return cells


def table(surveys):
    """Markdown: a row an operator, a column a type of a runtime, words of refusal below."""
    notes, lines = [], []
    heads = [f"{runtime} {label}" for runtime in surveys for label in TYPES]
    lines.append("| operator | " + " | ".join(heads) + " |")
    lines.append("|---|" + "---|" * len(heads))
    for name in operators():
        row = []
        for cells in surveys.values():
            for label in TYPES:
                cell = cells.get((name, label), "")
                if cell not in ("ok", "wrong", ""):
                    if cell not in notes:
                        notes.append(cell)
                    cell = f"{notes.index(cell) + 1}"
                row.append(cell)
        lines.append(f"| {name} | " + " | ".join(row) + " |")
    lines.append("")
    lines += [f"{index}. `{note.replace('`', '')}`" for index, note in enumerate(notes, 1)]
    return "\n".join(lines)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("doc")
    parser.add_argument("--venvs", default=os.path.join(HERE, "..", "..", "target", "judges"))
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--survey", help=argparse.SUPPRESS)
    a = parser.parse_args()
    if a.survey:
        with open(a.doc, "wb") as file:
            pickle.dump(survey(a.survey), file)
        return

    def surveyed(runtime):
        python = os.path.join(a.venvs, RUNTIMES[runtime], "bin", "python")
        with tempfile.NamedTemporaryFile() as out:
            subprocess.run([python, __file__, out.name, "--survey", runtime], check=True)
            return pickle.load(out)

    surveys = dict(zip(RUNTIMES, compare.side_by_side(surveyed, RUNTIMES)))
    with open(a.doc) as file:
        text = file.read()
    before, rest = text.split(BEGIN)
    _, after = rest.split(END)
    fresh = f"{before}{BEGIN}\n{table(surveys)}\n{END}{after}"
    if a.check and fresh != text:
        print(table(surveys))
        sys.exit(f"{a.doc} says otherwise: run {os.path.basename(__file__)} without --check")
    if not a.check:
        with open(a.doc, "w") as file:
            file.write(fresh)


if __name__ == "__main__":
    main()
