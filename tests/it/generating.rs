//! Answers from the files of a staged set, against those of Hugging Face's own model.

use crate::artifact::encircle;
use crate::staged::{demo, shared};
use crate::support::path;
use encircle::checkpoint::Checkpoint;
use encircle::circle;
use encircle::dataset::{Processor, Row, read_jsonl};
use encircle::pipeline::{Chain, Reading, Sampling};
use encircle::runtime::{Limits, Program};
use encircle::tensor::Tensor;
use serde_json::Value;
use std::path::Path;

/// Tokens at most; the longest answer of the demo has fewer.
const LIMIT: usize = 32;

/// A question of the demo's test scenes, and what Hugging Face's model says to it.
struct Question {
    row: Row,
    prompt: Vec<u32>,
    said: Vec<u32>,
    /// The right answer.
    answer: String,
}

fn questions() -> Vec<Question> {
    let read = |file: &str| std::fs::read_to_string(path(file)).unwrap();
    let golden: Vec<Value> = serde_json::from_str(&read("tests/data/vqa/answers.json")).unwrap();
    let rows = read("assets/vqa/test.jsonl");
    let rows = rows.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let questions: Vec<Question> = golden
        .iter()
        .zip(rows)
        .map(|(golden, row)| {
            assert_eq!([&golden["image"], &golden["question"]], [&row["image"], &row["question"]]);
            let picture = path("assets/vqa").join(row["image"].as_str().unwrap());
            let ids = |field: &str| serde_json::from_value(golden[field].clone()).unwrap();
            Question {
                row: asking(row["question"].as_str().unwrap(), &picture),
                prompt: ids("prompt"),
                said: ids("answer"),
                answer: row["answer"].as_str().unwrap().into(),
            }
        })
        .collect();
    assert_eq!(questions.len(), 50);
    questions
}

fn asking(question: &str, picture: &Path) -> Row {
    Row::asking(question, &[picture.to_str().unwrap().into()]).unwrap()
}

fn pixie() -> Checkpoint {
    Checkpoint::open(&path("assets/pixie")).unwrap()
}

fn greedy(chain: &Chain, checkpoint: &Checkpoint, row: &Row) -> Vec<u32> {
    chain.generate(checkpoint, row, Sampling::default(), LIMIT, &mut |_| {}).unwrap().tokens
}

#[test]
fn greedy_answers_of_the_float_files_are_those_of_hugging_face() {
    let (checkpoint, processor) = (pixie(), Processor::new(&pixie()).unwrap());
    let chain = Chain::open(&demo().join("stages"), Reading::Float).unwrap();
    let mut tokens = 0;
    for Question { row, prompt, said, .. } in questions() {
        assert_eq!(processor.encode(&row).unwrap().input_ids, prompt, "{row:?}");
        assert_eq!(greedy(&chain, &checkpoint, &row), said, "{row:?}");
        tokens += said.len();
    }
    assert!(tokens > 100, "{tokens}");
}

/// What the report counts on its rows bounds what is lost on the 50 first of them.
#[test]
fn quantized_answers_lose_at_most_what_the_report_predicts() {
    let (checkpoint, processor) = (pixie(), Processor::new(&pixie()).unwrap());
    let report = std::fs::read(demo().join("report.json")).unwrap();
    let report: Value = serde_json::from_slice(&report).unwrap();
    let wrong = |side: &str| {
        let score = &report["eval"][side];
        let rows = score["rows"].as_f64().unwrap();
        (rows * (1.0 - score["exact"].as_f64().unwrap())).round() as i64
    };
    let predicted = wrong("quantized") - wrong("float");
    let questions = questions();
    let right = |said: &[u32], answer: &str| {
        i64::from(processor.tokenizer().decode(said, true).unwrap() == answer)
    };
    let float: i64 = questions.iter().map(|q| right(&q.said, &q.answer)).sum();
    for reading in [Reading::Rounded, Reading::Integers] {
        let chain = Chain::open(&demo().join("stages"), reading).unwrap();
        let said = |q: &Question| right(&greedy(&chain, &checkpoint, &q.row), &q.answer);
        let lost = float - questions.iter().map(said).sum::<i64>();
        println!("{reading:?}: {lost} of 50 lost, the report predicts {predicted}");
        assert!(lost <= predicted.max(0), "{reading:?}: {lost} lost, predicted {predicted}");
    }
}

#[test]
fn files_that_share_weights_say_the_same() {
    let checkpoint = pixie();
    for reading in [Reading::Float, Reading::Rounded, Reading::Integers] {
        let [own, shared] =
            [demo(), shared()].map(|out| Chain::open(&out.join("stages"), reading).unwrap());
        for question in questions().iter().take(3) {
            let said = [&own, &shared].map(|chain| greedy(chain, &checkpoint, &question.row));
            assert_eq!(said[0], said[1]);
        }
    }
}

#[test]
fn a_seed_repeats_what_was_drawn() {
    let checkpoint = pixie();
    let chain = Chain::open(&demo().join("stages"), Reading::Rounded).unwrap();
    let row = asking("Describe the image.", &path("assets/vqa/test_001.jpg"));
    let draw = |seed| {
        let sampling = Sampling { temperature: 3.0, top_k: 50, top_p: 0.99, seed };
        chain.generate(&checkpoint, &row, sampling, LIMIT, &mut |_| {}).unwrap().tokens
    };
    assert_eq!(draw(1), draw(1));
    assert!((2..12).any(|seed| draw(seed) != draw(1)), "ten seeds draw the same");
}

/// The demo's checkpoint with one of its files changed.
fn changed(file: &str, change: impl Fn(&mut Value)) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for entry in std::fs::read_dir(path("assets/pixie")).unwrap() {
        let entry = entry.unwrap();
        std::fs::copy(entry.path(), folder.path().join(entry.file_name())).unwrap();
    }
    let at = folder.path().join(file);
    let mut json: Value = serde_json::from_slice(&std::fs::read(&at).unwrap()).unwrap();
    change(&mut json);
    std::fs::write(&at, json.to_string()).unwrap();
    folder
}

#[test]
fn an_answer_ends_at_every_token_that_the_checkpoint_ends_with() {
    let chain = Chain::open(&demo().join("stages"), Reading::Float).unwrap();
    let Question { row, said, .. } = questions().into_iter().find(|q| q.said.len() > 2).unwrap();
    let folder = changed("generation_config.json", |json| {
        json["eos_token_id"] = serde_json::json!([1, said[2]]);
    });
    let checkpoint = Checkpoint::open(folder.path()).unwrap();
    assert_eq!(greedy(&chain, &checkpoint, &row), said[..2]);
}

#[test]
fn an_answer_breaks_off_behind_the_last_position_of_the_files() {
    let checkpoint = pixie();
    let chain = Chain::open(&demo().join("stages"), Reading::Float).unwrap();
    let manifest = std::fs::read(demo().join("stages/manifest.json")).unwrap();
    let manifest: Value = serde_json::from_slice(&manifest).unwrap();
    let Question { row, prompt, .. } = questions().remove(0);
    let draw = |seed| {
        let sampling = Sampling { temperature: 1e6, seed, ..Sampling::default() };
        chain.generate(&checkpoint, &row, sampling, 1000, &mut |_| {}).unwrap()
    };
    let full = (0..20).map(draw).find(|answer| answer.full).unwrap();
    // the last token is said and not heard
    let heard = prompt.len() + full.tokens.len() - 1;
    assert_eq!(heard as u64, manifest["seq_len"].as_u64().unwrap());
}

#[test]
fn files_of_another_checkpoint_are_refused() {
    let chain = Chain::open(&demo().join("stages"), Reading::Float).unwrap();
    let folder = changed("config.json", |json| json["text_config"]["rms_norm_eps"] = 1e-3.into());
    let checkpoint = Checkpoint::open(folder.path()).unwrap();
    let Question { row, .. } = questions().remove(0);
    let answer = chain.generate(&checkpoint, &row, Sampling::default(), LIMIT, &mut |_| {});
    let error = answer.unwrap_err().to_string();
    assert!(error.contains("manifest.json: checkpoint: found "), "{error}");
    assert!(error.contains("another one"), "{error}");
}

#[test]
fn the_command_samples_and_runs_on_integers() {
    let stages = demo().join("stages");
    let picture = path("assets/vqa/test_000.jpg");
    let question = ["--prompt", "Where does the digit stand?"];
    let args = ["generate", stages.to_str().unwrap(), "--image", picture.to_str().unwrap()];
    let ask = |more: &[&str]| encircle(&[&args[..], &question, more].concat());
    assert_eq!(ask(&["--integer"]), (0, "bottom left\n".into(), String::new()));
    let sampled = ask(&["--temperature", "0.01", "--top-k", "3", "--top-p", "0.9", "--seed", "5"]);
    assert_eq!(sampled, (0, "bottom left\n".into(), String::new()));
    let (code, _, stderr) = ask(&["--temperature", "1", "--top-p", "2"]);
    assert_eq!(code, 2);
    assert!(stderr.contains("top_p: found 2, expected more than 0, at most 1"), "{stderr}");
}

/// The demo's checkpoint with one text of its template replaced, or without any template.
fn templated(change: Option<[&str; 2]>) -> tempfile::TempDir {
    let folder = changed("config.json", |_| {});
    let file = folder.path().join("chat_template.jinja");
    let template = std::fs::read_to_string(&file).unwrap();
    match change {
        Some([from, to]) => std::fs::write(&file, template.replace(from, to)).unwrap(),
        None => std::fs::remove_file(&file).unwrap(),
    }
    folder
}

/// Quantizes the checkpoint in `folder` on one row, with its staged set in `out`.
fn staged(folder: &Path, row: &str) {
    std::fs::write(folder.join("rows.jsonl"), format!("{row}\n")).unwrap();
    let [rows, out] = ["rows.jsonl", "out"].map(|name| folder.join(name).display().to_string());
    let job = ["quantize", folder.to_str().unwrap(), "--calib", &rows, "-o", &out, "--stages"];
    let (code, _, stderr) = encircle(&[&job[..], &["--preset", "w8a8"]].concat());
    assert_eq!((code, stderr.as_str()), (0, ""));
}

#[test]
fn a_checkpoint_without_a_template_goes_on_from_a_text() {
    let folder = templated(None);
    let at = |name: &str| folder.path().join(name).display().to_string();
    staged(folder.path(), r#"{"text": "Where does the digit stand? It stands at the top left"}"#);
    let (stages, dir, text) = (at("out/stages"), at(""), "Where does the digit");
    let args = ["generate", &stages, "--checkpoint", &dir, "--prompt"];
    let (code, said, stderr) =
        encircle(&[&args[..], &[text, "--float", "--max-tokens", "1"]].concat());
    assert_eq!((code, stderr.as_str()), (0, ""));

    // What the whole float model says after the tokens of the text.
    let checkpoint = Checkpoint::open(folder.path()).unwrap();
    let processor = Processor::new(&checkpoint).unwrap();
    let ids = processor.encode_document(text, "text").unwrap();
    let model = circle::read(&std::fs::read(at("out/model.circle")).unwrap()).unwrap();
    let program = Program::new(&model, Limits::default()).unwrap();
    let mut padded: Vec<f32> = ids.iter().map(|&id| id as f32).collect();
    let shape = &program.inputs()[0].shape;
    padded.resize(shape.iter().product(), 0.0);
    let logits = program.run(&[Tensor::new(shape.clone(), padded)]).unwrap().remove(0);
    let width = *logits.shape().last().unwrap();
    let last = &logits.data()[(ids.len() - 1) * width..ids.len() * width];
    let likeliest = (0..width).max_by(|&a, &b| last[a].total_cmp(&last[b])).unwrap();
    let expected = processor.tokenizer().decode(&[likeliest as u32], true).unwrap();
    assert_eq!(said, format!("{expected}\n"));

    // Pictures have their places in templates only.
    let picture = path("assets/vqa/test_000.jpg").display().to_string();
    let (code, _, stderr) = encircle(&[&args[..], &[text, "--image", &picture]].concat());
    assert!(code == 2 && stderr.contains("a chat template in the checkpoint"), "{stderr}");
}

#[test]
fn a_video_is_shown_frame_by_frame_and_its_lack_is_told_in_words() {
    let text = "{% elif content['type'] == 'text' %}";
    let video = "{% elif content['type'] == 'video' %}<|vision_start|><|video_pad|><|vision_end|>";
    let folder = templated(Some([text, &format!("{video}{text}")]));
    let frames = [0, 1, 1, 0].map(|i| path(&format!("assets/vqa/train_00{i}.jpg")));
    let frames = frames.map(|frame| frame.display().to_string());
    let row = serde_json::json!({
        "video": frames, "timestamps": [0.0, 0.5, 1.0, 1.5], "question": "Which digit is it?",
        "answer": "It is the digit six",
    });
    staged(folder.path(), &row.to_string());
    let stages = folder.path().join("out/stages");
    let (place, dir) = (stages.to_str().unwrap(), folder.path().to_str().unwrap());
    let args = ["generate", place, "--checkpoint", dir, "--prompt", "Which digit is it?"];
    let ask = |more: &[&str]| encircle(&[&args[..], &["--max-tokens", "4"], more].concat());
    let shown: Vec<&str> = frames.iter().map(String::as_str).collect();
    let seen = [&["--video"][..], &shown, &["--timestamps", "0,0.5,1,1.5"]].concat();
    let (code, said, stderr) = ask(&seen);
    assert_eq!(code, 0, "{stderr}");
    let mut row = row;
    row.as_object_mut().unwrap().remove("answer");
    std::fs::write(folder.path().join("ask.jsonl"), row.to_string()).unwrap();
    let row = read_jsonl(&folder.path().join("ask.jsonl")).unwrap().remove(0);
    let checkpoint = Checkpoint::open(folder.path()).unwrap();
    let (chain, mut text) = (Chain::open(&stages, Reading::Rounded).unwrap(), String::new());
    chain.generate(&checkpoint, &row, Sampling::default(), 4, &mut |more| text += more).unwrap();
    assert_eq!(said, text + "\n", "as rows of data sets have it");

    let (code, _, stderr) = ask(&[]);
    let words = "the prompt: found no pictures, the files are for video frame 1x4x4 at ";
    assert!(code == 2 && stderr.contains(words) && !stderr.contains('['), "{stderr}");
    let (code, _, stderr) = ask(&[&seen[..6], &["0,0.5"]].concat());
    let words = "field \"timestamps\": expected 4 numbers, the seconds of each frame, found 2";
    assert!(code == 2 && stderr.contains(words), "{stderr}");
    let (code, _, stderr) = ask(&seen[..5]);
    assert!(code == 2 && stderr.contains("--timestamps"), "{stderr}");
}
