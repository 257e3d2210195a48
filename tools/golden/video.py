"""Video prompts by transformers 4.57.3: writes tests/data/video/{cases.json,expected.safetensors}.
Run from the repository root. Frames are pictures of tests/data/golden, given as already sampled."""
import json, os, types
import numpy as np, torch
from PIL import Image
from safetensors.numpy import save_file
from transformers import AutoConfig, AutoTokenizer, Qwen2VLImageProcessor
from transformers.models.qwen3_vl.modeling_qwen3_vl import Qwen3VLModel
from transformers.models.qwen3_vl.processing_qwen3_vl import Qwen3VLProcessor
from transformers.models.qwen3_vl.video_processing_qwen3_vl import Qwen3VLVideoProcessor, smart_resize

CHECKPOINT, OUT = "assets/pixie", "tests/data/video"
# the checkpoint has no video settings of its own: its picture settings serve, as in transformers
LARGE = dict(size=dict(shortest_edge=4096, longest_edge=25165824), patch_size=16, temporal_patch_size=2, merge_size=2)
PAD = {"image": "<|image_pad|>", "video": "<|video_pad|>"}
CASES = [
    dict(name="four frames, shrunk", content=[dict(type="video", video=[0, 1, 2, 3], fps=2.0), "Which?"]),
    dict(name="an odd number of frames", content=["Watch.", dict(type="video", video=[4, 5, 6], fps=1.5), "What came last?"]),
    dict(name="a picture and a video as they are", settings=LARGE, content=[dict(type="image", image=7), dict(type="video", video=[1, 2], fps=0.8), "Same?"]),
    dict(name="two videos", content=[dict(type="video", video=[0, 1], fps=4.0), "then", dict(type="video", video=[2, 3, 4, 5], fps=10.0)]),
]

# the check of classes asks for the tokenizer class of the large checkpoints; the file is what counts
Qwen3VLProcessor.tokenizer_class = "PreTrainedTokenizerFast"
tokenizer = AutoTokenizer.from_pretrained(CHECKPOINT)
config = AutoConfig.from_pretrained(CHECKPOINT)
pictures = Qwen2VLImageProcessor.from_pretrained(CHECKPOINT)
path = lambda i: f"image_{i}.png"
load = lambda i: np.array(Image.open(f"tests/data/golden/{path(i)}").convert("RGB"))
arrays, cases = {}, []


def codes(values):
    """The 8-bit samples behind normalized values, checked to give those values back."""
    q = np.rint(values * np.float32(127.5) + np.float32(127.5)).astype(np.uint8)
    back = (q.astype(np.float32) - np.float32(127.5)) / np.float32(127.5)
    assert np.abs(back - values).max() < 2e-7, np.abs(back - values).max()
    return q, bool((back == values).all())


for n, case in enumerate(CASES):
    settings = case.get("settings")
    videos = Qwen3VLVideoProcessor(**settings) if settings else Qwen3VLVideoProcessor.from_pretrained(CHECKPOINT)
    processor = Qwen3VLProcessor(pictures, tokenizer, videos)
    text, images, clips, metadata, content = "<|im_start|>user\n", [], [], [], []
    for part in case["content"]:
        if isinstance(part, str):
            text += part
            content.append(dict(type="text", text=part))
            continue
        text += f"<|vision_start|>{PAD[part['type']]}<|vision_end|>"
        if part["type"] == "image":
            images.append(load(part["image"]))
            content.append(dict(type="image", image=path(part["image"])))
        else:
            frames = part["video"]
            clips.append(np.stack([load(i) for i in frames]))
            metadata.append(dict(fps=part["fps"], total_num_frames=len(frames), frames_indices=list(range(len(frames)))))
            content.append(dict(type="video", video=[path(i) for i in frames], fps=part["fps"]))
    text += "<|im_end|>\n<|im_start|>assistant\n"
    out = processor(text=[text], images=images or None, videos=clips, video_metadata=metadata, do_sample_frames=False, return_tensors="pt")
    ids = out["input_ids"]
    grids = out.get("image_grid_thw"), out["video_grid_thw"]
    position_ids, delta = Qwen3VLModel.get_rope_index(types.SimpleNamespace(config=config), ids, *grids, None)
    pixels, exact = codes(out["pixel_values_videos"].numpy())
    arrays[f"{n}.videos"] = pixels
    if images:
        arrays[f"{n}.images"], _ = codes(out["pixel_values"].numpy())
    cases.append(dict(name=case["name"], settings=settings, messages=[dict(role="user", content=content)], input_ids=ids[0].tolist(), position_ids=position_ids[:, 0].tolist(), rope_delta=int(delta), image_grids=[] if grids[0] is None else grids[0].tolist(), video_grids=grids[1].tolist()))
    print(case["name"], cases[-1]["video_grids"], pixels.shape, "bit-exact" if exact else "", tokenizer.decode(ids[0])[:300])

sizes, random = [], np.random.default_rng(0)
for _ in range(120):
    frames, height, width = int(random.integers(2, 40)), int(random.integers(20, 900)), int(random.integers(20, 900))
    lower = int(random.integers(1, 200)) * 1024
    upper = lower * int(random.integers(1, 60))
    try:
        found = smart_resize(frames, height, width, 2, 32, lower, upper)
    except ValueError:
        found = None
    sizes.append([frames, height, width, 2, 32, lower, upper, found])
os.makedirs(OUT, exist_ok=True)
json.dump(dict(cases=cases, smart_resize=sizes), open(f"{OUT}/cases.json", "w"))
save_file(arrays, f"{OUT}/expected.safetensors")
