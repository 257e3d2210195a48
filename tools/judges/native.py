"""Native integer forms on their runtimes: the most probable tokens must be those of our integers.

usage: native.py OUT --binary encircle [--venvs DIR]
OUT/io and its subfolders hold questions of the demo, made by `quantize --io --io-samples`. Each form
is quantized, exported for its runtime, executed there, and compared with `run --integer` on the
quantized file: the most probable token of each position that says the answer. Other positions are
not trained: near ties decide there.
GGML's blocks, beside which the runtime rounds activations on the fly, are compared with the float
file.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile

import numpy as np

import circle_file
import compare
import golden_io

HERE = os.path.dirname(os.path.abspath(__file__))
CHECKPOINT = os.path.join(HERE, "..", "..", "assets", "pixie")
LITERT, ONERT = ["LiteRT xnnpack", "LiteRT reference"], ["onert 0.1.0", "onert 0.2 dev"]
INT8, INT4 = "*.weight=dtype:int8,symmetric:true", "*_proj.weight=dtype:int4,symmetric:true"
# what, preset, rule for weights, export, runtimes
FORMS = [
    ("int8 with int8 weights", "w8a8", INT8, "tflite", LITERT),
    ("int8 with int4 weights", "w8a8", INT4, "tflite", LITERT),
    ("int16 with int8 weights", "w4a16", INT8, "tflite", LITERT),
    ("int16 with int4 weights", "w4a16", INT4, "tflite", LITERT),
    ("uint8 per tensor", "w8a8", "*.weight=dtype:uint8,axis:tensor", "circle", ONERT),
]


def best(logits):
    """The most probable token of each position."""
    return logits.reshape(-1, logits.shape[-1]).argmax(-1)


def given_as_integers(file, io, folder):
    """Inputs on the grids of the file, which runtimes take as integers; the folder they are in."""
    model = circle_file.load(file)
    graph, out = model.subgraphs[0], os.path.join(folder, "given")
    os.makedirs(out, exist_ok=True)
    for index, (port, value) in enumerate(zip(graph.inputs, golden_io.read(io, "in"))):
        tensor = graph.tensors[port]
        table = tensor.quantization
        if table is not None and table.scale is not None and len(table.scale) > 0:
            dtype = circle_file.NUMPY[tensor.type]
            low, high = np.iinfo(dtype).min, np.iinfo(dtype).max
            codes = np.rint(value / np.float32(table.scale[0])) + table.zeroPoint[0]
            value = np.clip(codes, low, high).astype(dtype)
        np.save(os.path.join(out, f"in{index}.npy"), value)
    return out


def answer(io):
    """The positions that say the answer of the sample, as far as the float model says it."""
    with open(os.path.join(CHECKPOINT, "tokenizer.json")) as file:
        special = {t["content"]: t["id"] for t in json.load(file)["added_tokens"]}
    ids = golden_io.read(io, "in")[0].reshape(-1)
    said = best(golden_io.read(io, "out")[0])
    start = np.flatnonzero(ids == special["<|im_start|>"])[-1]
    end = start + np.flatnonzero(ids[start:] == special["<|im_end|>"])[0]
    return [p for p in range(start, end) if said[p] == ids[p + 1]]


def run(name, file, io, venvs):
    """The runtime's first output, or a sentence why there is none."""
    venv, package, script, extra = compare.RUNTIMES[name]
    python = os.path.join(venvs, venv, "bin", "python")
    if not compare.installed(python, package):
        return "not installed"
    with tempfile.TemporaryDirectory() as scratch:
        out = os.path.join(scratch, "out.npz")
        problem = compare.execute([python, os.path.join(HERE, script), file, io, out, *extra], 300)
        return problem or golden_io.read(out, "out")[0]


def questions(io):
    """The folders of all questions."""
    return [io] + sorted(entry.path for entry in os.scandir(io) if entry.is_dir())


def judge(form, a):
    """Quantizes, exports and runs one form; whether all its runtimes agree."""
    what, preset, rule, kind, runtimes = form
    folder = os.path.join(a.out, what.replace(" ", "_"))
    quiet = {"check": True, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    quantize = [a.binary, "quantize", "--preset", preset, "--set", rule, "-o", folder, "--json"]
    subprocess.run(quantize, **quiet)
    model, native = (os.path.join(folder, name) for name in ("model.q.circle", f"native.{kind}"))
    target = "litert" if kind == "tflite" else "onert"
    export = [a.binary, "export", model, "--target", target, "--format", kind, "-o", native]
    subprocess.run(export, **quiet)
    cases = []
    for number, io in enumerate(questions(a.out + "/io")):
        own = os.path.join(folder, f"own{number}")
        inputs = [f"--input={i}={io}/in{i}.npy" for i in range(2)]
        subprocess.run([a.binary, "run", model, *inputs, "--integer", "-o", own], **quiet)
        expected = best(golden_io.read(own, "out")[0])
        given = given_as_integers(native, io, os.path.join(folder, str(number)))
        cases.append((given, expected, answer(io)))
    return verdicts(what, runtimes, native, cases, a)


def verdicts(what, runtimes, file, cases, a):
    """Prints a line for each runtime; whether all agree on the answers of all cases."""
    good = True
    for name in runtimes:
        agreeing, tokens, everywhere = 0, 0, []
        outputs = compare.side_by_side(lambda case: run(name, file, case[0], a.venvs), cases)
        for (_, expected, rows), found in zip(cases, outputs):
            if isinstance(found, str):
                break
            agreeing += (best(found)[rows] == expected[rows]).sum()
            tokens += len(rows)
            everywhere.append((best(found) == expected).mean())
        if isinstance(found, str):
            good = good and found == "not installed"
            print(f"{what:<24} {name:<17} {found}", flush=True)
            continue
        good = good and tokens > len(cases) and agreeing == tokens
        said = f"{agreeing} of {tokens} tokens of {len(cases)} answers agree"
        print(f"{what:<24} {name:<17} {said}, {np.mean(everywhere):.0%} of all positions", flush=True)
    return good


def blocks(kind, a):
    """Weights in GGML blocks beside float activations, against the float file."""
    file = os.path.join(a.out, f"{kind}.circle")
    export = [a.binary, "export", os.path.join(a.out, "model.circle"), "--weights", kind]
    subprocess.run([*export, "-o", file], check=True, stdout=subprocess.DEVNULL)
    folders = questions(a.out + "/io")
    cases = [(io, best(golden_io.read(io, "out")[0]), answer(io)) for io in folders]
    # onert 0.1.0 has instructions here that not every processor knows.
    return verdicts(f"{kind} weights", ONERT[1:], file, cases, a)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out")
    parser.add_argument("--binary", required=True)
    parser.add_argument("--venvs", default=os.path.join(HERE, "..", "..", "target", "judges"))
    a = parser.parse_args()
    sound = [judge(form, a) for form in FORMS] + [blocks(kind, a) for kind in ("q8_0", "q4_0")]
    sys.exit(0 if all(sound) else 1)


if __name__ == "__main__":
    main()
