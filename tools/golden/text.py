"""Tiny text models with random weights through Hugging Face's eager attention in f32: writes tests/data/text.

Cases share weights where only the configuration differs; the case of the same name makes them: NAME.safetensors (bf16), cases.json (the
config.json of each case and its tokens) and outputs.safetensors (CASE.layers.I, CASE.logits).
Run from the repository root, in an environment with torch and transformers 4.57.3."""
import json, torch
from safetensors.torch import save_file
from transformers import LlamaConfig, LlamaForCausalLM, Qwen2Config, Qwen2ForCausalLM, Qwen3Config, Qwen3ForCausalLM

OUT, SEQ = "tests/data/text", 40
SIZES = dict(vocab_size=96, hidden_size=64, intermediate_size=96, num_hidden_layers=2, num_attention_heads=4,
             num_key_value_heads=2, max_position_embeddings=64, rope_theta=10000.0, rms_norm_eps=1e-6)
LLAMA3 = dict(rope_type="llama3", factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0, original_max_position_embeddings=32)
YARN = dict(rope_type="yarn", factor=4.0, original_max_position_embeddings=16)
LLAMA, QWEN2, QWEN3 = (LlamaConfig, LlamaForCausalLM), (Qwen2Config, Qwen2ForCausalLM), (Qwen3Config, Qwen3ForCausalLM)
CASES = [
    ("llama", "llama", LLAMA, {}),
    ("llama_tied", "llama", LLAMA, dict(tie_word_embeddings=True)),
    ("llama_llama3", "llama", LLAMA, dict(rope_scaling=LLAMA3)),
    ("llama_linear", "llama", LLAMA, dict(rope_scaling=dict(rope_type="linear", factor=4.0))),
    ("llama_yarn", "llama", LLAMA, dict(rope_scaling=YARN)),
    ("llama_biased", "llama_biased", LLAMA, dict(attention_bias=True)),
    ("qwen2", "qwen2", QWEN2, dict(tie_word_embeddings=True)),
    ("qwen3", "qwen3", QWEN3, dict(tie_word_embeddings=False, head_dim=32)),
]


def randomized(model, seed):
    """Large enough that attention is far from uniform; gains around 1; exact in bf16."""
    torch.manual_seed(seed)
    with torch.no_grad():
        for name, p in model.named_parameters():
            gain = name.endswith("norm.weight")
            p.copy_((torch.randn_like(p) * (0.2 if gain else 0.25) + gain).bfloat16().float())
    return {k: v.bfloat16().contiguous() for k, v in model.state_dict().items()}


weights, cases, outputs = {}, [], {}
for name, file, (config_class, model_class), fields in CASES:
    if name == file:
        weights[file] = randomized(model_class(config_class(**SIZES, **fields)), len(weights))
        if fields.get("tie_word_embeddings"):
            del weights[file]["lm_head.weight"]
        save_file(weights[file], f"{OUT}/{file}.safetensors", metadata={"format": "pt"})
    config = config_class(**SIZES, **fields, attn_implementation="eager", architectures=[model_class.__name__])
    model = model_class(config).eval()
    tied = fields.get("tie_word_embeddings", False)
    # Loading both would write the head over the table that is tied to it.
    state = {k: v.float() for k, v in weights[file].items() if not (tied and k == "lm_head.weight")}
    missing = model.load_state_dict(state, strict=False).missing_keys
    assert missing == (["lm_head.weight"] if tied else []), missing
    if tied:
        assert model.lm_head.weight.data_ptr() == model.model.embed_tokens.weight.data_ptr()
    torch.manual_seed(7)
    ids = torch.randint(0, SIZES["vocab_size"], (1, SEQ))
    layers = []
    hooks = [l.register_forward_hook(lambda m, i, o: layers.append(o if torch.is_tensor(o) else o[0])) for l in model.model.layers]
    with torch.no_grad():
        logits = model(ids).logits
    for i, x in enumerate(layers):
        outputs[f"{name}.layers.{i}"] = x[0].contiguous()
    outputs[f"{name}.logits"] = logits[0].contiguous()
    cases.append(dict(name=name, weights=f"{file}.safetensors", config=config.to_dict(), input_ids=ids[0].tolist()))
save_file(outputs, f"{OUT}/outputs.safetensors")
with open(f"{OUT}/cases.json", "w") as f:
    json.dump(cases, f, separators=(",", ":"), default=str)
    f.write("\n")
