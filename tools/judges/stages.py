"""Runs every float file of a staged set on every runtime, against encircle's own executor.

usage: stages.py STAGES --binary encircle [--venvs DIR] [--tolerance 1e-5]
STAGES holds manifest.json. Inputs are random, tables and masks such as the contract has them.
Exit code 1 when a runtime fails or passes the tolerance.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile

import numpy as np

HERE = os.path.dirname(os.path.abspath(__file__))
RUNTIMES = ["onert 0.1.0", "onert 0.2 dev", "LiteRT xnnpack"]
DYNAMIC_EXTENT = 5
IDS_BELOW = 100  # every vocabulary has as many


def array(port, fill, rng):
    """A plausible value of an input."""
    signature = port.get("shape_signature") or port["shape"]
    shape = [DYNAMIC_EXTENT if extent < 0 else extent for extent in signature]
    if port["role"] == "input_ids":
        return rng.integers(0, IDS_BELOW, shape)
    if port["role"] == "causal_mask":
        rows, columns = shape[-2:]
        seen = np.tri(rows, columns, columns - rows)
        return np.where(seen, 0.0, fill).astype(np.float32).reshape(shape)
    if port["role"] in ("cos", "sin"):
        return rng.uniform(-1, 1, shape).astype(np.float32)
    return rng.standard_normal(shape).astype(np.float32)


def judge(entry, manifest, a, rng):
    """Whether every runtime agrees on one file."""
    path = os.path.join(a.stages, entry["file"])
    with tempfile.TemporaryDirectory() as scratch:
        command = [a.binary, "run", path, "-o", scratch]
        for index, port in enumerate(entry["inputs"]):
            name = os.path.join(scratch, f"in{index}.npy")
            np.save(name, array(port, manifest["mask_fill"], rng))
            command += ["--input", f"{index}={name}"]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        compare = [sys.executable, os.path.join(HERE, "compare.py"), path, scratch]
        compare += ["--venvs", a.venvs, "--tolerance", str(a.tolerance), "--only", *RUNTIMES]
        print(f"-- {entry['file']}", flush=True)
        return subprocess.run(compare).returncode == 0


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("stages")
    parser.add_argument("--binary", required=True)
    parser.add_argument("--venvs", default=os.path.join(HERE, "..", "..", "target", "judges"))
    parser.add_argument("--tolerance", type=float, default=1e-5)
    a = parser.parse_args()
    with open(os.path.join(a.stages, "manifest.json")) as file:
        manifest = json.load(file)
    rng = np.random.default_rng(11)
    entries = [entry for entry in manifest["files"] if not entry["quantized"]]
    verdicts = [judge(entry, manifest, a, rng) for entry in entries]
    print(f"{sum(verdicts)} of {len(verdicts)} float files agree everywhere")
    sys.exit(0 if verdicts and all(verdicts) else 1)


if __name__ == "__main__":
    main()
