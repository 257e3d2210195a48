"""What TICO's quantization costs on questions about pictures: exact match of the answer (teacher forced) and KL to float.

usage: python tico_vqa.py CHECKPOINT VQA_DIR [--calib train] [--eval test] [--methods w8a8 w4a8 npu]
           (tico 0.3.0, transformers 4.57.3, torch 2.12)
VQA_DIR holds PART.jsonl and its pictures, all of one grid. Beside `encircle eval CHECKPOINT --calib
VQA_DIR/train.jsonl --text VQA_DIR/test.jsonl`: same rows, bits and scales; min-max, to nearest.
Prints one JSON line a method: exact match, mean KL over answer tokens and over all, perplexity, seconds."""
import argparse, copy, json, math, time, torch
import tico.quantization as tq
from PIL import Image
from tico.quantization.config.builders import build_qwen3_vl_ptq_config
from tico.quantization.config.specs import affine
from tico.quantization.wrapq.dtypes import DType
from transformers import AutoTokenizer, Qwen2VLImageProcessor, Qwen3VLForConditionalGeneration

ap = argparse.ArgumentParser()
ap.add_argument("checkpoint"); ap.add_argument("vqa")
ap.add_argument("--calib", default="train"); ap.add_argument("--eval", default="test")
ap.add_argument("--methods", nargs="+", default=["w8a8", "w4a8", "npu"])
a = ap.parse_args()
torch.manual_seed(0)
tokenizer, pictures = AutoTokenizer.from_pretrained(a.checkpoint), Qwen2VLImageProcessor.from_pretrained(a.checkpoint)
base = Qwen3VLForConditionalGeneration.from_pretrained(a.checkpoint, dtype=torch.float32, attn_implementation="eager").eval()
config = base.config
merge = config.vision_config.spatial_merge_size


def rows(part):
    """(length of the prompt, tokens of the answer, inputs) of every row."""
    for line in open(f"{a.vqa}/{part}.jsonl", encoding="utf-8"):
        row = json.loads(line)
        shown = pictures(images=[Image.open(f"{a.vqa}/{row['image']}")], return_tensors="pt")
        count = int(shown["image_grid_thw"].prod()) // merge**2
        content = [{"type": "image"}, {"type": "text", "text": row["question"]}]
        text = tokenizer.apply_chat_template([{"role": "user", "content": content}], add_generation_prompt=True, tokenize=False)
        prompt = tokenizer(text.replace("<|image_pad|>", "<|image_pad|>" * count), add_special_tokens=False).input_ids
        answer = tokenizer(row["answer"] + "<|im_end|>", add_special_tokens=False).input_ids
        yield len(prompt), answer, dict(input_ids=torch.tensor([prompt + answer]), pixel_values=shown["pixel_values"], image_grid_thw=shown["image_grid_thw"])


calib, test = list(rows(a.calib)), list(rows(a.eval))
first = test[0][2]
layout = dict(grid_thw=tuple(first["image_grid_thw"][0].tolist()), spatial_merge_size=merge,
              visual_start_idx=first["input_ids"][0].tolist().index(config.image_token_id))
reference = []


def score(name, model, seconds):
    exact = kl = kl_all = nll = tokens = tokens_all = 0
    with torch.no_grad():
        for i, (start, answer, inputs) in enumerate(test):
            out = model(**inputs)
            lp = (out.logits if hasattr(out, "logits") else out[0])[0, :-1].float().log_softmax(-1)
            if name == "float":
                reference.append(lp)
            divergence = (reference[i].exp() * (reference[i] - lp)).sum(-1)
            told = lp[start - 1:]
            exact += told.argmax(-1).tolist() == answer
            kl += divergence[start - 1:].sum().item(); kl_all += divergence.sum().item()
            nll -= told.gather(1, torch.tensor(answer)[:, None]).sum().item()
            tokens += len(answer); tokens_all += len(lp)
    print(json.dumps(dict(method=f"tico {name}", exact=exact / len(test), kl=kl / tokens, kl_all=kl_all / tokens_all,
                          answer_ppl=math.exp(nll / tokens), seconds=round(seconds, 1))), flush=True)


uint = {bits: affine(DType.uint(bits)) for bits in (4, 8)}
int16 = affine(DType.int(16))
BITS = {"w8a8": (uint[8], uint[8]), "w4a8": (uint[4], uint[8]), "npu": (uint[4], int16)}
score("float", base, 0)
for method in a.methods:
    weight, activation = BITS[method]
    start = time.perf_counter()
    numerics = build_qwen3_vl_ptq_config(
        num_vision_blocks=config.vision_config.depth, num_text_layers=config.text_config.num_hidden_layers,
        num_deepstack_mergers=len(config.vision_config.deepstack_visual_indexes), model_args=dict(vision=layout),
        activation=activation, linear_weight=weight, vision_patch_embed_weight=uint[8], embedding_weight=uint[8],
        lm_head_weight=uint[8], norm=activation, norm_weight=activation)
    model = tq.prepare(copy.deepcopy(base), numerics, inplace=True)
    with torch.no_grad():
        for _, _, inputs in calib:
            model(**inputs)
    score(method, tq.convert(model, inplace=True), time.perf_counter() - start)
