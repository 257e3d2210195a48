"""Runs one file on every runtime installed and compares with expected outputs.

usage: compare.py FILE.circle IO [EXPECTED] [--venvs DIR] [--tolerance 1e-4] [--only NAME …]
                  [--prefix out] [--steps N]
IO holds in0, in1, …; EXPECTED (default: IO) holds out0, out1, … (or another prefix); each is an
.npz or a folder of .npy.

Prints a table: runtime, largest |difference| over largest |reference| (with --steps: of integers,
as they are), message. Exit code 1 when a runtime fails or passes the tolerance, 2 when no runtime
is installed.
"""

import argparse
import os
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor

import numpy as np

import golden_io

HERE = os.path.dirname(os.path.abspath(__file__))
# runtime: virtual environment, package that must be there, script, further arguments
RUNTIMES = {
    "onert 0.1.0": ("main", "onert", "run_onert.py", []),
    "onert 0.2 dev": ("dev", "onert", "run_onert.py", []),
    "LiteRT xnnpack": ("main", "ai_edge_litert", "run_litert.py", ["--kernels", "xnnpack"]),
    "LiteRT reference": ("main", "ai_edge_litert", "run_litert.py", ["--kernels", "reference"]),
}


def installed(python, package):
    """Whether `python` exists and can import `package`."""
    probe = [python, "-c", f"import importlib.util as u,sys;sys.exit(not u.find_spec({package!r}))"]
    return os.path.exists(python) and subprocess.run(probe).returncode == 0


def side_by_side(judge, cases):
    """What `judge` says of each case, in order. It waits for a process of one thread mostly."""
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        yield from pool.map(judge, cases)


def execute(command, timeout):
    """Runs a judge; returns what went wrong, or None."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=timeout)
    except subprocess.TimeoutExpired:
        return f"no answer after {timeout} s"
    if done.returncode == 0:
        return None
    if done.returncode < 0:
        return f"crashed with signal {-done.returncode}"
    lines = [line for line in done.stderr.splitlines() if line.strip()]
    return lines[-1].split(": ", 1)[-1] if lines else f"exit code {done.returncode}"


def difference(found, expected, relative=True):
    """The largest difference over all outputs, or a sentence why there is none."""
    if len(found) != len(expected):
        return f"expected {len(expected)} outputs, found {len(found)}"
    worst = 0.0
    for index, (one, other) in enumerate(zip(found, expected)):
        if one.size != other.size:
            return f"output {index}: expected {other.shape}, found {one.shape}"
        one = one.reshape(other.shape).astype(np.float64)
        if not np.isfinite(one).all():
            return f"output {index}: holds values that are not finite"
        other = other.astype(np.float64)
        scale = (relative and np.abs(other).max(initial=0.0)) or 1.0
        worst = max(worst, np.abs(one - other).max(initial=0.0) / scale)
    return worst


def judge(name, a, expected):
    """One row of the table: difference or None, message; None altogether when not installed."""
    venv, package, script, extra = RUNTIMES[name]
    python = os.path.join(a.venvs, venv, "bin", "python")
    if not installed(python, package):
        return None
    with tempfile.TemporaryDirectory() as scratch:
        out = os.path.join(scratch, "out.npz")
        command = [python, os.path.join(HERE, script), a.file, a.io, out, *extra]
        problem = execute(command, a.timeout)
        if problem:
            return None, problem
        found = difference(golden_io.read(out, "out"), expected, relative=a.steps is None)
    if isinstance(found, str):
        return None, found
    limit = a.tolerance if a.steps is None else a.steps
    return found, "" if found <= limit else f"beyond {limit:g}"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("file")
    parser.add_argument("io")
    parser.add_argument("expected", nargs="?")
    default = os.path.join(HERE, "..", "..", "target", "judges")
    parser.add_argument("--venvs", default=os.environ.get("ENCIRCLE_JUDGES", default))
    parser.add_argument("--tolerance", type=float, default=1e-4)
    parser.add_argument("--steps", type=float)
    parser.add_argument("--prefix", default="out")
    parser.add_argument("--timeout", type=float, default=300)
    parser.add_argument("--only", nargs="*", choices=list(RUNTIMES), default=list(RUNTIMES))
    a = parser.parse_args()
    expected = golden_io.read(a.expected or a.io, a.prefix)
    if not expected:
        sys.exit(f"{a.expected or a.io}: holds no {a.prefix}0")
    seen, good = 0, True
    rows = side_by_side(lambda name: judge(name, a, expected), a.only)
    for name, row in zip(a.only, rows):
        if row is None:
            print(f"{name:<17} {'-':>9}  not installed")
            continue
        seen, (found, message) = seen + 1, row
        shown = "failed" if found is None else f"{found:.2e}"
        print(f"{name:<17} {shown:>9}  {message or 'ok'}", flush=True)
        good = good and not message
    sys.exit(2 if seen == 0 else 0 if good else 1)


if __name__ == "__main__":
    main()
