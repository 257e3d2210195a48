"""How much faster than the peer: TICO and encircle on the same toy, runs interleaved.

usage: bench_toy.py [--runs 5] [--peers target/peers] [--binary target/release/encircle]

Both do prepare + calibrate (ten samples) + convert + evaluate on a random Qwen3-VL of 2+2 layers;
each clocks its own phases, so that interpreter start and imports do not count. Prints one line.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(HERE)


def last_json(command):
    """Runs `command`; the JSON object it printed last."""
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"{' '.join(command)}: exit code {done.returncode}\n{done.stderr}")
    try:
        return json.loads(done.stdout)  # one object over several lines
    except json.JSONDecodeError:
        return json.loads(done.stdout.strip().splitlines()[-1])


def shown(seconds):
    low, high = min(seconds), max(seconds)
    return f"{statistics.median(seconds):.3f} s ({low:.3f} to {high:.3f})"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--peers", default=os.path.join(ROOT, "target", "peers"))
    parser.add_argument("--binary", default=os.path.join(ROOT, "target", "release", "encircle"))
    a = parser.parse_args()
    python = os.path.join(a.peers, "bin", "python")
    for path, remedy in ((python, "tools/peers/setup.sh"), (a.binary, "cargo build --release")):
        if not os.path.exists(path):
            sys.exit(f"{path}: not there; run {remedy}")
    peer, ours = [], []
    with tempfile.TemporaryDirectory() as folder:
        toy = [python, os.path.join(HERE, "peers", "tico_toy.py"), folder]
        paths = [os.path.join(folder, name) for name in ("checkpoint", "inputs.safetensors")]
        for _ in range(a.runs):
            peer.append(last_json(toy)["total"])
            ours.append(last_json([a.binary, "bench-toy", *paths, "--json"])["total"])
    ratio = statistics.median(peer) / statistics.median(ours)
    runs = f"medians of {a.runs} interleaved runs"
    print(f"TICO {shown(peer)}, encircle {shown(ours)}: {ratio:.1f} times ({runs})")


if __name__ == "__main__":
    main()
