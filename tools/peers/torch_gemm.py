"""Rates of torch's products over the shapes of a 2B decoder layer, beside `cargo bench --bench gemm`.

usage: torch_gemm.py [--threads 2]

Prints one JSON object: for `m x k x n` the GFLOP/s of f32, of f32 through oneDNN and of bf16, best
of seven interleaved runs each.
"""

import argparse
import json
import time

import torch

SHAPES = [(1024, 2048, 2048), (1024, 2048, 1024), (1024, 2048, 6144), (1024, 6144, 2048)]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=2)
    torch.set_num_threads(parser.parse_args().threads)
    facts = {}
    for m, k, n in SHAPES:
        a, w = torch.randn(m, k), torch.randn(n, k)
        operands = [(a, w), (a.to_mkldnn(), w), (a.bfloat16(), w.bfloat16())]
        best = [float("inf")] * 3
        with torch.no_grad():
            for _ in range(8):
                for which, (x, weight) in enumerate(operands):
                    start = time.perf_counter()
                    torch.nn.functional.linear(x, weight)
                    best[which] = min(best[which], time.perf_counter() - start)
        facts[f"{m}x{k}x{n}"] = [2e-9 * m * k * n / seconds for seconds in best]
    print(json.dumps(facts))


if __name__ == "__main__":
    main()
