"""A tiny mixture-of-experts Qwen3-VL, and the text model of its kind, with random weights through Hugging Face's eager attention in f32:
writes tests/data/moe.

NAME.safetensors (bf16), cases.json (config.json, tokens and the grids of the pictures of each case) and outputs.safetensors
(CASE.pixels, CASE.layers.I, CASE.router.I, CASE.logits).
Run from the repository root, in an environment with torch and transformers 4.57.3."""
import json, torch
from safetensors.torch import save_file
from transformers import Qwen3MoeConfig, Qwen3MoeForCausalLM, Qwen3VLMoeConfig, Qwen3VLMoeForConditionalGeneration

OUT, IMAGE, START, END = "tests/data/moe", 92, 90, 91
TEXT = dict(vocab_size=96, hidden_size=32, intermediate_size=48, moe_intermediate_size=24, num_hidden_layers=3, num_attention_heads=2,
            num_key_value_heads=1, head_dim=16, max_position_embeddings=64, rms_norm_eps=1e-6, num_experts_per_tok=2,
            decoder_sparse_step=1, mlp_only_layers=[1], tie_word_embeddings=False)
VISION = dict(depth=1, hidden_size=32, intermediate_size=32, num_heads=2, in_channels=3, patch_size=4, spatial_merge_size=2,
              temporal_patch_size=2, out_hidden_size=32, num_position_embeddings=64, deepstack_visual_indexes=[0])
ROPE = dict(rope_type="default", mrope_section=[4, 2, 2], mrope_interleaved=True)


def randomized(model, seed):
    """Large enough that attention is far from uniform and routing far from even; gains around 1; exact in bf16."""
    torch.manual_seed(seed)
    with torch.no_grad():
        for name, p in model.named_parameters():
            gain = "norm" in name and name.endswith("weight")
            p.copy_((torch.randn_like(p) * (0.2 if gain else 0.25) + gain).bfloat16().float())
    return {k: v.bfloat16().contiguous() for k, v in model.state_dict().items()}


def record(name, model, layers, inputs, outputs):
    kept, router, hooks = [], [], []
    for layer in layers:
        hooks.append(layer.register_forward_hook(lambda m, i, o: kept.append((o if torch.is_tensor(o) else o[0]).clone())))
        if hasattr(layer.mlp, "gate"):
            hooks.append(layer.mlp.gate.register_forward_hook(lambda m, i, o: router.append(o)))
    with torch.no_grad():
        logits = model(**inputs).logits
    for i, x in enumerate(kept):
        outputs[f"{name}.layers.{i}"] = x.reshape(-1, x.shape[-1]).contiguous()
    for i, x in enumerate(router):
        outputs[f"{name}.router.{i}"] = x.reshape(-1, x.shape[-1]).contiguous()
    outputs[f"{name}.logits"] = logits[0].contiguous()


cases, outputs = [], {}
vl = Qwen3VLMoeConfig(text_config=dict(TEXT, num_experts=6, norm_topk_prob=True, rope_theta=5000000.0, rope_scaling=ROPE),
                      vision_config=VISION, image_token_id=IMAGE, video_token_id=93, vision_start_token_id=START,
                      vision_end_token_id=END, architectures=["Qwen3VLMoeForConditionalGeneration"], attn_implementation="eager")
model = Qwen3VLMoeForConditionalGeneration(vl).eval()
weights = randomized(model, 0)
save_file(weights, f"{OUT}/qwen3_vl_moe.safetensors", metadata={"format": "pt"})
torch.manual_seed(7)
text = lambda n: torch.randint(0, 90, (n,)).tolist()
ids = torch.tensor([text(5) + [START] + [IMAGE] * 6 + [END] + text(11)])
grid = torch.tensor([[1, 4, 6]])
pixels = torch.randn(24, 3 * 2 * 4 * 4)
inputs = dict(input_ids=ids, pixel_values=pixels, image_grid_thw=grid, attention_mask=torch.ones_like(ids))
record("qwen3_vl_moe", model, model.model.language_model.layers, inputs, outputs)
outputs["qwen3_vl_moe.pixels"] = pixels
cases.append(dict(name="qwen3_vl_moe", config=vl.to_dict(), input_ids=ids[0].tolist(), grid_thw=grid[0].tolist(), visual_start=6))

for name, fields in [("qwen3_moe", dict(norm_topk_prob=True)), ("qwen3_moe_unnormed", dict(norm_topk_prob=False, decoder_sparse_step=2))]:
    config = Qwen3MoeConfig(**dict(TEXT, num_experts=4, rope_theta=10000.0, mlp_only_layers=[]) | fields, attn_implementation="eager",
                            architectures=["Qwen3MoeForCausalLM"])
    model = Qwen3MoeForCausalLM(config).eval()
    save_file(randomized(model, len(cases)), f"{OUT}/{name}.safetensors", metadata={"format": "pt"})
    ids = torch.tensor([text(20)])
    record(name, model, model.model.layers, dict(input_ids=ids), outputs)
    cases.append(dict(name=name, config=config.to_dict(), input_ids=ids[0].tolist()))
save_file(outputs, f"{OUT}/outputs.safetensors")
with open(f"{OUT}/cases.json", "w") as f:
    json.dump(cases, f, separators=(",", ":"), default=str)
    f.write("\n")
