"""What TICO's weight algorithms cost a text model, beside `cargo xtask accuracy`: same weights, texts, windows and bits.

usage: python tico_text.py CHECKPOINT TEXT_DIR [--test test.txt] [--context 256] [--calib-windows 32] [--windows 40]
           [--bits 4] [--methods gptq ...]     (tico 0.3.0, transformers 4.57.3, torch 2.12)
Weights only, activations, embedding and head stay float: better than what the peer would export.
Prints one JSON line a method: perplexity, mean KL to float, seconds and peak RSS in MiB."""
import argparse, copy, json, math, resource, time, torch
import tico.quantization as tq
from tico.quantization.config.gptq import GPTQConfig
from tico.quantization.config.spinquant import SpinQuantConfig
from transformers import AutoModelForCausalLM, AutoTokenizer

ap = argparse.ArgumentParser()
ap.add_argument("checkpoint"); ap.add_argument("texts"); ap.add_argument("--test", default="test.txt")
ap.add_argument("--context", type=int, default=256); ap.add_argument("--calib-windows", type=int, default=32)
ap.add_argument("--windows", type=int, default=40); ap.add_argument("--bits", type=int, default=4)
ap.add_argument("--methods", nargs="+", default=["rtn", "gptq", "gptq-mse", "spinquant-gptq", "spinquant-gptq-mse"])
a = ap.parse_args()
tokenizer = AutoTokenizer.from_pretrained(a.checkpoint)
base = AutoModelForCausalLM.from_pretrained(a.checkpoint, dtype=torch.float32, attn_implementation="eager").eval()


def windows(file, count):
    ids = tokenizer(open(f"{a.texts}/{file}", encoding="utf-8").read(), return_tensors="pt").input_ids[0]
    return [ids[i:i + a.context][None] for i in range(0, len(ids) - a.context + 1, a.context)][:count]


calib, test = windows("calib.txt", a.calib_windows), windows(a.test, a.windows)
reference = []


def score(name, model, seconds):
    nll = kl = tokens = 0
    with torch.no_grad():
        for i, ids in enumerate(test):
            out = model(ids)
            lp = (out.logits if hasattr(out, "logits") else out[0])[0, :-1].float().log_softmax(-1)
            if name == "float":
                reference.append(lp)
            nll -= lp.gather(1, ids[0, 1:, None]).sum().item()
            kl += (reference[i].exp() * (reference[i] - lp)).sum().item()
            tokens += lp.shape[0]
    print(json.dumps(dict(method=f"tico {name}", ppl=math.exp(nll / tokens), kl=kl / tokens, seconds=round(seconds, 1),
                          peak_rss_mib=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)), flush=True)


def quantize(method):
    torch.manual_seed(0)
    model, start = copy.deepcopy(base), time.perf_counter()
    if method == "rtn":
        with torch.no_grad():
            for layer in (m for n, m in model.named_modules() if isinstance(m, torch.nn.Linear) and n != "lm_head"):
                w, top = layer.weight, 2**a.bits - 1
                low, high = w.amin(1, keepdim=True).clamp(max=0), w.amax(1, keepdim=True).clamp(min=0)
                scale = (high - low) / top
                zero = (-low / scale).round()
                w.copy_(((w / scale).round().add(zero).clamp(0, top) - zero) * scale)
        return model, time.perf_counter() - start
    if "spinquant" in method:
        model = tq.convert(tq.prepare(model, SpinQuantConfig(show_progress=False)))
    mse = "mse_for_gptq" if method.endswith("for-gptq") else "mse" if method.endswith("mse") else None
    model = tq.prepare(model, GPTQConfig(weight_bits=a.bits, mse=mse, show_progress=False), inplace=True)
    with torch.no_grad():
        for ids in calib:
            model(ids)
    return tq.convert(model, inplace=True), time.perf_counter() - start


score("float", base, 0)
for method in a.methods:
    try:
        score(method, *quantize(method))
    except Exception as error:
        print(json.dumps(dict(method=f"tico {method}", error=f"{type(error).__name__}: {error}"[:300])), flush=True)
