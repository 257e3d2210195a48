"""The peer on a toy: a random Qwen3-VL of 2+2 layers, calibrated on ten samples by TICO, timed.

usage: tico_toy.py OUT [--layers 2] [--hidden 64] [--seq 50] [--samples 10] [--seed 123]

Writes OUT/checkpoint (Hugging Face form) and OUT/inputs.safetensors with `{i}.input_ids`,
`{i}.pixel_values`, `{i}.float` (hidden states of the float model) and `{i}.tico_w8a8` (TICO's),
so that the same work can be given to encircle. Prints one line of JSON: seconds by phase, their
total, and TICO's error on the first sample.
"""

import argparse
import copy
import json
import os
import time

import torch
from safetensors.torch import save_file
from tico.quantization import convert, prepare
from tico.quantization.config.ptq import PTQConfig
from tico.quantization.evaluation.metric import compute_peir
from transformers import Qwen3VLConfig, Qwen3VLForConditionalGeneration

IMAGE_TOKEN = 998
VOCABULARY = 1000
PATCH, FRAMES, MERGE = 16, 2, 2
GRID = (1, 8, 8)  # patches of the one picture: time, height, width


def configuration(layers, hidden):
    """A Qwen3-VL in miniature; heads as TICO's own example has them."""
    small = hidden < 128
    text_heads = max(2, hidden // 64)
    config = Qwen3VLConfig(
        vision_config={
            "depth": layers,
            "hidden_size": hidden,
            "intermediate_size": 4 * hidden,
            "num_heads": max(4, hidden // 64),
            "out_hidden_size": hidden,
            "patch_size": PATCH,
            "temporal_patch_size": FRAMES,
            "spatial_merge_size": MERGE,
            "deepstack_visual_indexes": [0, 1],
        },
        text_config={
            "num_hidden_layers": layers,
            "hidden_size": hidden,
            "intermediate_size": 4 * hidden,
            "num_attention_heads": text_heads,
            "num_key_value_heads": text_heads,
            "head_dim": 32 if small else 64,
            "max_position_embeddings": 1024,
            "vocab_size": VOCABULARY,
            "use_cache": False,
            "rope_scaling": {
                "rope_type": "default",
                "mrope_section": [6, 5, 5] if small else [12, 10, 10],
            },
        },
        image_token_id=IMAGE_TOKEN,
        video_token_id=IMAGE_TOKEN + 1,
    )
    config._attn_implementation = "eager"
    return config


def position_ids(seq):
    """[3, 1, seq]: the picture comes first, the text counts on from its longer side."""
    rows, columns = GRID[1] // MERGE, GRID[2] // MERGE
    picture = [(0, row, column) for row in range(rows) for column in range(columns)]
    text = [(position,) * 3 for position in range(max(rows, columns), max(rows, columns) + seq)]
    return torch.tensor((picture + text)[:seq]).T[:, None].contiguous()


def samples(count, seq):
    """Random tokens after a random picture."""
    tokens = GRID[0] * GRID[1] * GRID[2] // MERGE**2
    for _ in range(count):
        ids = torch.randint(0, IMAGE_TOKEN, (1, seq))
        ids[:, :tokens] = IMAGE_TOKEN
        yield {
            "input_ids": ids,
            "pixel_values": torch.randn(GRID[0] * GRID[1] * GRID[2], 3 * FRAMES * PATCH * PATCH),
            "image_grid_thw": torch.tensor([GRID]),
            "position_ids": position_ids(seq),
        }


class Laps:
    """Seconds by phase."""

    def __init__(self):
        self.seconds, self.last = {}, time.perf_counter()

    def lap(self, name):
        now = time.perf_counter()
        self.seconds[name], self.last = round(now - self.last, 4), now


def quantize_and_compare(model, data):
    """TICO's four phases; the laps, and by sample the float and the quantized hidden states."""
    vision = {"grid_thw": GRID, "visual_start_idx": 0, "spatial_merge_size": MERGE}
    original = copy.deepcopy(model)
    laps = Laps()
    quantized = prepare(model, PTQConfig(model_args={"vision": vision}), inplace=True)
    laps.lap("prepare")
    with torch.no_grad():
        for sample in data:
            quantized(**sample)
        laps.lap("calibrate")
        quantized = convert(quantized, inplace=True)
        laps.lap("convert")
        pairs = []
        for sample in data:
            # Without a mask transformers takes the jumps of the positions for packed sequences.
            mask = torch.ones_like(sample["input_ids"])
            reference = original(**sample, attention_mask=mask).last_hidden_state
            pairs.append((reference, quantized(**sample, return_dict=False)[0]))
        laps.lap("evaluate")
    return laps.seconds, pairs


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out")
    parser.add_argument("--layers", type=int, default=2)
    parser.add_argument("--hidden", type=int, default=64)
    parser.add_argument("--seq", type=int, default=50)
    parser.add_argument("--samples", type=int, default=10)
    parser.add_argument("--seed", type=int, default=123)
    a = parser.parse_args()
    torch.manual_seed(a.seed)
    network = Qwen3VLForConditionalGeneration(configuration(a.layers, a.hidden)).eval()
    network.save_pretrained(os.path.join(a.out, "checkpoint"))
    data = list(samples(a.samples, a.seq))
    seconds, pairs = quantize_and_compare(network.model, data)
    tensors = {}
    for index, (sample, (exact, rounded)) in enumerate(zip(data, pairs)):
        tensors[f"{index}.input_ids"] = sample["input_ids"].int()
        tensors[f"{index}.pixel_values"] = sample["pixel_values"]
        tensors[f"{index}.float"] = exact.contiguous()
        tensors[f"{index}.tico_w8a8"] = rounded.contiguous()
    save_file(tensors, os.path.join(a.out, "inputs.safetensors"))
    exact, rounded = pairs[0]
    answer = {"seconds": seconds, "total": round(sum(seconds.values()), 4)}
    answer["mean_abs_diff"] = (exact - rounded).abs().mean().item()
    answer["peir"] = float(compute_peir(exact, rounded))
    print(json.dumps(answer))


if __name__ == "__main__":
    main()
