//! How commands end that somebody stops, that a limit stops, whose disk refuses, or that nobody reads.
#![cfg(unix)]

use crate::support::path;
use assert_cmd::Command as Binary;
use encircle::circle::{self, Buffer};
use encircle::runtime::npy;
use std::collections::BTreeSet;
use std::fs::{self, File};
use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};
use tempfile::TempDir;

const LINEAR: &str = "tests/data/circle/linear.q.circle";

/// A folder to work in.
struct Desk(TempDir);

impl Desk {
    fn new() -> Desk {
        Desk(tempfile::tempdir().unwrap())
    }

    fn at(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// The command of a shell with `$encircle` and `$linear` in it.
    fn shell(&self, line: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", line]).current_dir(self.0.path());
        command.env("encircle", Binary::cargo_bin("encircle").unwrap().get_program());
        command.env("linear", path(LINEAR)).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    #[track_caller]
    fn ends(&self, line: &str, code: i32, facts: &[&str]) -> String {
        let Output { status, stderr, .. } = self.shell(line).output().unwrap();
        let stderr = String::from_utf8(stderr).unwrap();
        assert_eq!(status.code(), Some(code), "{line}: {stderr}");
        for fact in facts {
            assert!(stderr.contains(fact), "{line}: no {fact:?} in: {stderr}");
        }
        stderr
    }

    fn pipe(&self, name: &str) {
        assert!(Command::new("mkfifo").arg(self.at(name)).status().unwrap().success());
    }

    /// How many half-written files are in `folder` whose names begin so.
    fn partials(&self, folder: &str, name: &str) -> usize {
        let entries = fs::read_dir(self.at(folder)).unwrap();
        let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        names.filter(|found| found.starts_with(name) && found.ends_with(".partial")).count()
    }
}

#[test]
fn a_command_that_is_stopped_takes_what_is_half_written_with_it_and_the_next_what_a_killed_one_left()
 {
    let desk = Desk::new();
    let line = "exec $encircle run $linear --input 0=in.npy --edges edges -o out";
    let halves = npy::Array { shape: vec![3, 8], elements: npy::Elements::F32(vec![0.5; 24]) };
    fs::write(desk.at("in.npy"), npy::write(&halves)).unwrap();
    for (signal, code) in [("-INT", Some(130)), ("-TERM", Some(130)), ("-KILL", None)] {
        fs::create_dir(desk.at("edges")).unwrap();
        // Nobody reads from it, so that the file before it is complete and waits.
        desk.pipe("edges/out0.npy");
        let child = desk.shell(line).spawn().unwrap();
        let begun = Instant::now();
        while desk.partials("edges", ".in0.npy.") == 0 {
            assert!(begun.elapsed() < Duration::from_secs(60), "nothing is written");
            thread::sleep(Duration::from_millis(1));
        }
        Command::new("kill").args([signal, &child.id().to_string()]).status().unwrap();
        let Output { status, stderr, .. } = child.wait_with_output().unwrap();
        assert_eq!(status.code(), code);
        assert_eq!(String::from_utf8(stderr).unwrap().contains("stopped"), code.is_some());
        assert_eq!(desk.partials("edges", ".") == 0, code.is_some(), "{signal}");
        fs::remove_file(desk.at("edges/out0.npy")).unwrap();
        desk.ends(line, 0, &[]);
        assert_eq!(desk.partials("edges", "."), 0);
        fs::remove_dir_all(desk.at("edges")).unwrap();
    }
}

#[test]
fn a_file_that_cannot_be_replaced_leaves_all_as_they_were() {
    let desk = Desk::new();
    let line = |preset: &str| format!("$encircle quantize -o out --stages --preset {preset}");
    let files = || {
        let entries = ["out", "out/stages"].map(|folder| fs::read_dir(desk.at(folder)).unwrap());
        let paths = entries.into_iter().flatten().map(|entry| entry.unwrap().path());
        let files =
            paths.filter(|path| path.is_file()).map(|path| (fs::read(&path).unwrap(), path));
        files.collect::<BTreeSet<_>>()
    };
    desk.ends(&line("npu"), 0, &[]);
    let before = files();
    for name in ["recipe.toml", "model.q.circle", "stages/manifest.json"] {
        let file = desk.at("out").join(name);
        let chattr =
            |flag: &str| Command::new("chattr").arg(flag).arg(&file).stderr(Stdio::null()).status();
        // Only root can do that, and not on every disk.
        if !chattr("+i").is_ok_and(|status| status.success()) {
            return;
        }
        let output = desk.shell(&line("w8a8")).output();
        chattr("-i").unwrap();
        let stderr = String::from_utf8(output.unwrap().stderr).unwrap();
        assert!(stderr.contains(&format!("out/{name}: cannot write")), "{stderr}");
        assert!(files() == before, "{name}");
        assert_eq!(desk.partials("out", "."), 0);
        // it is there if the job took a while
        let _ = fs::remove_dir_all(desk.at("out/unfinished"));
    }
}

#[test]
fn a_job_is_alone_in_its_folder_with_weights_only_too_and_finds_files_there() {
    let desk = Desk::new();
    fs::create_dir_all(desk.at("out/unfinished")).unwrap();
    let lock = File::create(desk.at("out/unfinished/job.lock")).unwrap();
    lock.lock().unwrap();
    // Of many files that wait for their names not all are locked.
    fs::write(desk.at("out/.recipe.toml.0123456789abcdef.partial"), "theirs").unwrap();
    for rest in ["--weights-only --seq-len 8", "--preset npu"] {
        let line = format!("$encircle quantize -o out {rest}");
        desk.ends(&line, 2, &["out/unfinished: ", "another process"]);
        assert_eq!(desk.partials("out", "."), 1, "what the other has half-written");
        assert_eq!(fs::read_dir(desk.at("out")).unwrap().count(), 2);
    }
    drop(lock);
    desk.ends("$encircle quantize -o out --weights-only --seq-len 8", 0, &[]);
    assert!(!desk.at("out/unfinished").exists());
    for (name, rest) in
        [("model.circle", "--preset npu"), ("recipe.toml", "--weights-only --seq-len 8")]
    {
        let file = desk.at("out").join(name);
        let _ = fs::remove_file(&file);
        let line = format!("$encircle quantize -o out {rest}");
        desk.pipe(&format!("out/{name}"));
        desk.ends(&line, 2, &[name, "found a pipe or a device, expected a file or nothing"]);
        fs::remove_file(&file).unwrap();
        symlink("gone/file", &file).unwrap();
        desk.ends(&line, 2, &[name, "found a link to ", "gone/file, expected one into a folder"]);
        fs::remove_file(&file).unwrap();
        symlink("comes", &file).unwrap();
        desk.ends(&line, 0, &[]);
        assert!(file.is_symlink() && desk.at("out/comes").is_file());
        fs::remove_file(desk.at("out/comes")).unwrap();
    }
}

#[test]
fn a_link_that_leads_nowhere_is_followed_by_export_too() {
    let desk = Desk::new();
    symlink("comes", desk.at("link")).unwrap();
    desk.ends("$encircle export $linear -o link", 0, &[]);
    assert!(desk.at("link").is_symlink() && desk.at("comes").is_file());
    symlink("gone/file", desk.at("lost")).unwrap();
    desk.ends("$encircle export $linear -o lost", 2, &["lost: ", "gone/file, expected one into"]);
    assert!(desk.at("lost").is_symlink());
}

#[test]
fn a_file_past_the_limit_of_the_shell_is_named_and_not_left() {
    let desk = Desk::new();
    let facts = ["out/model.q.circle: file too large", "File too large (os error"];
    // a slow job would leave what it has finished
    let job = "ulimit -f 64; $encircle quantize -o out --preset npu --save-every 3600";
    desk.ends(job, 2, &facts);
    assert!(!desk.at("out").exists());
}

#[test]
#[cfg(target_os = "linux")]
fn no_memory_and_no_threads_to_be_had_are_failures_that_say_so() {
    let desk = Desk::new();
    for kilobytes in [60_000, 100_000, 200_000, 300_000, 400_000] {
        let line = format!("ulimit -v {kilobytes}; $encircle quantize -o out --preset npu");
        let output = desk.shell(&line).output().unwrap();
        let stderr = String::from_utf8(output.stderr).unwrap();
        // as Rust says it, as the decoder of pictures does, and as we do
        let words = ["memory allocation of ", "because: out of memory", "cannot start "];
        let told = words.iter().any(|said| stderr.contains(said));
        let (code, panicked) = (output.status.code(), stderr.contains("panicked"));
        // without memory the program aborts, which a shell tells as 128 and the signal
        let ended = [Some(2), Some(134)].contains(&code) && told || code == Some(0);
        assert!(ended && !panicked, "{code:?}: {stderr}");
        desk.ends(&format!("ulimit -v {kilobytes}; $encircle verify $linear"), 0, &[]);
    }
}

#[test]
#[cfg(target_os = "linux")]
fn a_file_that_is_cut_while_it_is_mapped_is_a_failure_that_says_so() {
    let desk = Desk::new();
    let mut model = circle::read(&fs::read(path(LINEAR)).unwrap()).unwrap();
    model.add_buffer(Buffer::data(vec![0; 65 << 20]));
    fs::write(desk.at("long"), circle::to_bytes(&model).unwrap()).unwrap();
    // Nobody reads from it until the file is cut.
    desk.pipe("out");
    let child = desk.shell("exec $encircle extract long --ops 0-0 -o out").spawn().unwrap();
    let (maps, begun) = (format!("/proc/{}/maps", child.id()), Instant::now());
    while !fs::read_to_string(&maps).unwrap().contains("/long") {
        assert!(begun.elapsed() < Duration::from_secs(60), "it is not mapped");
        thread::sleep(Duration::from_millis(1));
    }
    File::options().write(true).open(desk.at("long")).unwrap().set_len(0).unwrap();
    let _reader = File::options().read(true).write(true).open(desk.at("out")).unwrap();
    let Output { status, stderr, .. } = child.wait_with_output().unwrap();
    let stderr = String::from_utf8(stderr).unwrap();
    assert_eq!(status.code(), Some(2), "{stderr}");
    assert_eq!(stderr, "error: a file was cut while it was read, or its disk is gone\n");
}

#[test]
#[cfg(target_os = "linux")]
fn a_reader_that_left_is_no_failure_and_no_verdict_and_a_full_output_is_one_of_help_too() {
    let desk = Desk::new();
    let mut model = circle::read(&fs::read(path(LINEAR)).unwrap()).unwrap();
    model.subgraphs[0].outputs = vec![99];
    fs::write(desk.at("broken"), circle::to_bytes(&model).unwrap()).unwrap();
    for (words, code) in [
        ("inspect $linear --json", 0),
        ("verify $linear", 0),
        ("verify broken", 1),
        ("--help", 0),
        ("quantize --help", 0),
    ] {
        // The other end is closed before anything is said.
        let line = format!("sleep 0.05; exec $encircle {words}");
        let mut child = desk.shell(&line).spawn().unwrap();
        drop(child.stdout.take());
        assert_eq!(child.wait().unwrap().code(), Some(code), "{words}");
    }
    for words in ["--help", "--version", "quantize --help", "inspect $linear"] {
        let line = format!("$encircle {words} > /dev/full");
        desk.ends(&line, 2, &["error: standard output: cannot write: "]);
    }
    desk.ends("$encircle", 2, &["Usage: "]);
}

#[test]
fn no_more_threads_are_started_than_are_of_use() {
    let desk = Desk::new();
    let demo = "$encircle quantize --preset npu -o out";
    let warned = [" threads: only ", " are started, 8 for each core"];
    for (line, facts) in [
        (format!("{demo} --threads 1024"), &[][..]),
        (format!("RAYON_NUM_THREADS=1000000 {demo}"), &warned),
    ] {
        let begun = Instant::now();
        desk.ends(&line, 0, facts);
        assert!(begun.elapsed() < Duration::from_secs(60));
    }
    assert_eq!(desk.ends(&format!("RAYON_NUM_THREADS=2 {demo}"), 0, &[]), "");
}

#[test]
fn recipes_and_manifests_are_told_in_the_words_of_their_form_and_long_lines_are_cut() {
    let desk = Desk::new();
    let long = "a".repeat(50_000);
    for (text, facts) in [
        ("policy = 1", &["1 | policy = 1\n", "integer `1`, expected a table"][..]),
        ("algo = 1\n[policy]", &["integer `1`, expected a table"]),
        (&format!("policy = {{ x = \"{long}\", y = [ }}"), &["TOML parse error at line 1, column"]),
        (
            &format!("[policy]\n{long} = 1"),
            &["line 2, column 1\nunknown field `aaaa", "a…`, expected one of"],
        ),
    ] {
        fs::write(desk.at("own.toml"), text).unwrap();
        let stderr = desk.ends("$encircle quantize --recipe own.toml", 2, facts);
        assert!(stderr.len() < 1000 && !stderr.contains("struct"), "{stderr}");
    }
    fs::create_dir(desk.at("set")).unwrap();
    for (text, fact) in [
        ("[3]", "set/manifest.json: found a list, expected an object"),
        ("3", "set/manifest.json: invalid type: integer `3`, expected an object"),
    ] {
        fs::write(desk.at("set/manifest.json"), text).unwrap();
        desk.ends("$encircle generate set --prompt hi", 2, &[fact]);
    }
}
