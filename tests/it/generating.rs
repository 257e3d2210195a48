//! Answers from the files of a staged set, against those of Hugging Face's own model.

use crate::artifact::encircle;
use crate::staged::{demo, shared};
use crate::support::path;
use encircle::checkpoint::Checkpoint;
use encircle::dataset::{Processor, Row};
use encircle::pipeline::{Chain, Reading, Sampling};
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
