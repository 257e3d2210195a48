use super::*;
use crate::checkpoint::{Checkpoint, ErrorKind, Files, Message};
use crate::layout::{Layout, SpecialTokens};
use expect_test::{Expect, expect};
use serde::Deserialize;

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

fn processor() -> Processor {
    Processor::new(&Checkpoint::open(format!("{ROOT}/assets/pixie").as_ref()).unwrap()).unwrap()
}

fn json<T: for<'a> Deserialize<'a>>(path: &str) -> T {
    serde_json::from_slice(&std::fs::read(format!("{ROOT}/tests/data/{path}")).unwrap()).unwrap()
}

/// A folder with `rows.jsonl` of this content and a picture `a.png`.
fn folder(rows: &str) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("rows.jsonl"), rows).unwrap();
    std::fs::copy(format!("{ROOT}/tests/data/golden/image_0.png"), dir.path().join("a.png"))
        .unwrap();
    dir
}

fn rows(content: &str) -> crate::checkpoint::Result<Vec<Row>> {
    read_jsonl(&folder(content).path().join("rows.jsonl"))
}

/// The error of reading and encoding these rows, without the folder's random name.
fn check(content: &str, expected: Expect) {
    let dir = folder(content);
    let read = read_jsonl(&dir.path().join("rows.jsonl"));
    let error = read.and_then(|rows| processor().encode_all(&rows)).unwrap_err();
    expected.assert_eq(&error.to_string().replace(&format!("{}/", dir.path().display()), ""));
}

#[derive(Deserialize)]
struct Golden {
    image: String,
    question: String,
    length: usize,
    grid_thw: [usize; 3],
}

#[test]
fn prompts_and_patches_equal_the_golden_ones() {
    let files = Files::folder(format!("{ROOT}/tests/data/golden"));
    let golden = crate::checkpoint::golden(&files, "inputs.safetensors");
    let samples: Vec<Golden> = json("golden/samples.json");
    let lines: String = samples
        .iter()
        .map(|s| serde_json::json!({"image": s.image, "question": s.question}).to_string() + "\n")
        .collect();
    let dir = folder(&lines);
    for s in &samples {
        let from = format!("{ROOT}/tests/data/golden/{}", s.image);
        std::fs::copy(from, dir.path().join(&s.image)).unwrap();
    }
    let rows = read_jsonl(&dir.path().join("rows.jsonl")).unwrap();
    let ours = processor().encode_all(&rows).unwrap();
    assert_eq!(ours.len(), 8);
    for (i, (ours, golden_sample)) in ours.iter().zip(&samples).enumerate() {
        let ids: Vec<u32> = golden(&format!("{i}.input_ids"))
            .chunks_exact(4)
            .map(|id| u32::from_le_bytes(id.try_into().unwrap()))
            .collect();
        assert_eq!(ours.input_ids, ids[..golden_sample.length], "{i}");
        assert_eq!(ours.prompt_len, golden_sample.length);
        assert_eq!(ours.grids, [golden_sample.grid_thw]);
        let values = ours.pixel_values.as_ref().unwrap();
        assert_eq!(values.shape(), [64, 1536]);
        for (&value, &pixel) in values.data().iter().zip(&golden(&format!("{i}.pixels"))) {
            let theirs = ((f64::from(pixel) * 0.003_921_568_627_450_98) as f32 - 0.5) / 0.5;
            assert_eq!(value, theirs);
        }
    }
}

#[test]
fn answers_are_appended_as_the_reference_does() {
    #[derive(Deserialize, Debug)]
    struct Expected {
        prompt_len: usize,
        input_ids: Vec<u32>,
    }
    let expected: Vec<Expected> = json("vqa/expected.json");
    let rows = read_jsonl(format!("{ROOT}/tests/data/vqa/rows.jsonl").as_ref()).unwrap();
    for (sample, theirs) in processor().encode_all(&rows).unwrap().iter().zip(&expected) {
        assert_eq!(sample.input_ids, theirs.input_ids);
        assert_eq!(sample.prompt_len, theirs.prompt_len);
    }
    assert!(rows[2].place.ends_with("rows.jsonl:3"));
}

#[test]
fn embedded_rows_find_their_embedded_pictures() {
    const FILES: &[(&str, &[u8])] = &[
        ("vqa/rows.jsonl", include_bytes!("../../tests/data/vqa/rows.jsonl")),
        ("vqa/train_000.jpg", include_bytes!("../../tests/data/vqa/train_000.jpg")),
        ("vqa/train_001.jpg", include_bytes!("../../tests/data/vqa/train_001.jpg")),
        ("vqa/train_002.jpg", include_bytes!("../../tests/data/vqa/train_002.jpg")),
    ];
    let embedded = read_jsonl_from(&Files::embedded(FILES), "vqa/rows.jsonl").unwrap();
    let folder = read_jsonl(format!("{ROOT}/tests/data/vqa/rows.jsonl").as_ref()).unwrap();
    let processor = processor();
    for (a, b) in embedded.iter().zip(&folder) {
        let (a, b) = (processor.encode(a).unwrap(), processor.encode(b).unwrap());
        assert_eq!((a.input_ids, a.pixel_values), (b.input_ids, b.pixel_values));
    }
}

#[test]
fn a_conversation_is_the_same_row_as_its_question() {
    let conversation = r#"{"messages": [{"role": "user", "content": [
        {"type": "image", "path": "file://a.png"}, {"type": "text", "text": "What?"}]},
        {"role": "assistant", "content": [{"type": "text", "text": "six"}]}]}"#;
    let listed = r#"{"images": ["a.png"], "messages": [{"role": "user", "content": [
        {"type": "image"}, {"type": "text", "text": "What?"}]},
        {"role": "assistant", "content": "six"}]}"#;
    let question = r#"{"image": "a.png", "question": "What?", "answer": "six"}"#;
    let content = [conversation, listed, question].map(|row| row.replace('\n', " ")).join("\n\n");
    let dir = folder(&content);
    let rows = read_jsonl(&dir.path().join("rows.jsonl")).unwrap();
    let samples = processor().encode_all(&rows).unwrap();
    assert_eq!(samples[0].input_ids, samples[2].input_ids);
    assert_eq!(samples[1].input_ids, samples[2].input_ids);
    assert_eq!(rows[2].answer.as_deref(), Some("six"));
    assert_eq!(rows[2].conversation.messages, [Message::showing("user", &["image"], "What?")]);
}

#[test]
fn several_pictures_lie_below_each_other() {
    let dir = folder(r#"{"image": ["a.png", "a.png"], "question": "Same?"}"#);
    let rows = read_jsonl(&dir.path().join("rows.jsonl")).unwrap();
    let sample = processor().encode(&rows[0]).unwrap();
    let values = sample.pixel_values.unwrap();
    assert_eq!((values.shape(), sample.grids.len()), (&[128, 1536][..], 2));
    assert_eq!(values.data()[..64 * 1536], values.data()[64 * 1536..]);
    assert_eq!(sample.input_ids.iter().filter(|&&id| id == 491).count(), 32);
}

#[test]
fn texts_and_questions_without_pictures_have_no_patches() {
    let rows = rows("{\"text\": \"one plus two\"}\r\n{\"question\": \"Why?\"}\n").unwrap();
    let samples = processor().encode_all(&rows).unwrap();
    assert_eq!((samples[0].prompt_len, samples[0].pixel_values.as_ref()), (1, None));
    assert_eq!(samples[1].prompt_len, samples[1].input_ids.len());
}

#[test]
fn wrong_rows_are_named_by_line_and_field() {
    let ok = "{\"text\": \"x\"}\n";
    check(
        &format!("{ok}{{"),
        expect!["rows.jsonl:2: expected a JSON object, found a mistake in column 1"],
    );
    check("[1]", expect!["rows.jsonl:1: expected a JSON object, found a list of 1"]);
    check("\n\n", expect!["rows.jsonl: expected at least one row, found none"]);
    check(
        r#"{"answer": "x"}"#,
        expect![[
            r#"rows.jsonl:1: field "question": expected it, "messages" or "text", found none of them"#
        ]],
    );
    check(
        r#"{"question": 7}"#,
        expect![[r#"rows.jsonl:1: field "question": expected a string, found 7"#]],
    );
    check(
        r#"{"image": {"a": 1}, "question": "x"}"#,
        expect![[
            r#"rows.jsonl:1: field "image": expected a path or a list of paths, found an object of 1 fields"#
        ]],
    );
    check(
        r#"{"image": "https://x.y/z.png", "question": "x"}"#,
        expect![[
            r#"rows.jsonl:1: field "image": expected the path of a local file, found "https://x.y/z.png""#
        ]],
    );
    check(
        r#"{"messages": [{"role": "user", "content": [{"type": "audio"}]}]}"#,
        expect![[
            r#"rows.jsonl:1: field "messages[0].content[0].type": expected "text", "image" or "video", found "audio""#
        ]],
    );
    check(
        r#"{"messages": [{"role": "user", "content": "x"}], "tools": "[]"}"#,
        expect![[r#"rows.jsonl:1: field "tools": expected a list of objects, found "[]""#]],
    );
    check(
        r#"{"messages": [{"role": "assistant", "content": "x"}]}"#,
        expect![[
            r#"rows.jsonl:1: field "messages": expected a message before the answer, found none"#
        ]],
    );
    for (row, name) in [
        (
            r#"{"messages": [{"role": "user", "content": "x"}], "video": ["a.png"], "fps": 2}"#,
            "video",
        ),
        (r#"{"messages": [{"role": "user", "content": "x"}], "answer": "y"}"#, "answer"),
        (r#"{"question": "x", "videos": ["a.png"]}"#, "videos"),
        (r#"{"question": "x", "video": ["a.png"], "fps": 2, "timestamps": [0]}"#, "fps"),
        (
            r#"{"messages": [{"role": "user", "content": "x"}, {"role": "assistant", "content": "y", "reasoning_content": "z"}]}"#,
            "messages[1].reasoning_content",
        ),
        (r#"{"text": "x", "image": "a.png"}"#, "image"),
        (r#"{"text": "x", "answer": "y"}"#, "answer"),
        (
            r#"{"messages": [{"role": "user", "content": "x"}], "chat_template_kwargs": {"messages": []}}"#,
            "chat_template_kwargs.messages",
        ),
    ] {
        let error = rows(row).unwrap_err().to_string();
        let lost = format!("rows.jsonl:1: field \"{name}\": expected none beside \"");
        assert!(error.contains(&lost), "{error}");
    }
    check(
        r#"{"text": ""}"#,
        expect![[r#"rows.jsonl:1: field "text": expected some text, found none"#]],
    );
    check(
        r#"{"messages": [{"role": "user", "content": "x"}], "image": "a.png"}"#,
        expect![[
            r#"rows.jsonl:1: field "image": expected 0 pictures, one for each place, found 1"#
        ]],
    );
    check(
        r#"{"messages": [{"role": "user", "content": "x"}], "images": ["a.png"]}"#,
        expect![[
            r#"rows.jsonl:1: field "images": expected 0 pictures, one for each place, found 1"#
        ]],
    );
}

/// A copy of the demo checkpoint, to be changed.
fn copied() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for entry in std::fs::read_dir(format!("{ROOT}/assets/pixie")).unwrap() {
        let path = entry.unwrap().path();
        std::fs::copy(&path, dir.path().join(path.file_name().unwrap())).unwrap();
    }
    dir
}

/// The demo checkpoint with another chat template.
fn asking(template: &str) -> (tempfile::TempDir, Processor) {
    let dir = copied();
    std::fs::write(dir.path().join("chat_template.jinja"), template).unwrap();
    let processor = Processor::new(&Checkpoint::open(dir.path()).unwrap()).unwrap();
    (dir, processor)
}

#[test]
fn a_template_that_refuses_a_row_names_it() {
    let (_dir, processor) =
        asking("{{ messages[0].content + raise_exception('no') if messages | length > 1 }}x");
    let second =
        r#"{"messages": [{"role": "user", "content": "a"}, {"role": "user", "content": "b"}]}"#;
    let rows = rows(&format!("{{\"question\": \"a\"}}\n{second}")).unwrap();
    let error = processor.encode_all(&rows).unwrap_err().to_string();
    let text = "rows.jsonl:2: expected messages that the template accepts in ";
    assert!(
        error.contains(text) && error.ends_with("chat_template.jinja, found others"),
        "{error}"
    );
}

#[test]
fn templates_see_messages_as_rows_spell_them() {
    let (_dir, processor) = asking(
        "{% for m in messages %}{{ m.keys() | join(',') }}={% if m.content is string %}\
        {{ m.content }}{% else %}{% for c in m.content or [] %}[{{ c.text }}]{% endfor %}{% endif %}\
        {{ m.tool_calls[0].name if m.tool_calls }};{% endfor %}",
    );
    let row = r#"{"messages": [
        {"role": "user", "content": [{"type": "text", "text": "one"}, {"type": "text", "text": "two"}]},
        {"role": "assistant", "tool_calls": [{"name": "blue"}], "content": null},
        {"role": "tool", "content": "red", "id": 3},
        {"role": "assistant", "content": [{"type": "text", "text": "s"}, {"type": "text", "text": "ix"}]}]}"#;
    let rows = rows(&row.replace('\n', " ")).unwrap();
    assert_eq!(rows[0].answer.as_deref(), Some("six"));
    let sample = processor.encode(&rows[0]).unwrap();
    let prompt =
        processor.tokenizer().decode(&sample.input_ids[..sample.prompt_len], false).unwrap();
    assert_eq!(prompt, "role,content=[one][two];role,tool_calls,content=blue;role,content,id=red;");
}

#[test]
fn an_answer_is_text_alone_and_a_row_has_one_conversation() {
    let asked = r#"{"role": "user", "content": "x"}"#;
    check(
        &format!(
            r#"{{"messages": [{asked}, {{"role": "assistant", "content": "", "tool_calls": [1]}}]}}"#
        ),
        expect![[
            r#"rows.jsonl:1: field "messages": expected an answer of text alone, found a picture or a call"#
        ]],
    );
    check(
        &format!(r#"{{"messages": [{asked}], "messages": [{asked}]}}"#),
        expect![[
            r#"rows.jsonl:1: field "messages": expected it and what belongs to it once, found a field twice"#
        ]],
    );
}

#[test]
fn a_token_that_the_model_does_not_have_is_named_with_its_row() {
    let dir = copied();
    let path = dir.path().join("tokenizer.json");
    let mut config: serde_json::Value =
        serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    let token = serde_json::json!({"id": 512, "content": "<NEW>", "special": true,
        "single_word": false, "lstrip": false, "rstrip": false, "normalized": false});
    config["added_tokens"].as_array_mut().unwrap().push(token);
    config["model"]["vocab"]["<NEW>"] = 512.into();
    std::fs::write(path, config.to_string()).unwrap();
    let processor = Processor::new(&Checkpoint::open(dir.path()).unwrap()).unwrap();
    let text = "expected tokens below the vocab_size 512 of config.json, found 512, the token \"<NEW>\" of ";
    for row in [
        r#"{"text": "a <NEW>"}"#,
        r#"{"question": "<NEW>?"}"#,
        r#"{"question": "?", "answer": "<NEW>"}"#,
    ] {
        let error = processor.encode(&rows(row).unwrap()[0]).unwrap_err().to_string();
        assert!(error.contains(&format!("rows.jsonl:1: {text}")), "{error}");
    }
    let error = processor.encode_document("a <NEW>", "a.txt").unwrap_err().to_string();
    assert!(error.starts_with(&format!("a.txt: {text}")), "{error}");
}

#[test]
fn what_a_checkpoint_lacks_to_show_a_picture_is_named() {
    let dir = copied();
    std::fs::remove_file(dir.path().join("preprocessor_config.json")).unwrap();
    let processor = Processor::new(&Checkpoint::open(dir.path()).unwrap()).unwrap();
    let rows = rows(r#"{"image": "a.png", "question": "x"}"#).unwrap();
    let error = processor.encode(&rows[0]).unwrap_err().to_string();
    let text = "field \"image\": expected no image, as the checkpoint lacks preprocessor_config.json or \
        processor_config.json, found 1";
    assert!(error.ends_with(text), "{error}");
}

/// The demo checkpoint with a template that shows videos, and perhaps settings for them.
fn seeing_videos(settings: &serde_json::Value) -> (tempfile::TempDir, Processor, Checkpoint) {
    let dir = copied();
    let template = dir.path().join("chat_template.jinja");
    let shows_pictures = std::fs::read_to_string(&template).unwrap();
    let text = "{% elif content['type'] == 'text' %}";
    let video = "{% elif content['type'] == 'video' %}<|vision_start|><|video_pad|><|vision_end|>";
    std::fs::write(&template, shows_pictures.replace(text, &format!("{video}{text}"))).unwrap();
    if !settings.is_null() {
        let file = dir.path().join("video_preprocessor_config.json");
        std::fs::write(file, settings.to_string()).unwrap();
    }
    let checkpoint = Checkpoint::open(dir.path()).unwrap();
    (dir, Processor::new(&checkpoint).unwrap(), checkpoint)
}

#[derive(Deserialize)]
struct VideoCases {
    cases: Vec<VideoCase>,
}

#[derive(Deserialize)]
struct VideoCase {
    name: String,
    settings: serde_json::Value,
    messages: serde_json::Value,
    input_ids: Vec<u32>,
    position_ids: [Vec<i64>; 3],
    rope_delta: i64,
    image_grids: Vec<[usize; 3]>,
    video_grids: Vec<[usize; 3]>,
}

#[test]
fn videos_become_the_tokens_positions_and_patches_of_the_reference() {
    let golden: VideoCases = json("video/cases.json");
    let expected = Files::folder(format!("{ROOT}/tests/data/video"));
    let pixels = crate::checkpoint::golden(&expected, "expected.safetensors");
    assert_eq!(golden.cases.len(), 4);
    for (n, case) in golden.cases.iter().enumerate() {
        let (_dir, processor, checkpoint) = seeing_videos(&case.settings);
        let dir = folder(&serde_json::json!({ "messages": case.messages }).to_string());
        for i in 0..8 {
            let name = format!("image_{i}.png");
            let from = format!("{ROOT}/tests/data/golden/{name}");
            std::fs::copy(from, dir.path().join(name)).unwrap();
        }
        let rows = read_jsonl(&dir.path().join("rows.jsonl")).unwrap();
        let sample = processor.encode(&rows[0]).unwrap();
        assert_eq!(sample.input_ids, case.input_ids, "{}", case.name);
        assert_eq!((&sample.grids, &sample.video_grids), (&case.image_grids, &case.video_grids));
        let config = checkpoint.config();
        let tokens = SpecialTokens {
            image: config.image_token_id.unwrap(),
            video: config.video_token_id.unwrap(),
            vision_start: config.vision_start_token_id,
        };
        let Sample { input_ids, grids, video_grids, .. } = &sample;
        let layout = Layout::from_input_ids(input_ids, grids, video_grids, &tokens, 2).unwrap();
        assert_eq!(layout.position_ids(), case.position_ids, "{}", case.name);
        assert_eq!(layout.rope_delta(), case.rope_delta, "{}", case.name);

        let values = sample.pixel_values.unwrap();
        let of_pictures = case.image_grids.iter().map(|grid| grid.iter().product::<usize>() * 1536);
        let (pictures, videos) = values.data().split_at(of_pictures.sum());
        let as_picture = |&p: &u8| ((f64::from(p) * 0.003_921_568_627_450_98) as f32 - 0.5) / 0.5;
        let as_video = |&p: &u8| (f32::from(p) - 127.5) / 127.5;
        if !pictures.is_empty() {
            let theirs: Vec<f32> = pixels(&format!("{n}.images")).iter().map(as_picture).collect();
            assert_eq!(pictures, theirs, "{}", case.name);
        }
        let theirs: Vec<f32> = pixels(&format!("{n}.videos")).iter().map(as_video).collect();
        assert_eq!(videos, theirs, "{}", case.name);
    }
}

#[test]
fn timestamps_stand_for_frames_a_second() {
    let (_dir, processor, _) = seeing_videos(&serde_json::Value::Null);
    let listed =
        r#"{"question": "?", "video": ["a.png", "a.png", "a.png"], "timestamps": [0, 0.5, 1]}"#;
    let counted = r#"{"question": "?", "video": ["a.png", "a.png", "a.png"], "fps": 2}"#;
    let rows = rows_beside_pictures(&[listed, counted]);
    let samples = processor.encode_all(&rows.1).unwrap();
    assert_eq!(samples[0].input_ids, samples[1].input_ids);
    let text = processor.tokenizer().decode(&samples[0].input_ids, false).unwrap();
    assert!(text.contains("<0.2 seconds>") && text.contains("<1.0 seconds>"), "{text}");
}

fn rows_beside_pictures(lines: &[&str]) -> (tempfile::TempDir, Vec<Row>) {
    let dir = folder(&lines.join("\n"));
    let rows = read_jsonl(&dir.path().join("rows.jsonl")).unwrap();
    (dir, rows)
}

#[test]
fn wrong_videos_are_named_by_row_and_field() {
    let video = |fields: &str| {
        format!(
            r#"{{"messages": [{{"role": "user", "content": [{{"type": "video", {fields}}}]}}]}}"#
        )
    };
    check(
        &video(r#""video": "a.mp4", "fps": 2"#),
        expect![[
            r#"rows.jsonl:1: field "messages[0].content[0].video": expected the list of its frames, each the path of a picture, found "a.mp4""#
        ]],
    );
    check(
        &video(r#""fps": 2"#),
        expect![[
            r#"rows.jsonl:1: field "messages[0].content[0].video": expected the list of its frames, each the path of a picture, found nothing"#
        ]],
    );
    check(
        &video(r#""video": [], "fps": 2"#),
        expect![[
            r#"rows.jsonl:1: field "messages[0].content[0].video": expected the list of its frames, each the path of a picture, found a list of 0"#
        ]],
    );
    check(
        &video(r#""video": ["a.png", 3], "fps": 2"#),
        expect![[
            r#"rows.jsonl:1: field "messages[0].content[0].video[1]": expected the path of a picture, found 3"#
        ]],
    );
    check(
        &video(r#""video": ["a.png", "a.png"]"#),
        expect![[
            r#"rows.jsonl:1: field "messages[0].content[0].fps": expected frames a second, or "timestamps" in seconds, one a frame, found neither"#
        ]],
    );
    check(
        &video(r#""video": ["a.png", "a.png"], "fps": 0"#),
        expect![[
            r#"rows.jsonl:1: field "messages[0].content[0].fps": expected a number above 0, found 0"#
        ]],
    );
    check(
        &video(r#""video": ["a.png", "a.png"], "timestamps": [1]"#),
        expect![[
            r#"rows.jsonl:1: field "messages[0].content[0].timestamps": expected 2 numbers, the seconds of each frame, found 1"#
        ]],
    );
    check(
        &video(r#""video": ["a.png", "a.png"], "timestamps": [1, 0]"#),
        expect![[
            r#"rows.jsonl:1: field "messages[0].content[0].timestamps": expected seconds from 0 that do not fall, found [1.0, 0.0]"#
        ]],
    );
    check(
        &video(r#""video": ["a.png", "a.png"], "timestamps": [0, "x"]"#),
        expect![[
            r#"rows.jsonl:1: field "messages[0].content[0].timestamps": expected 2 numbers, the seconds of each frame, found a list of 2"#
        ]],
    );
    // this checkpoint's template writes no place for a video
    check(
        &video(r#""video": ["a.png", "a.png"], "fps": 2"#),
        expect![[
            r#"rows.jsonl:1: field "video": expected 0 videos, one for each <|video_pad|> of the prompt, found 1"#
        ]],
    );
    let (_dir, processor, _) = seeing_videos(&serde_json::Value::Null);
    for (frames, fact) in [
        (r#"["a.png"]"#, "at least the 2 frames of a patch"),
        (r#"["a.png", "b.png"]"#, "a file in"),
        (r#"["a.png", "rows.jsonl"]"#, "a picture (PNG or JPEG) in"),
    ] {
        let (_dir, rows) =
            rows_beside_pictures(&[&video(&format!(r#""video": {frames}, "fps": 2"#))]);
        let error = processor.encode(&rows[0]).unwrap_err().to_string();
        assert!(error.contains("rows.jsonl:1: field \"video\"") && error.contains(fact), "{error}");
    }
}

#[test]
fn frames_that_are_too_many_for_their_size_are_refused_before_all_are_decoded() {
    let (_dir, processor, _) = seeing_videos(&serde_json::json!({"do_resize": false}));
    let frames = [&["a.png"][..], &["no such.png"; 1 << 14]].concat();
    let row = serde_json::json!({"video": frames, "fps": 2, "question": "x"}).to_string();
    let (_dir, rows) = rows_beside_pictures(&[&row]);
    let error = processor.encode(&rows[0]).unwrap_err().to_string();
    assert!(error.contains("pixels to cut into patches"), "{error}");
}

#[test]
fn wrong_pictures_are_named_by_row_and_path() {
    check(
        r#"{"image": "b.png", "question": "x"}"#,
        expect![[r#"rows.jsonl:1: field "image": expected a file in b.png, found none"#]],
    );
    check(
        r#"{"image": "rows.jsonl", "question": "x"}"#,
        expect![[
            r#"rows.jsonl:1: field "image": expected a picture (PNG or JPEG) in rows.jsonl, found other bytes"#
        ]],
    );
    check(
        r#"{"image": "a.png", "question": "<|image_pad|> x"}"#,
        expect![[
            r#"rows.jsonl:1: field "image": expected 2 pictures, one for each <|image_pad|> of the prompt, found 1"#
        ]],
    );
}

#[test]
fn a_file_that_is_missing_is_named() {
    let error = read_jsonl("no/rows.jsonl".as_ref()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Missing);
    assert_eq!(error.to_string(), "no/rows.jsonl: expected a file, found none");
    assert!(read_jsonl("/".as_ref()).is_err());
}
