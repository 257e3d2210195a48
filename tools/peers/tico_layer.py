"""One Qwen3-VL-2B decoder layer in torch eager and under TICO, in f32 on the CPU.

usage: tico_layer.py [--tokens 1024] [--threads 2] [--repeat 3]

Prints one JSON object with median seconds of the float layer, the calibrating and the quantized one.
"""

import argparse
import copy
import json
import statistics
import time

import torch
from tico.quantization import convert, prepare
from tico.quantization.config.ptq import PTQConfig
from transformers.models.qwen3_vl.configuration_qwen3_vl import Qwen3VLTextConfig
from transformers.models.qwen3_vl.modeling_qwen3_vl import (
    Qwen3VLTextDecoderLayer,
    Qwen3VLTextRotaryEmbedding,
)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tokens", type=int, default=1024)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeat", type=int, default=3)
    a = parser.parse_args()
    torch.manual_seed(0)
    torch.set_num_threads(a.threads)
    rope = {"rope_type": "default", "mrope_section": [24, 20, 20]}
    config = Qwen3VLTextConfig(
        hidden_size=2048, intermediate_size=6144, num_hidden_layers=1, num_attention_heads=16,
        num_key_value_heads=8, head_dim=128, max_position_embeddings=2048, rope_scaling=rope,
    )
    config._attn_implementation = "eager"
    layer = Qwen3VLTextDecoderLayer(config, 0).eval()
    x = torch.randn(1, a.tokens, 2048)
    tables = Qwen3VLTextRotaryEmbedding(config)(x, torch.arange(a.tokens).expand(3, 1, a.tokens))
    mask = torch.full((1, 1, a.tokens, a.tokens), -120.0).triu(1)

    def timed(module):
        seconds = []
        with torch.no_grad():
            for _ in range(a.repeat + 1):
                start = time.perf_counter()
                module(x, attention_mask=mask, position_embeddings=tables)
                seconds.append(time.perf_counter() - start)
        return statistics.median(seconds[1:])

    seconds = {"float": timed(layer)}
    ready = prepare(copy.deepcopy(layer), PTQConfig(), inplace=True)
    seconds["calibrating"] = timed(ready)
    seconds["quantized"] = timed(convert(ready, inplace=True))
    print(json.dumps({"tokens": a.tokens, "seconds": seconds}))


if __name__ == "__main__":
    main()
