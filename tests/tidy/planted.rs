//! A violation of each rule, and a look-alike that is none.

use crate::rules;
use crate::source::Source;

/// One planted file, given to a rule; what the rule says about it.
fn plant(rule: fn(&[Source]) -> Vec<String>, path: &str, text: &str) -> Vec<String> {
    rule(&[Source::new(path, text)])
}

#[track_caller]
fn assert_bites(rule: fn(&[Source]) -> Vec<String>, path: &str, text: &str) {
    assert_eq!(plant(rule, path, text).len(), 1, "{path}: {text}");
}

#[track_caller]
fn assert_passes(rule: fn(&[Source]) -> Vec<String>, path: &str, text: &str) {
    assert_eq!(plant(rule, path, text), [""; 0], "{path}: {text}");
}

#[test]
fn an_upward_import_is_found_in_every_spelling() {
    let rule = rules::rooms_know_only_earlier_rooms;
    assert_bites(rule, "src/tensor/mod.rs", "use crate::graph::Graph;");
    assert_bites(rule, "src/tensor/mod.rs", "fn f(g: &crate::graph::Graph) {}");
    assert_bites(rule, "src/ops/mod.rs", "use encircle::graph::Graph;");
    assert_bites(
        rule,
        "src/ops/add.rs",
        "use crate::{\n    tensor::{self, Tensor},\n    graph,\n};",
    );
    assert_bites(rule, "src/ops/add.rs", "/// Fine.\nlet x = \"a\\\"b\"; crate::exec::run();");
    assert_passes(rule, "src/graph/mod.rs", "use crate::{tensor::{graphs, Tensor}, ops::Op};");
}

#[test]
fn a_stranger_is_found() {
    let rule = rules::rooms_know_only_earlier_rooms;
    for (room, stranger) in [
        ("layout", "checkpoint"),
        ("quant", "layout"),
        ("circle", "tensor"),
        ("ops", "graph"),
        ("graph", "checkpoint"),
        ("graph", "models"),
        ("graph", "algo"),
        ("models", "exec"),
        ("models", "quant"),
        ("models", "algo"),
        ("models", "circle"),
        ("models", "calibrate"),
        ("exec", "algo"),
        ("exec", "checkpoint"),
        ("algo", "models"),
        ("algo", "checkpoint"),
        ("algo", "circle"),
    ] {
        assert_bites(rule, &format!("src/{room}/x.rs"), &format!("use crate::{stranger}::Y;"));
    }
}

#[test]
fn comments_strings_and_tests_may_name_any_room() {
    let rule = rules::rooms_know_only_earlier_rooms;
    assert_passes(rule, "src/tensor/mod.rs", "//! See [`crate::graph`].\n/* crate::cli */");
    assert_passes(rule, "src/tensor/mod.rs", "const A: &str = r#\"\"crate::graph\"#;");
    assert_passes(rule, "src/tensor/tests.rs", "use crate::graph::Graph;");
    let inline = "#[cfg(test)]\nmod tests {\n    use crate::graph;\n}\n";
    assert_passes(rule, "src/tensor/mod.rs", inline);
    let after = format!("{inline}use crate::graph::Graph;");
    assert_bites(rule, "src/tensor/mod.rs", &after);
}

#[test]
fn an_unknown_room_is_found() {
    let rule = rules::rooms_know_only_earlier_rooms;
    assert_bites(rule, "src/kitchen/mod.rs", "");
    assert_bites(rule, "src/cli/mod.rs", "use crate::kitchen;");
    assert_bites(rule, "src/cli/mod.rs", "use crate::Facade;");
}

#[test]
fn climbing_to_the_root_is_found() {
    let rule = rules::super_stays_inside_the_room;
    assert_bites(rule, "src/tensor/mod.rs", "use super::graph::Graph;");
    assert_bites(rule, "src/tensor/gemm/kernel.rs", "use super::super::super::graph;");
    assert_passes(rule, "src/tensor/simd.rs", "use super::Par;");
    assert_passes(rule, "src/tensor/gemm/kernel.rs", "use super::super::Par;");
}

#[test]
fn files_and_environment_are_found_inside() {
    let rule = rules::only_border_rooms_touch_the_system;
    assert_bites(rule, "src/graph/mod.rs", "let x = std::fs::read(p);");
    assert_bites(rule, "src/exec/mod.rs", "use std::{collections::HashMap, env};");
    assert_bites(rule, "src/lib.rs", "use std::fs::File;");
    assert_passes(rule, "src/exec/mod.rs", "use std::{fmt, collections::fs};");
    assert_passes(rule, "src/lower/mod.rs", "env!(\"CARGO_PKG_VERSION\")");
    for path in ["src/checkpoint/x.rs", "src/dataset/x.rs", "src/pipeline/x.rs", "src/main.rs"] {
        assert_passes(rule, path, "use std::fs;");
    }
}

#[test]
fn a_long_file_is_found_and_the_list_is_exact() {
    let rule = rules::files_are_short;
    let long = "//\n".repeat(501);
    let planted = [Source::new("src/graph/mod.rs", &long)];
    assert_eq!(rule(&planted, &[]).len(), 1);
    assert_eq!(rule(&planted, &["src/graph/mod.rs"]), [""; 0]);
    assert_eq!(rule(&planted, &["src/graph/mod.rs", "src/graph/old.rs"]).len(), 1);
    assert_eq!(rule(&[Source::new("src/graph/mod.rs", &long[3..])], &[]), [""; 0]);
    for path in ["src/graph/tests.rs", "src/graph/tests/a.rs", "tests/it/main.rs"] {
        assert_eq!(rule(&[Source::new(path, &long)], &[]), [""; 0]);
    }
}

#[test]
fn a_long_function_is_found_and_the_list_is_exact() {
    let rule = rules::functions_fit_a_screen;
    let function = |lines: usize| {
        let body = "    let c = '{'; // }\n".repeat(lines - 2);
        format!("trait T {{ fn g(x: [u8; 2]); }}\nfn f<'a>(x: &'a [u8; 2]) -> u8 {{\n{body}}}\n")
    };
    let planted = |lines| [Source::new("src/graph/mod.rs", &function(lines))];
    assert_eq!(rule(&planted(70), &[]), [""; 0]);
    assert_eq!(
        rule(&planted(71), &[]),
        ["src/graph/mod.rs::f: 71 lines, the limit is 70".to_owned()]
    );
    assert_eq!(rule(&planted(71), &["src/graph/mod.rs::f"]), [""; 0]);
    assert_eq!(rule(&planted(70), &["src/graph/mod.rs::f"]).len(), 1);
}

#[test]
fn a_banned_name_is_found() {
    let rule = rules::files_are_named_after_their_subject;
    for path in ["src/graph/utils.rs", "src/common/mod.rs", "tools/my_helpers.py", "src/x/base.rs"]
    {
        assert_bites(rule, path, "");
    }
    assert_passes(rule, "src/tensor/base64.rs", "");
}

#[test]
fn a_note_to_self_is_found() {
    let rule = rules::nothing_is_left_for_later;
    assert_bites(rule, "src/graph/mod.rs", concat!("// FIX", "ME: later"));
    assert_bites(rule, "tools/x.py", concat!("# XX", "X"));
    assert_bites(rule, "src/graph/mod.rs", concat!("to", "do!()"));
    assert_bites(rule, "src/graph/mod.rs", concat!("db", "g!(x)"));
    assert_passes(rule, "src/graph/mod.rs", "// what is to do! no: fixed");
}

#[test]
fn a_machine_is_found() {
    let rule = rules::nothing_names_a_machine;
    assert_bites(rule, "tools/x.sh", concat!("cd /wo", "rk/main"));
    assert_bites(rule, "README.md", concat!("/ro", "ot/venv/bin"));
    assert_bites(rule, ".ci/run", concat!("pip install --index", "-url x"));
    assert_passes(rule, "README.md", "networks at work/rest");
}

#[test]
fn a_silent_room_is_found() {
    let rule = rules::rooms_say_what_they_are;
    assert_bites(rule, "src/graph/mod.rs", "use x;");
    assert_bites(rule, "src/graph/node.rs", "//! A room without a root.");
    assert_passes(rule, "src/graph/mod.rs", "//! The graph.");
}

#[test]
fn a_family_away_from_home_is_found() {
    let rule = rules::families_are_named_at_home_only;
    assert_bites(rule, "src/exec/mod.rs", "if name == \"Qwen3VL\" {}");
    assert_bites(rule, "src/cli/mod.rs", "fn llama() {}");
    assert_passes(rule, "src/cli/mod.rs", "let help = \"for Qwen3-VL\";");
    assert_passes(rule, "src/exec/mod.rs", "// as Llama does");
    assert_passes(rule, "src/layout/mod.rs", "RopeScaling::Llama3");
    assert_passes(rule, "src/models/qwen3_vl/mod.rs", "fn qwen() {}");
    assert_passes(rule, "src/checkpoint/config.rs", "\"qwen3_vl\"");
    assert_passes(rule, "src/exec/tests.rs", "fn qwen() {}");
}

#[test]
fn an_algorithm_away_from_home_is_found() {
    let rule = rules::algorithms_are_named_at_home_only;
    assert_bites(rule, "src/exec/mod.rs", "fn gptq() {}");
    assert_bites(rule, "src/pipeline/mod.rs", "match name { \"spinquant\" => {} }");
    assert_passes(rule, "src/algo/gptq/mod.rs", "fn gptq() {}");
    assert_passes(rule, "src/exec/mod.rs", "// what GPTQ needs");
}

#[test]
fn an_overspent_budget_is_found() {
    let (most, lines) = (rules::TOTAL_LINES_MAX, rules::TOTAL_LINES_MAX + 1);
    let planted = [Source::new("src/graph/mod.rs", &"//\n".repeat(lines))];
    let (line, broken) = rules::the_whole_keeps_its_budget(&planted);
    assert_eq!(line, format!("lines: graph {lines} = {lines} of {most}"));
    assert_eq!(broken.len(), 1);
    let within = [Source::new("src/graph/tests.rs", &"//\n".repeat(lines))];
    assert_eq!(rules::the_whole_keeps_its_budget(&within).1.len(), 0);
}

#[test]
fn the_repository_is_really_walked() {
    let paths: Vec<String> = crate::files().iter().map(|file| file.path.clone()).collect();
    for path in ["src/main.rs", "src/tensor/mod.rs", "tests/tidy/main.rs", "Cargo.toml", ".ci/run"]
    {
        assert!(paths.iter().any(|found| found == path), "{path} is not among the files");
    }
}
