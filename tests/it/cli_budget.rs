//! `quantize --budget-bits`, `--budget-mib` and `--budget-kl` on the demo, as a person types them.

use assert_cmd::Command;
use serde_json::Value;
use std::fs;
use std::path::Path;

fn quantize(folder: &Path, more: &[&str]) -> (i32, String, String) {
    let mut command = Command::cargo_bin("encircle").unwrap();
    let output = command.current_dir(folder).arg("quantize").args(more).output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

fn facts(folder: &Path, more: &[&str]) -> Value {
    let (code, stdout, stderr) = quantize(folder, &[more, &["--json"]].concat());
    assert_eq!(code, 0, "{stderr}");
    serde_json::from_str(&stdout).unwrap()
}

#[test]
fn a_budget_in_bits_is_kept_and_the_saved_recipe_makes_the_same_bytes() {
    let folder = tempfile::tempdir().unwrap();
    let told = facts(folder.path(), &["-o", "a", "--budget-bits", "4.5", "--threads", "1"]);
    let budget = &told["budget"];
    assert!(budget["mean_bits"].as_f64().unwrap() <= 4.5);
    // Some got more than others, and everybody's losses are told.
    let choices = budget["choices"].as_array().unwrap();
    let chosen = |option: u64| choices.iter().any(|choice| choice["chosen"] == option);
    assert!(chosen(0) && chosen(1), "{budget}");
    for choice in choices {
        let candidates = choice["candidates"].as_array().unwrap();
        assert!(candidates.iter().all(|candidate| candidate["loss"].is_f64()), "{choice}");
    }
    let first = fs::read(folder.path().join("a/model.q.circle")).unwrap();
    facts(folder.path(), &["-o", "b", "--recipe", "a/recipe.toml"]);
    assert!(first == fs::read(folder.path().join("b/model.q.circle")).unwrap());
    facts(folder.path(), &["-o", "c", "--budget-bits", "4.5", "--threads", "3"]);
    assert!(first == fs::read(folder.path().join("c/model.q.circle")).unwrap());
}

#[test]
fn a_budget_in_mebibytes_holds_all_weights_with_their_grids() {
    let folder = tempfile::tempdir().unwrap();
    let of =
        |mib: &str| facts(folder.path(), &["-o", "out", "--budget-mib", mib])["budget"].clone();
    let (small, large) = (of("1.2"), of("1.4"));
    for (budget, mib) in [(&small, 1.2), (&large, 1.4)] {
        let bytes = budget["bytes"].as_f64().unwrap();
        assert!(bytes <= mib * f64::from(1 << 20), "{bytes} {mib}");
    }
    assert!(large["loss"].as_f64().unwrap() <= small["loss"].as_f64().unwrap());
}

#[test]
fn a_budget_in_divergence_widens_few_activations_and_the_saved_recipe_makes_the_same_bytes() {
    let folder = tempfile::tempdir().unwrap();
    let run = |out: &str, more: &[&str]| {
        let narrow = ["--recipe", "w8a8-minmax", "-o", out];
        facts(folder.path(), &[&narrow[..], more].concat())
    };
    let told = run("a", &["--budget-kl", "0.001", "--threads", "1"]);
    let budget = &told["budget_kl"];
    let [loss, before] = ["loss", "narrow_loss"].map(|key| budget[key].as_f64().unwrap());
    assert!(loss <= 0.001 && before > 0.1, "{loss} {before}");
    let choices = budget["choices"].as_array().unwrap();
    let got = |choice: &Value| {
        let chosen = choice["chosen"].as_u64().unwrap() as usize;
        choice["candidates"][chosen]["dtype"].clone()
    };
    let wide = choices.iter().filter(|choice| got(choice) == "int16").count();
    assert!((1..choices.len() / 2).contains(&wide), "{wide} of {}", choices.len());
    let plain = run("plain", &[]);
    let kl = |told: &Value| told["eval"]["quantized"]["kl_all"].as_f64().unwrap();
    assert!(kl(&told) < kl(&plain) / 10.0, "{} {}", kl(&told), kl(&plain));
    assert!(plain["budget_kl"].is_null());

    let bytes = |out: &str| fs::read(folder.path().join(out).join("model.q.circle")).unwrap();
    facts(folder.path(), &["-o", "b", "--recipe", "a/recipe.toml"]);
    let threads = ["--budget-kl", "0.001", "--threads", "3"];
    let text = ["--recipe", "w8a8-minmax", "-o", "c"];
    let (_, told, _) = quantize(folder.path(), &[text, threads].concat());
    assert!(told.contains("KL if alone in 8 bits") && told.contains('…'), "{told}");
    assert_eq!(told.lines().find(|line| line.chars().count() > 80), None);
    assert!(bytes("a") == bytes("b") && bytes("a") == bytes("c"));
    // Where grids of 8 and 16 bits meet, every tensor has a name of its own, too.
    let mut verify = Command::cargo_bin("encircle").unwrap();
    let told =
        verify.current_dir(folder.path()).args(["verify", "a/model.q.circle"]).output().unwrap();
    let told = String::from_utf8(told.stdout).unwrap();
    assert!(told.contains("0 errors, 0 warnings"), "{told}");
}

#[test]
fn impossible_budgets_are_one_error_with_the_least_possible_size() {
    let folder = tempfile::tempdir().unwrap();
    // What weights take is known before anything is measured.
    for (flag, value, least, measured) in [
        ("--budget-bits", "3.5", "4.0000 bits a weight", false),
        ("--budget-mib", "0.1", "MiB", false),
        ("--budget-kl", "1e-12", "16 bits for every activation", true),
    ] {
        let given = ["-o", "out", "--recipe", "w8a8", flag, value];
        let (code, stdout, stderr) = quantize(folder.path(), &given);
        assert_eq!((code, stdout.as_str()), (2, ""));
        assert!(stderr.contains("least possible") && stderr.contains(least), "{stderr}");
        // What was measured stays, for another budget.
        let left = fs::read_dir(folder.path().join("out")).into_iter().flatten();
        let left: Vec<_> = left.map(|entry| entry.unwrap().file_name()).collect();
        assert!(if measured { left == ["unfinished"] } else { left.is_empty() }, "{left:?}");
    }
    for senseless in ["nan", "0", "-1", "some"] {
        let (code, _, stderr) = quantize(folder.path(), &[&format!("--budget-kl={senseless}")]);
        assert!(code == 2 && stderr.contains("expected a divergence above 0"), "{stderr}");
    }
}

#[test]
fn a_budget_for_activations_that_have_all_bits_says_that_there_is_nothing_to_widen() {
    let folder = tempfile::tempdir().unwrap();
    let given = ["-o", "out", "--preset", "a16", "--budget-kl", "0.1"];
    let (code, stdout, stderr) = quantize(folder.path(), &given);
    assert_eq!((code, stderr.as_str()), (0, ""));
    assert!(stdout.contains("nothing to widen") && !stdout.contains("0 of 0"), "{stdout}");
}
