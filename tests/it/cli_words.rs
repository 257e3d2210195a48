//! What the command line says: values that no option takes, what is offered, counts, and places.

use crate::artifact::encircle;
use crate::support::path;

const DEMO: [&str; 4] = ["quantize", "--recipe", "w8a8-minmax", "-o"];

/// The command fails, and says all of `facts`.
#[track_caller]
fn refused(args: &[&str], facts: &[&str]) {
    let (code, stdout, stderr) = encircle(args);
    assert_eq!((code, stdout.as_str()), (2, ""), "{args:?}: {stderr}");
    for fact in facts {
        assert!(stderr.contains(fact), "{args:?}: no {fact:?} in: {stderr}");
    }
}

#[test]
fn numbers_below_0_are_refused_by_the_option_that_has_them() {
    let whole = "expected a whole number, 0 or more";
    let some = "expected a whole number, 1 or more";
    let eval = ["eval", "ck", "--calib", "a", "--text", "a", "--recipe", "w8a8"];
    let ask = ["generate", "out", "--prompt", "a", "--temperature", "1"];
    let cases: [(&[&str], &str, &str); 14] = [
        (&["quantize"], "--visual-start", whole),
        (&["quantize"], "--seq-len", some),
        (&["quantize", "--io", "io"], "--io-samples", some),
        (&["quantize"], "--memory", "expected at least one byte"),
        (&["quantize"], "--budget-bits", "expected a number above 0"),
        (&["quantize"], "--budget-kl", "expected a divergence above 0"),
        (&["quantize"], "--save-every", "expected seconds, 0 or more"),
        (&["quantize"], "--threads", "1..=1024"),
        (&["plan", "ck", "--seq-len", "8"], "--samples", "1..=1000000"),
        (&["rope"], "--merge", some),
        (&eval, "--windows", some),
        (&eval, "--stride", whole),
        (&ask, "--top-k", whole),
        (&ask, "--seed", whole),
    ];
    for (command, option, expected) in cases {
        let facts = ["invalid value '-1'", option, expected];
        refused(&[command, &[option, "-1"]].concat(), &facts);
    }
    let grid = ["'-1,8,8' for '--grid <T,H,W>': expected T,H,W", some];
    refused(&["quantize", "--grid", "-1,8,8"], &grid);
    refused(&["quantize", "--grid", "0,0,0"], &["'0,0,0' for '--grid <T,H,W>'", some]);
    let odd = ["error: --grid: ", "height 7 of grid [1, 7, 8] is no multiple of the merge size 2"];
    let folder = tempfile::tempdir().unwrap();
    refused(&["quantize", "--grid", "1,7,8", "-o", folder.path().to_str().unwrap()], &odd);
}

#[test]
fn help_offers_what_works() {
    let help = |command| {
        let (code, stdout, _) = encircle(&[command, "--help"]);
        assert_eq!(code, 0);
        stdout
    };
    let quantize = help("quantize");
    assert!(quantize.contains("{\"text\": \"") && quantize.contains("--shard"), "{quantize}");
    assert!(quantize.contains("mx, blocks that no file can hold"), "{quantize}");
    assert!(!help("plan").contains("--shard"));
    refused(&["extract", "a.circle", "-o", "b.circle"], &["--ops <A-B>|--to <NAME>"]);

    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().to_str().unwrap();
    assert_eq!(encircle(&[&DEMO[..], &[out]].concat()).0, 0);
    let extract = help("extract");
    let example = extract.split("  encircle ").nth(2).unwrap().split('`').next().unwrap();
    let words = example.split_whitespace().filter(|word| *word != "\\");
    let [model, head] = ["model.circle", "head.circle"].map(|name| format!("{out}/{name}"));
    let pasted: Vec<&str> = words
        .map(|word| match word {
            "model.circle" => &model[..],
            "head.circle" => &head[..],
            word => word,
        })
        .collect();
    let (code, stdout, stderr) = encircle(&pasted);
    assert_eq!((code, stderr.as_str()), (0, ""), "{pasted:?}");
    let end = stdout.trim_end().ends_with("kB, 1 operator, 3 tensors");
    assert!(stdout.starts_with("wrote ") && end, "{stdout}");
    refused(
        &["extract", &model, "--to", "logits", "-o", &head],
        &["no tensor is named \"logits\"", "inspect --json"],
    );
}

#[test]
fn weights_in_blocks_are_not_written_for_litert_which_reads_none() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    assert_eq!(encircle(&[&DEMO[..], &[&at("")]].concat()).0, 0);
    let (model, out) = (at("model.circle"), at("out.circle"));
    let export = |target| ["export", &model, "--weights", "q4_0", "--target", target, "-o", &out];
    refused(&export("litert"), &["model.circle: weights in blocks: LiteRT reads none"]);
    assert!(!folder.path().join("out.circle").exists());
    assert_eq!(encircle(&export("onert")).0, 0);
    // our own file for LiteRT is judged as one
    let lite = at("model.tflite");
    assert_eq!(encircle(&["export", &model, "--format", "tflite", "-o", &lite]).0, 0);
    assert_eq!(encircle(&["verify", &lite]).1, "0 errors, 0 warnings\n");
    let (_, warned, _) = encircle(&["verify", &lite, "--target", "one"]);
    assert!(warned.ends_with("\n0 errors, 1 warning\n"), "{warned}");
}

#[test]
fn a_file_in_place_of_a_folder_is_named_before_anything_runs() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("afile");
    std::fs::write(&file, "keep").unwrap();
    let file = file.to_str().unwrap();
    let fact = "afile is a file, expected a folder";
    refused(&["run", &path("Cargo.toml").display().to_string(), "-o", file], &[fact]);
    let out = folder.path().to_str().unwrap();
    let shard = [&DEMO[..], &[out, "--shard", "1/1"]].concat();
    assert_eq!(encircle(&shard).0, 0);
    let statistics = format!("{out}/statistics.1-of-1.stats");
    refused(&["merge", &statistics, "-o", &format!("{file}/x")], &[fact]);
}

#[test]
fn shells_complete_commands_and_options() {
    for shell in ["bash", "elvish", "fish", "powershell", "zsh"] {
        let (code, script, stderr) = encircle(&["completions", shell]);
        assert_eq!((code, stderr.as_str()), (0, ""), "{shell}");
        for word in ["quantize", "visual-start", "cuda"] {
            assert!(script.contains(word), "{shell}: no {word}");
        }
    }
    refused(&["completions", "tcsh"], &["'tcsh' for '<SHELL>'", "bash"]);
}
