"""Seconds that TICO's GPTQ takes for one linear layer, beside `cargo bench --bench rounding`.

usage: python tico_gptq.py [--out 2048] [--in 6144] [--tokens 2*IN] [--threads 2]     prints one JSON line"""
import argparse, json, time, torch
from tico.quantization.algorithm.gptq.gptq import GPTQ
from tico.quantization.algorithm.gptq.quant import Quantizer

ap = argparse.ArgumentParser()
ap.add_argument("--out", type=int, default=2048); ap.add_argument("--in", dest="width", type=int, default=6144)
ap.add_argument("--tokens", type=int); ap.add_argument("--threads", type=int, default=2)
a = ap.parse_args()
torch.manual_seed(0); torch.set_num_threads(a.threads)
layer, tokens = torch.nn.Linear(a.width, a.out, bias=False), a.tokens or 2 * a.width
with torch.no_grad():
    gptq = GPTQ(layer)
    gptq.quantizer = Quantizer()
    gptq.quantizer.configure(4, perchannel=True, sym=False, mse=None)
    x = torch.rand(tokens, a.width) * 2 - 1
    start = time.perf_counter()
    for part in x.split(512):
        gptq.add_batch(part[None], None)
    moments = time.perf_counter() - start
    start = time.perf_counter()
    gptq.fasterquant(actorder=True, verbose=False)
    seconds = time.perf_counter() - start
print(json.dumps(dict(layer=f"{a.out}x{a.width}", tokens=tokens, moments_s=round(moments, 2), gptq_s=round(seconds, 2))))
