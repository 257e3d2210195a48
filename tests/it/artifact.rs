//! `inspect`, `verify` and `extract` as a person types them, on files of the peer.

use crate::support::path;
use assert_cmd::Command;
use expect_test::{Expect, expect};

const LINEAR: &str = "tests/data/circle/linear.q.circle";
const BLOCK: &str = "tests/data/circle/block.circle";

/// Runs the binary in the repository; exit code, stdout, stderr.
pub(crate) fn encircle(args: &[&str]) -> (i32, String, String) {
    let output =
        Command::cargo_bin("encircle").unwrap().current_dir(path("")).args(args).output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

#[track_caller]
fn check(args: &[&str], code: i32, expected: &Expect) {
    let (found, stdout, stderr) = encircle(args);
    expected.assert_eq(&(stdout + &stderr));
    assert_eq!(found, code);
}

#[test]
fn inspect_prints_one_page_and_lists_on_demand() {
    check(
        &["inspect", LINEAR, "--tensors", "--ops"],
        0,
        &expect![[r#"
        tests/data/circle/linear.q.circle
          version      0
          description  circle
          graphs       1
          buffers      3, 48 bytes of payload

        graph 0 "subgraph"
          tensors 4, of them constant 2; operators 1

          operators                             element types
          FULLY_CONNECTED                    1  UINT8              3  32 bytes
                                                INT32              1  16 bytes

          inputs
              2  tico::args_0                        UINT8 [3, 8]              scale 0.0219, zero point 132

          outputs
              3  tico.quanti…ar.QuantLinear::linear  UINT8 [3, 4]              scale 0.00951, zero point 116

        graph 0 "subgraph"
             0  tico.quantiza…ar::_prop_tensor_constant6  UINT8 [4, 8]              32 bytes in buffer 1
                4 scales 0.00158..0.00249 along 0, zero point 107..137
             1  tico::p_wrapped_module_bias1              INT32 [4]                 16 bytes in buffer 2
                4 scales 3.466e-5..5.446e-5 along 0, zero point 0
             2  tico::args_0                              UINT8 [3, 8]
                scale 0.0219, zero point 132
             3  tico.quantiza…linear.QuantLinear::linear  UINT8 [3, 4]
                scale 0.00951, zero point 116

        graph 0 "subgraph"
             0  FULLY_CONNECTED           keep_num_dims=true
                <-     2  tico::args_0                                      UINT8 [3, 8]
                <-     0  tico.quantizati…ntLinear::_prop_tensor_constant6  UINT8 [4, 8]
                <-     1  tico::p_wrapped_module_bias1                      INT32 [4]
                ->     3  tico.quantizati…quant_linear.QuantLinear::linear  UINT8 [3, 4]
    "#]],
    );
}

#[test]
fn inspect_json_is_one_object_with_every_table() {
    let (code, stdout, _) = encircle(&["inspect", BLOCK, "--json"]);
    assert_eq!(code, 0);
    let json: serde_json::Value = serde_json::from_str(&stdout).unwrap();
    let operators = json["subgraphs"][0]["operators"].as_array().unwrap();
    assert!(!operators.is_empty() && operators.iter().all(|op| op["operator"].is_string()));
}

#[test]
fn verify_accepts_the_peers_files_and_warns_of_traps_on_demand() {
    for file in [LINEAR, BLOCK] {
        assert_eq!(encircle(&["verify", file]).0, 0, "{file}");
    }
    check(
        &["verify", LINEAR, "--target", "onert", "--target", "litert"],
        0,
        &expect![[r#"
        warning: subgraphs[0].inputs[0]: the Python API of onert cannot set UINT8
        warning: subgraphs[0].operators[0] FULLY_CONNECTED: onert uses the first of the scales for every channel
        warning: subgraphs[0].operators[0] FULLY_CONNECTED: LiteRT has no kernel for UINT8 with per-channel UINT8 weights
        0 errors, 3 warnings
    "#]],
    );
}

#[test]
fn verify_exits_with_1_on_an_invalid_file_and_2_on_no_file() {
    let folder = tempfile::tempdir().unwrap();
    let mut model = encircle::circle::read(&std::fs::read(path(LINEAR)).unwrap()).unwrap();
    model.subgraphs[0].outputs = vec![99];
    let broken = folder.path().join("broken.circle");
    std::fs::write(&broken, encircle::circle::to_bytes(&model).unwrap()).unwrap();
    let (code, stdout, _) = encircle(&["verify", broken.to_str().unwrap()]);
    assert_eq!(code, 1, "{stdout}");
    assert!(stdout.contains("error: subgraphs[0]"), "{stdout}");
    check(
        &["verify", "Cargo.toml"],
        2,
        &expect![[r#"
        error: Cargo.toml: bytes 4..8 are "kage", expected "CIR0" or "TFL3"
    "#]],
    );
    check(
        &["verify", "no-such-file.circle"],
        2,
        &expect![[r#"
        error: no-such-file.circle: cannot read: No such file or directory (os error 2)
    "#]],
    );
}

#[test]
fn extract_cuts_by_operators_and_by_names() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("part.circle");
    let out = out.to_str().unwrap();
    let (code, stdout, stderr) = encircle(&["extract", BLOCK, "--ops", "1-2", "-o", out]);
    assert_eq!((code, stderr.as_str()), (0, ""), "{stdout}");
    assert!(stdout.ends_with("2 operators, 4 tensors\n"), "{stdout}");
    assert_eq!(encircle(&["verify", out]).0, 0);

    let whole = encircle::circle::read(&std::fs::read(path(BLOCK)).unwrap()).unwrap();
    let graph = &whole.subgraphs[0];
    let last = &graph.tensors[usize::try_from(graph.outputs[0]).unwrap()].name;
    let (code, _, stderr) = encircle(&["extract", BLOCK, "--to", last, "-o", out]);
    assert_eq!((code, stderr.as_str()), (0, ""));

    check(
        &["extract", BLOCK, "--ops", "5-99", "-o", out],
        2,
        &expect![[r#"
        error: tests/data/circle/block.circle: operators 5-99 of 18, counted from 0
    "#]],
    );
    check(
        &["extract", BLOCK, "--to", "nothing", "-o", out],
        2,
        &expect![[r#"
        error: tests/data/circle/block.circle: no tensor is named "nothing": inspect --json lists them
    "#]],
    );
}

#[test]
fn packing_that_finds_no_weight_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("packed.circle");
    let (out, demo) = (out.to_str().unwrap(), crate::staged::demo().join("model.circle"));
    // integers, rows that are no whole blocks, rows that are
    for (file, warned) in [(LINEAR, true), (BLOCK, true), (demo.to_str().unwrap(), false)] {
        let (code, _, stderr) = encircle(&["export", file, "--weights", "q8_0", "-o", out]);
        assert_eq!((code, stderr.contains("no weight was packed")), (0, warned), "{stderr}");
    }
}

#[cfg(unix)]
#[test]
fn a_file_is_not_written_over_while_it_is_read() {
    let folder = tempfile::tempdir().unwrap();
    let (file, link) = (folder.path().join("block.circle"), folder.path().join("link"));
    std::fs::copy(path(BLOCK), &file).unwrap();
    std::os::unix::fs::symlink(&file, &link).unwrap();
    let (name, link) = (file.to_str().unwrap(), link.to_str().unwrap());
    for out in [name, link] {
        for args in [&["extract", name, "--ops", "1-2"][..], &["export", name]] {
            let (code, stdout, stderr) = encircle(&[args, &["-o", out]].concat());
            assert_eq!((code, stdout.as_str()), (2, ""), "{args:?}");
            assert!(stderr.contains("found the file that is read"), "{stderr}");
        }
    }
    assert!(std::fs::read(&file).unwrap() == std::fs::read(path(BLOCK)).unwrap());
}
