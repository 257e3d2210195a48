"""Greedy answers by transformers 4.57.3 (eager, float32) to the first 50 questions of the demo's test scenes.

Writes tests/data/vqa/answers.json: prompt and answer as token ids, the answer without the token that
ends it. Run from the repository root.
"""

import json

import torch
from PIL import Image
from transformers import AutoTokenizer, Qwen2VLImageProcessor, Qwen3VLForConditionalGeneration

CHECKPOINT, SCENES, COUNT, LIMIT = "assets/pixie", "assets/vqa", 50, 32


def main():
    tokenizer = AutoTokenizer.from_pretrained(CHECKPOINT)
    pictures = Qwen2VLImageProcessor.from_pretrained(CHECKPOINT)
    model = Qwen3VLForConditionalGeneration.from_pretrained(
        CHECKPOINT, dtype=torch.float32, attn_implementation="eager"
    ).eval()
    stop = tokenizer.convert_tokens_to_ids("<|im_end|>")
    with open(f"{SCENES}/test.jsonl") as file:
        rows = [json.loads(line) for line in file][:COUNT]
    answers = []
    for row in rows:
        picture = Image.open(f"{SCENES}/{row['image']}").convert("RGB")
        patches = pictures(images=picture, return_tensors="pt")
        grid = patches["image_grid_thw"]
        content = [{"type": "image"}, {"type": "text", "text": row["question"]}]
        text = tokenizer.apply_chat_template(
            [{"role": "user", "content": content}], add_generation_prompt=True, tokenize=False
        )
        # One placeholder for each merged patch, as the model's own processor has it.
        count = int(grid.prod()) // pictures.merge_size**2
        text = text.replace("<|image_pad|>", "<|image_pad|>" * count)
        ids = tokenizer(text, return_tensors="pt", return_token_type_ids=False)
        inputs = {**ids, **patches}
        with torch.no_grad():
            said = model.generate(
                **inputs, do_sample=False, max_new_tokens=LIMIT, eos_token_id=stop, pad_token_id=stop
            )
        prompt = inputs["input_ids"][0].tolist()
        answer = said[0, len(prompt) :].tolist()
        answer = answer[: answer.index(stop)] if stop in answer else answer
        text = tokenizer.decode(answer)
        print(row["question"], "->", text)
        answers.append(
            {"image": row["image"], "question": row["question"], "prompt": prompt, "answer": answer}
        )
    with open("tests/data/vqa/answers.json", "w") as file:
        file.write("[\n" + ",\n".join(json.dumps(answer) for answer in answers) + "\n]\n")


if __name__ == "__main__":
    main()
