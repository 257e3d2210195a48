"""One decoder layer of the 2B shape: TICO and encircle side by side, runs interleaved.

usage: bench_layer.py [--tokens 1024] [--runs 3] [--peers target/peers]

Prints one JSON object: medians in seconds, and how many times faster encircle calibrates and runs
fake-quantized. Run `cargo bench --bench layer --no-run` first.
"""

import argparse
import json
import os
import statistics
import sys

from bench_toy import last_json

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(HERE)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tokens", type=int, default=1024)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--peers", default=os.path.join(ROOT, "target", "peers"))
    a = parser.parse_args()
    python = os.path.join(a.peers, "bin", "python")
    if not os.path.exists(python):
        sys.exit(f"{python}: not there; run tools/peers/setup.sh")
    size = ["--tokens", str(a.tokens), "--repeat", "3"]
    manifest = os.path.join(ROOT, "Cargo.toml")
    ours = ["cargo", "bench", "-q", "--manifest-path", manifest, "--bench", "layer", "--", *size]
    theirs = [python, os.path.join(HERE, "peers", "tico_layer.py"), *size]
    seen = {}
    for _ in range(a.runs):
        for who, command in (("tico", theirs), ("encircle", ours)):
            for what, seconds in last_json(command)["seconds"].items():
                seen.setdefault((who, what), []).append(seconds)
    median = {key: statistics.median(values) for key, values in seen.items()}
    facts = {f"{who} {what}": round(s, 4) for (who, what), s in sorted(median.items())}
    for what in ("float", "calibrating", "quantized"):
        facts[f"times faster, {what}"] = round(median["tico", what] / median["encircle", what], 2)
    ours = median["encircle", "quantized"] / median["encircle", "float"] - 1
    facts["cost of fake quantization"] = f"{100 * ours:.1f} %"
    print(json.dumps(facts, indent=1))


if __name__ == "__main__":
    main()
