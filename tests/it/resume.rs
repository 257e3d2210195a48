//! Jobs that are killed, stopped or tripped, and go on.
#![cfg(unix)]

use crate::support::{demo_folder, path};
use assert_cmd::cargo::CommandCargoExt;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// A folder with the demo checkpoint and three calibration rows.
struct Desk {
    folder: TempDir,
}

/// How a command ended: exit code, none if killed, and what it said.
type End = (Option<i32>, String);

impl Desk {
    fn new() -> Desk {
        let desk = Desk { folder: demo_folder(0..3) };
        let mut rows = String::new();
        for i in 0..3 {
            let name = format!("train_00{i}.jpg");
            rows += &format!("{{\"image\": \"{name}\", \"question\": \"Which digit is it?\"}}\n");
        }
        fs::write(desk.at("rows.jsonl"), rows).unwrap();
        // Both networks walk: a job of one stream is over too soon to be caught.
        let npu = fs::read_to_string(path("assets/recipes/npu.toml")).unwrap();
        let options = "{ alpha = 0.5, search = \"weighted\", sweeps = 4, refits = 1 }";
        let rounding = format!("rounding = \"qronos\"\noptions = {options}");
        fs::write(desk.at("two.toml"), npu.replace("rounding = \"rtn\"", &rounding)).unwrap();
        desk
    }

    fn at(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The command with the least memory that its job says it needs in place of `tight`.
    fn tight(&self, line: &str) -> String {
        if !line.contains("--memory tight") {
            return line.into();
        }
        let (_, refused) = self.run(&line.replace("tight", "1MiB").replace("-o ", "-o no/"));
        let least = refused.rsplit_once("about ").map(|(_, size)| size.replace([' ', '\n'], ""));
        line.replace("tight", &least.expect("a refusal ends with a size"))
    }

    fn start(&self, line: &str) -> Child {
        let line = self.tight(line);
        let mut command = Command::cargo_bin("encircle").unwrap();
        command.current_dir(self.folder.path()).args(line.split_whitespace());
        command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap()
    }

    fn run(&self, line: &str) -> End {
        end(self.start(line))
    }

    #[track_caller]
    fn does(&self, line: &str) {
        assert_eq!(self.run(line), (Some(0), String::new()), "{line}");
    }

    #[track_caller]
    fn fails(&self, line: &str, facts: &[&str]) {
        let (code, stderr) = self.run(line);
        assert_eq!((code, stderr.matches("error: ").count()), (Some(2), 1), "{line}: {stderr}");
        for fact in facts {
            assert!(stderr.contains(fact), "no {fact:?} in: {stderr}");
        }
    }

    /// Starts a job and sends it `signal` once there are `count` files of finished work in `out`.
    fn interrupt(&self, line: &str, out: &str, count: usize, signal: &str) -> End {
        self.interrupt_when(line, signal, || self.units(out).len() >= count)
    }

    fn interrupt_when(&self, line: &str, signal: &str, reached: impl Fn() -> bool) -> End {
        // It may have ended by itself.
        let kill = |pid: u32| {
            let mut kill = Command::new("kill");
            kill.args([signal, &pid.to_string()]).stderr(Stdio::null()).status().unwrap();
        };
        self.meanwhile(line, reached, kill)
    }

    /// Starts a job and does something, given its number, once something is reached.
    fn meanwhile(&self, line: &str, reached: impl Fn() -> bool, act: impl Fn(u32)) -> End {
        let mut child = self.start(line);
        let begun = Instant::now();
        while child.try_wait().unwrap().is_none() && !reached() {
            assert!(begun.elapsed() < Duration::from_secs(60), "not reached in a minute");
            thread::sleep(Duration::from_micros(200));
        }
        act(child.id());
        end(child)
    }

    /// Files of finished work.
    fn units(&self, out: &str) -> Vec<String> {
        let mut names = listed(&self.at(out).join("unfinished"));
        names.retain(|name| name.ends_with(".codes") || name.ends_with(".stats"));
        names
    }

    /// The models of two folders are the same, and nothing else is there.
    #[track_caller]
    fn same(&self, one: &str, other: &str) {
        assert_eq!(listed(&self.at(one)), listed(&self.at(other)));
        for name in ["model.circle", "model.q.circle", "recipe.toml"] {
            let [one, other] = [one, other].map(|out| fs::read(self.at(out).join(name)).unwrap());
            assert!(one == other, "{name}: other bytes");
        }
    }
}

fn end(child: Child) -> End {
    let output = child.wait_with_output().unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(!stderr.contains("panicked at"), "{stderr}");
    (output.status.code(), stderr)
}

fn listed(folder: &Path) -> Vec<String> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    let name = |entry: fs::DirEntry| entry.file_name().into_string().unwrap();
    let mut names: Vec<String> = entries.map(|entry| name(entry.unwrap())).collect();
    names.sort();
    names
}

const JOB: &str = "quantize ck --calib rows.jsonl --save-every 0";

/// Where the bytes of a tensor are in a safetensors file.
fn stored(file: &[u8], name: &str) -> std::ops::Range<usize> {
    let len = 8 + u64::from_le_bytes(file[..8].try_into().unwrap()) as usize;
    let header: Value = serde_json::from_slice(&file[8..len]).unwrap();
    let [from, to] = [0, 1].map(|i| header[name]["data_offsets"][i].as_u64().unwrap() as usize);
    len + from..len + to
}

#[test]
fn killed_at_random_points_the_bytes_are_those_of_an_uninterrupted_run() {
    let desk = Desk::new();
    let mut seed = 20_261_124_u64;
    for (i, recipe) in
        ["--recipe two.toml", "--recipe w4a16-best --memory tight", "--preset npu --memory tight"]
            .into_iter()
            .enumerate()
    {
        let (whole, out) = (format!("whole{i}"), format!("out{i}"));
        desk.does(&format!("quantize ck --calib rows.jsonl {recipe} -o {whole}"));
        let job = format!("{JOB} {recipe} -o {out}");
        let mut killed = 0;
        for _ in 0..4 {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let count = desk.units(&out).len() + (seed >> 33) as usize % 12;
            let (code, stderr) = desk.interrupt(&job, &out, count, "-KILL");
            assert_eq!(stderr, "");
            killed += usize::from(code.is_none());
        }
        assert!(killed > 1, "{recipe}: killed only {killed} times");
        desk.does(&job);
        desk.same(&whole, &out);
    }
}

#[test]
fn killed_while_files_are_written_the_result_is_whole_or_as_before() {
    let desk = Desk::new();
    desk.does("quantize ck --calib rows.jsonl --preset npu -o whole");
    desk.does("quantize ck --calib rows.jsonl --preset w8a8 -o out");
    let before = fs::read(desk.at("out/model.q.circle")).unwrap();
    let after = fs::read(desk.at("whole/model.q.circle")).unwrap();
    let mut child = desk.start(&format!("{JOB} --preset npu -o out"));
    // Three files of before, finished work, and one that is being written.
    while child.try_wait().unwrap().is_none() && listed(&desk.at("out")).len() < 5 {
        thread::sleep(Duration::from_micros(100));
    }
    let _ = child.kill();
    end(child);
    let found = fs::read(desk.at("out/model.q.circle")).unwrap();
    assert!(found == before || found == after);
    desk.does(&format!("{JOB} --preset npu -o out"));
    desk.same("whole", "out");
}

#[test]
fn interrupted_it_says_how_far_it_was_and_goes_on_from_there() {
    let desk = Desk::new();
    for (i, (memory, signal)) in
        [("", "-INT"), ("--memory tight", "-INT"), ("", "-TERM")].into_iter().enumerate()
    {
        let (whole, out) = (format!("whole{i}"), format!("out{i}"));
        let job = format!("{JOB} --recipe two.toml {memory} -o {out}");
        desk.does(&format!("quantize ck --calib rows.jsonl --recipe two.toml -o {whole}"));
        let (code, stderr) = desk.interrupt(&job, &out, 4, signal);
        assert_eq!(code, Some(130), "{stderr}");
        assert!(stderr.starts_with("stopped after ") && stderr.contains(" layers"), "{stderr}");
        assert!(stderr.ends_with("the same command goes on from there\n"), "{stderr}");
        assert_eq!(listed(&desk.at(&out)), ["unfinished"], "nothing half-written");
        assert!(desk.units(&out).len() >= 4);
        desk.does(&job);
        desk.same(&whole, &out);
    }
}

#[test]
fn a_rerun_takes_what_is_finished_as_it_is() {
    let desk = Desk::new();
    let (mine, theirs) = ("--recipe two.toml", "--recipe two.toml --set algo.rounding=rtn");
    desk.does(&format!("quantize ck --calib rows.jsonl {mine} -o whole"));
    desk.interrupt(&format!("{JOB} {mine} -o out"), "out", 5, "-KILL");
    // Layers as another recipe rounds them: if they are in the result, nobody rounded them again.
    desk.interrupt(&format!("{JOB} {theirs} --memory tight -o other"), "other", 5, "-KILL");
    // On a busy machine one of them comes further than the other.
    let other = desk.units("other");
    let both = |name: &&String| name.ends_with(".codes") && other.contains(name);
    for name in desk.units("out").iter().filter(both) {
        let other = desk.at("other/unfinished").join(name);
        fs::copy(other, desk.at("out/unfinished").join(name)).unwrap();
    }
    desk.does(&format!("{JOB} {mine} -o out"));
    let [whole, out] =
        ["whole", "out"].map(|o| fs::read(desk.at(o).join("model.q.circle")).unwrap());
    assert!(whole != out && whole.len() == out.len());
}

#[test]
fn samples_go_on_between_two_legs_where_they_were_left() {
    let desk = Desk::new();
    let job = |out: &str| format!("{JOB} --recipe two.toml --memory tight -o {out}");
    let streams = |out: &str| desk.at(out).join("unfinished/walk.streams");
    desk.does("quantize ck --calib rows.jsonl --recipe two.toml -o whole");
    let model = |out: &str| fs::read(desk.at(out).join("model.q.circle")).unwrap();
    for out in ["out", "cut"] {
        // On a busy machine we may come too late.
        let caught = (0..20).any(|_| {
            let _ = fs::remove_dir_all(desk.at(out));
            let (code, _) = desk.interrupt_when(&job(out), "-KILL", || streams(out).exists());
            code.is_none() && desk.units(out).is_empty()
        });
        assert!(caught, "never killed while observing");
    }
    // Other values show in the result: nobody walked again.
    let mut other = fs::read(streams("out")).unwrap();
    other[..1 << 12].fill(0);
    fs::write(streams("out"), other).unwrap();
    desk.does(&job("out"));
    assert!(model("out") != model("whole"));
    let mine = fs::read(streams("cut")).unwrap();
    fs::write(streams("cut"), &mine[..mine.len() - 1]).unwrap();
    desk.does(&job("cut"));
    desk.same("whole", "cut");
}

#[test]
fn samples_of_another_evaluation_do_not_go_on_as_those_of_this_one() {
    let desk = Desk::new();
    let rows = fs::read_to_string(path("assets/vqa/train.jsonl")).unwrap();
    let rows: Vec<&str> = rows.lines().take(3).collect();
    fs::write(desk.at("a.jsonl"), rows[..2].join("\n")).unwrap();
    fs::write(desk.at("b.jsonl"), rows[1..].join("\n")).unwrap();
    let job = format!("{JOB} --recipe two.toml --memory tight --seq-len 48 --json");
    let job = |eval: &str, out: &str| desk.tight(&format!("{job} --eval {eval} -o {out}"));
    let judged = |line: &str| {
        let mut command = Command::cargo_bin("encircle").unwrap();
        command.current_dir(desk.folder.path()).args(line.split_whitespace());
        let facts: Value = serde_json::from_slice(&command.output().unwrap().stdout).unwrap();
        facts["eval"].clone()
    };
    let put = |name: &str| {
        let file = desk.at("out/unfinished").join(name);
        file.metadata().ok()?.modified().ok()
    };
    // Between two legs of the second walk; on a busy machine we may come too late.
    let midway = || put("observed.stats").is_some_and(|seen| put("walk.streams") > Some(seen));
    let caught = (0..20).any(|_| {
        let _ = fs::remove_dir_all(desk.at("out"));
        desk.interrupt_when(&job("a.jsonl", "out"), "-KILL", midway).0.is_none() && midway()
    });
    assert!(caught, "never killed between two legs");
    let kept = desk.units("out");
    assert!(kept.len() > 1, "{kept:?}");
    assert_eq!(judged(&job("b.jsonl", "out")), judged(&job("b.jsonl", "whole")));
    desk.same("whole", "out");
}

#[test]
fn another_recipe_checkpoint_or_rows_are_refused_with_what_changed() {
    let desk = Desk::new();
    let job = format!("{JOB} --recipe two.toml -o out");
    desk.interrupt(&job, "out", 3, "-KILL");
    let units = desk.units("out");
    let place = "unfinished/job.json";
    let refused = |line: &str, fact: &str| desk.fails(line, &[place, fact, "--fresh"]);
    refused(&format!("{job} --set algo.options.damp=0.02"), "recipe: found");
    refused(&format!("{job} --seq-len 60"), "layout: found");
    let rows = fs::read_to_string(desk.at("rows.jsonl")).unwrap();
    fs::write(desk.at("rows.jsonl"), rows.replace("train_002", "train_001")).unwrap();
    refused(&job, "calibration rows: found");
    fs::write(desk.at("rows.jsonl"), rows).unwrap();
    let weights = fs::read(desk.at("ck/model.safetensors")).unwrap();
    let mut other = weights.clone();
    *other.last_mut().unwrap() ^= 1;
    fs::write(desk.at("ck/model.safetensors"), other).unwrap();
    refused(&job, "checkpoint: found");
    let mut hollow = weights.clone();
    let matrix = stored(&weights, "model.language_model.layers.3.mlp.down_proj.weight");
    hollow[matrix.start + 6000..matrix.end - 6000].fill(0);
    fs::write(desk.at("ck/model.safetensors"), hollow).unwrap();
    refused(&job, "checkpoint: found");
    fs::write(desk.at("ck/model.safetensors"), weights).unwrap();
    assert_eq!(desk.units("out"), units, "what was finished stays");
    let origin = fs::read_to_string(desk.at("out").join(place)).unwrap();
    fs::write(desk.at("out").join(place), origin.replace("0.1.0", "0.0.9")).unwrap();
    refused(&job, "version: found `0.0.9`");
    fs::write(desk.at("out").join(place), "{").unwrap();
    refused(&job, "origin: found");
    // Starting over needs no more than the word.
    desk.does(&format!("{job} --set algo.options.damp=0.02 --fresh"));
    desk.does(
        "quantize ck --calib rows.jsonl --recipe two.toml --set algo.options.damp=0.02 -o whole",
    );
    desk.same("whole", "out");
}

#[test]
fn outputs_that_are_not_finite_are_refused_and_not_called_perfect() {
    let desk = Desk::new();
    let file = desk.at("ck/model.safetensors");
    let mut weights = fs::read(&file).unwrap();
    let gain = stored(&weights, "model.language_model.norm.weight");
    weights[gain].fill(0x7f);
    fs::write(&file, weights).unwrap();
    fs::write(
        desk.at("float.toml"),
        "[policy.activation]\nobserver = \"identity\"\n\
        [policy.norm]\nobserver = \"identity\"\n",
    )
    .unwrap();
    let facts = ["rows.jsonl:1", "found NaN or infinity in those of the float network"];
    desk.fails(&format!("{JOB} --recipe float.toml -o out"), &facts);
    assert!(!desk.at("out/model.q.circle").exists());
}

#[test]
fn what_no_rerun_could_use_does_not_stand_in_the_way_of_what_mends_the_job() {
    let desk = Desk::new();
    let file = desk.at("ck/model.safetensors");
    let weights = fs::read(&file).unwrap();
    let mut large = weights.clone();
    let gain = stored(&weights, "model.language_model.layers.1.input_layernorm.weight");
    large[gain].fill(0x7f);
    fs::write(&file, large).unwrap();
    // Seen after the rows were observed, for nothing.
    let job = format!("{JOB} --preset npu -o out");
    desk.fails(&job, &["layers.1.input_layernorm: a NaN or an infinity was observed"]);
    assert!(desk.units("out").is_empty());
    fs::write(&file, weights).unwrap();
    desk.does(&job);
    desk.does("quantize ck --calib rows.jsonl --preset npu -o whole");
    desk.same("whole", "out");

    // Nor does a folder that only says whose it is.
    let (_, stderr) =
        desk.interrupt(&format!("{JOB} --recipe two.toml -o other"), "other", 1, "-KILL");
    assert_eq!(stderr, "");
    for name in listed(&desk.at("other/unfinished")).iter().filter(|name| *name != "job.json") {
        fs::remove_file(desk.at("other/unfinished").join(name)).unwrap();
    }
    desk.does(&format!("{JOB} --preset npu -o other"));
    desk.same("whole", "other");
}

#[test]
fn damaged_work_is_done_again() {
    let desk = Desk::new();
    let job = format!("{JOB} --recipe two.toml --memory tight -o out");
    desk.does("quantize ck --calib rows.jsonl --recipe two.toml -o whole");
    desk.interrupt(&job, "out", 6, "-KILL");
    for (i, name) in desk.units("out").iter().enumerate() {
        let place = desk.at("out/unfinished").join(name);
        let mut bytes = fs::read(&place).unwrap();
        match i % 3 {
            0 => bytes[0] ^= 1,
            1 => bytes.truncate(bytes.len() / 2),
            _ => bytes.clear(),
        }
        fs::write(&place, bytes).unwrap();
    }
    desk.does(&job);
    desk.same("whole", "out");
}

#[test]
fn what_was_odd_before_an_interruption_is_said_after_it() {
    let desk = Desk::new();
    let last = |(code, stderr): End| {
        let lines = stderr.lines().map(str::to_owned);
        (code, lines.filter(|line| line.starts_with("warning: ")).collect::<Vec<_>>())
    };
    for (i, memory) in ["", "--memory tight"].into_iter().enumerate() {
        let job = format!("{JOB} --recipe two.toml --strict {memory} -o");
        let whole = last(desk.run(&format!("{job} whole{i}")));
        assert!(whole.0 == Some(1) && whole.1.len() > 4, "{whole:?}");
        desk.interrupt(&format!("{job} out{i}"), &format!("out{i}"), 12, "-KILL");
        assert!(desk.units(&format!("out{i}")).len() >= 12);
        assert_eq!(last(desk.run(&format!("{job} out{i}"))), whole);
    }
}

#[test]
fn losses_of_activations_are_sought_once_whatever_interrupts() {
    sought_once("--recipe w8a8-minmax --budget-kl 0.001", "values.measured");
}

#[test]
fn losses_of_weights_are_sought_once_whatever_interrupts() {
    sought_once("--preset npu --budget-bits 5", "weights.measured");
}

#[test]
fn fitted_scales_are_sought_once_whatever_interrupts() {
    sought_once("--recipe two.toml --set algo.awq.grid=20", "scales.measured");
}

/// What a job notes in `file` while it searches is taken by the next one.
fn sought_once(budget: &str, file: &str) {
    let desk = Desk::new();
    let model = |out: &str| fs::read(desk.at(out).join("model.q.circle")).unwrap();
    let (whole, out) = ("whole", "out");
    desk.does(&format!("quantize ck --calib rows.jsonl {budget} -o {whole}"));
    let job = format!("{JOB} {budget} -o {out}");
    let place = desk.at(out).join("unfinished").join(file);
    let kept = || serde_json::from_slice::<Value>(&fs::read(&place).ok()?).ok();
    let known = || kept().map_or(0, |kept| kept["numbers"].as_object().unwrap().len());
    let (code, stderr) = desk.interrupt_when(&job, "-INT", || known() >= 8);
    assert_eq!(code, Some(130), "{stderr}");
    assert!(stderr.ends_with("the same command goes on from there\n"), "{stderr}");
    assert_eq!(listed(&desk.at(out)), ["unfinished"], "nothing half-written");
    let before = known();
    desk.interrupt_when(&job, "-KILL", || known() > before + 4);
    assert!(known() > before, "it went on");
    desk.fails(&format!("{job} --set algo.rounding=mse"), &[file, "recipe: found", "--fresh"]);
    desk.does(&job);
    desk.same(whole, out);

    // Other numbers show in the result: nobody sought them again.
    let _ = fs::remove_dir_all(desk.at(out));
    desk.interrupt_when(&job, "-KILL", || known() >= 8);
    let mut other = kept().unwrap();
    for (what, numbers) in other["numbers"].as_object_mut().unwrap() {
        // a weight that loses nothing in 16 bits alone gets them, which no budget here gave to one
        let number = match what.rsplit(' ').next() {
            Some("int16") => 0.0,
            Some("uint4" | "uint8") => 1e9,
            _ => 2.0_f64,
        };
        let numbers = numbers.as_array_mut().unwrap();
        numbers.iter_mut().for_each(|place| *place = json!(number.to_bits()));
    }
    fs::write(&place, other.to_string()).unwrap();
    desk.does(&job);
    assert!(model(out) != model(whole));
    let _ = fs::remove_dir_all(desk.at(out));
    desk.interrupt_when(&job, "-KILL", || known() >= 8);
    fs::write(&place, "{").unwrap();
    desk.does(&job);
    desk.same(whole, out);
}

/// A file system of its own, of so many bytes.
struct Disk(PathBuf);

impl Disk {
    /// None, with a message, where nobody may mount.
    fn new(place: PathBuf, size: &str) -> Option<Disk> {
        fs::create_dir(&place).unwrap();
        let disk = Disk(place);
        let mounted = disk.mount(&format!("size={size}"));
        if !mounted {
            eprintln!("skipped: tmpfs cannot be mounted here");
        }
        mounted.then_some(disk)
    }

    fn mount(&self, options: &str) -> bool {
        let mut command = Command::new("mount");
        command.args(["-t", "tmpfs", "-o", options, "tmpfs"]).arg(&self.0);
        command.stderr(Stdio::null()).status().is_ok_and(|status| status.success())
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(&self.0).stderr(Stdio::null()).status();
    }
}

#[test]
fn a_full_disk_is_named_and_neither_the_result_before_nor_finished_work_is_lost() {
    let desk = Desk::new();
    let Some(disk) = Disk::new(desk.at("out"), "300k") else { return };
    let models = ["model.circle", "model.q.circle"];
    models.iter().for_each(|name| fs::write(desk.at("out").join(name), "before").unwrap());
    let before =
        || models.iter().all(|name| fs::read(desk.at("out").join(name)).unwrap() == b"before");
    let job = format!("{JOB} --recipe two.toml -o out");
    desk.fails(&job, &["out: ", "bytes are free, expected about"]);
    assert!(before() && listed(&desk.at("out")) == models, "{:?}", listed(&desk.at("out")));
    // Room enough at first; then somebody else takes it.
    assert!(disk.mount("remount,size=32m"));
    let fill = |_: u32| {
        let mut ballast = fs::File::create(desk.at("out/ballast")).unwrap();
        while ballast.write_all(&[0; 1 << 16]).is_ok() {}
    };
    let (code, stderr) = desk.meanwhile(&job, || desk.units("out").len() >= 3, fill);
    assert_eq!(code, Some(2), "{stderr}");
    assert!(
        stderr.contains("error: out") && stderr.contains("No space left on device"),
        "{stderr}"
    );
    let kept = desk.units("out");
    assert!(before() && kept.len() >= 3, "{kept:?}");
    fs::remove_file(desk.at("out/ballast")).unwrap();
    assert_eq!(listed(&desk.at("out")), ["model.circle", "model.q.circle", "unfinished"]);
    let first = fs::read(desk.at("out/unfinished").join(&kept[0])).unwrap();
    let (code, _) = desk.interrupt(&job, "out", kept.len() + 2, "-KILL");
    assert_eq!(code, None);
    assert!(fs::read(desk.at("out/unfinished").join(&kept[0])).unwrap() == first, "not done again");
    desk.does(&job);
    desk.does("quantize ck --calib rows.jsonl --recipe two.toml -o whole");
    desk.same("whole", "out");
}

#[test]
fn a_checkpoint_cut_or_lost_under_way_is_named_and_finished_work_goes_on() {
    let desk = Desk::new();
    let job = desk.tight(&format!("{JOB} --recipe two.toml --memory tight -o out"));
    let weights = fs::read(desk.at("ck/model.safetensors")).unwrap();
    let child = desk.start(&job);
    while desk.units("out").len() < 4 {
        thread::sleep(Duration::from_micros(200));
    }
    signal("-STOP", child.id());
    fs::write(desk.at("ck/model.safetensors"), &weights[..weights.len() / 3]).unwrap();
    signal("-CONT", child.id());
    let (code, stderr) = end(child);
    assert_eq!(code, Some(2), "{stderr}");
    assert!(stderr.starts_with("error: ck/model.safetensors"), "{stderr}");
    assert!(desk.units("out").len() >= 4 && listed(&desk.at("out")) == ["unfinished"]);
    // Still cut, then gone: as clear, and nothing is thrown away.
    desk.fails(&job, &["ck/model.safetensors"]);
    fs::remove_file(desk.at("ck/model.safetensors")).unwrap();
    desk.fails(&job, &["ck/model.safetensors: expected it", "neither"]);
    assert!(desk.units("out").len() >= 4);
    fs::write(desk.at("ck/model.safetensors"), &weights).unwrap();
    desk.does(&job);
    desk.does("quantize ck --calib rows.jsonl --recipe two.toml -o whole");
    desk.same("whole", "out");
}

#[test]
fn a_short_job_leaves_no_trace_and_two_do_not_share_a_folder() {
    let desk = Desk::new();
    desk.does("quantize ck --calib rows.jsonl --preset npu -o out");
    assert_eq!(listed(&desk.at("out")), ["model.circle", "model.q.circle", "recipe.toml"]);
    let mut one = desk.start(&format!("{JOB} --recipe two.toml -o both"));
    while one.try_wait().unwrap().is_none() && desk.units("both").is_empty() {
        thread::sleep(Duration::from_micros(200));
    }
    signal("-STOP", one.id());
    desk.fails(
        &format!("{JOB} --recipe two.toml -o both"),
        &["both/unfinished", "another process"],
    );
    signal("-CONT", one.id());
    assert_eq!(end(one), (Some(0), String::new()));
}

#[test]
fn a_job_that_has_put_nothing_down_yet_is_alone_in_its_folder_too() {
    let desk = Desk::new();
    let busy = ["out/unfinished", "another process"];
    for (rest, again) in [
        ("--recipe w4a16-best", "--recipe w4a16-best --save-every 0"),
        ("--preset npu --budget-bits 5", "--preset npu --budget-bits 5"),
        ("--preset npu --budget-bits 5", "--preset npu"),
    ] {
        let job = |rest: &str| format!("quantize ck --calib rows.jsonl {rest} -o out");
        let mut one = desk.start(&job(rest));
        // It may be stopped just before it has the lock.
        let held = || {
            let lock = fs::File::open(desk.at("out/unfinished/job.lock"));
            lock.is_ok_and(|lock| matches!(lock.try_lock(), Err(fs::TryLockError::WouldBlock)))
        };
        while one.try_wait().unwrap().is_none() {
            thread::sleep(Duration::from_micros(200));
            if !desk.at("out/unfinished").exists() {
                continue;
            }
            signal("-STOP", one.id());
            if held() {
                break;
            }
            signal("-CONT", one.id());
        }
        desk.fails(&job(again), &busy);
        signal("-CONT", one.id());
        assert_eq!(end(one), (Some(0), String::new()));
        assert_eq!(listed(&desk.at("out")), ["model.circle", "model.q.circle", "recipe.toml"]);
        fs::remove_dir_all(desk.at("out")).unwrap();
    }
}

#[test]
fn what_a_killed_run_left_half_written_is_gone_after_the_next_whatever_that_writes() {
    let desk = Desk::new();
    let left = |file: &str| format!(".{file}.0123456789abcdef.partial");
    for (line, files) in [
        ("--weights-only --seq-len 32", &["model.circle", "stages/lm_head.q.circle"][..]),
        ("--calib rows.jsonl --preset npu", &["model.q.circle", "unfinished/3.codes"]),
        ("--calib rows.jsonl --preset npu --shard 1/2", &["statistics.1-of-2.stats"]),
    ] {
        let (mine, living) = (desk.at("out/.mine.partial"), desk.at("out").join(left("living")));
        let other = desk.at("out").join(left("statistics.2-of-2.stats"));
        let dead = files.iter().map(|file| {
            let path = desk.at("out").join(file);
            path.with_file_name(left(path.file_name().unwrap().to_str().unwrap()))
        });
        let dead: Vec<PathBuf> = dead.collect();
        for path in dead.iter().chain([&mine, &living, &other]) {
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "half").unwrap();
        }
        let locked = fs::File::open(&living).unwrap();
        locked.lock().unwrap();
        desk.does(&format!("quantize ck {line} -o out"));
        assert!(dead.iter().all(|path| !path.exists()), "{line}: {:?}", listed(&desk.at("out")));
        assert!(mine.exists() && living.exists(), "{line}");
        assert_eq!(other.exists(), line.contains("--shard"), "{line}");
        fs::remove_dir_all(desk.at("out")).unwrap();
    }
}

#[test]
fn a_shard_that_is_stopped_promises_nothing_of_another_jobs_work() {
    let desk = Desk::new();
    desk.interrupt(&format!("{JOB} --recipe two.toml -o out"), "out", 3, "-KILL");
    let rows = fs::read_to_string(desk.at("rows.jsonl")).unwrap();
    fs::write(desk.at("many.jsonl"), rows.repeat(200)).unwrap();
    let job = "quantize ck --calib many.jsonl --preset npu --shard 1/2 -o out";
    let stopped = (1..100).find_map(|i| {
        let begun = Instant::now();
        let late = || begun.elapsed() > Duration::from_millis(20 * i);
        let (code, stderr) = desk.interrupt_when(job, "-INT", late);
        (code == Some(130)).then_some(stderr)
    });
    let stopped = stopped.expect("stopped while observing");
    assert!(stopped.ends_with("nothing was finished that a rerun could go on from\n"), "{stopped}");
}

#[test]
fn a_staged_set_is_one_set_or_none() {
    let desk = Desk::new();
    let job = "quantize ck --calib rows.jsonl --seq-len 48 --stages -o out";
    let manifest = desk.at("out/stages/manifest.json");
    desk.does(&format!("{job} --preset npu"));
    let before = listed(&desk.at("out/stages"));
    desk.does(&format!("{job} --preset npu --share-weights"));
    let set: Value = serde_json::from_slice(&fs::read(&manifest).unwrap()).unwrap();
    let entries = set["files"].as_array().unwrap().iter();
    let named: BTreeSet<&str> = entries.map(|entry| entry["file"].as_str().unwrap()).collect();
    let found = listed(&desk.at("out/stages"));
    assert!(found.len() < before.len() && found.iter().any(|name| !before.contains(name)));
    let found = found.iter().map(String::as_str).filter(|name| *name != "manifest.json");
    assert!(found.eq(named), "{:?}", listed(&desk.at("out/stages")));
    // Cut short, the next one is none, and not what is left of both.
    let next = format!("{job} --recipe w8a8-minmax");
    // Files take their names in a moment, which the one who watches may miss.
    let ended = |_| desk.interrupt_when(&next, "-KILL", || !manifest.exists()).0;
    let killed = |i| ended(i).is_none() && !manifest.exists();
    assert!((0..30).any(killed), "never while files took their names");
    let generate = "generate out/stages --checkpoint ck --image train_000.jpg --prompt digit";
    desk.fails(generate, &["out/stages/manifest.json: cannot read"]);
    desk.does(&next);
    assert_eq!(desk.run(generate).0, Some(0));
}

/// Deals the weights of `ck` to two files: the first half of the names in the first.
fn in_two_shards(desk: &Desk) -> PathBuf {
    let single = desk.at("ck/model.safetensors");
    let bytes = fs::read(&single).unwrap();
    let len = usize::try_from(u64::from_le_bytes(bytes[..8].try_into().unwrap())).unwrap();
    let header: BTreeMap<String, Value> = serde_json::from_slice(&bytes[8..8 + len]).unwrap();
    let payload = &bytes[8 + len..];
    // Of the second the language model's last layers are read late.
    let late = |name: &str| name.contains("language_model.layers");
    let tensors = || header.iter().filter(|(name, _)| *name != "__metadata__");
    let mut map = serde_json::Map::new();
    for (number, second) in [(1, false), (2, true)] {
        let file = format!("model-0000{number}-of-00002.safetensors");
        let (mut own, mut data) = (serde_json::Map::new(), Vec::new());
        for (name, tensor) in tensors().filter(|(name, _)| late(name) == second) {
            let [start, end] = [0, 1].map(|i| tensor["data_offsets"][i].as_u64().unwrap() as usize);
            let mut tensor = tensor.clone();
            tensor["data_offsets"] = json!([data.len(), data.len() + end - start]);
            data.extend_from_slice(&payload[start..end]);
            own.insert(name.clone(), tensor);
            map.insert(name.clone(), json!(file));
        }
        let own = serde_json::to_vec(&own).unwrap();
        let bytes = [&(own.len() as u64).to_le_bytes()[..], &own, &data].concat();
        fs::write(desk.at("ck").join(file), bytes).unwrap();
    }
    fs::remove_file(single).unwrap();
    let index = json!({"metadata": {}, "weight_map": map}).to_string();
    fs::write(desk.at("ck/model.safetensors.index.json"), index).unwrap();
    desk.at("ck/model-00002-of-00002.safetensors")
}

fn signal(name: &str, pid: u32) {
    Command::new("kill").args([name, &pid.to_string()]).status().unwrap();
}

#[test]
fn a_shard_that_is_cut_short_under_way_is_named_and_what_was_finished_counts() {
    let desk = Desk::new();
    let shard = in_two_shards(&desk);
    let bytes = fs::read(&shard).unwrap();
    for recipe in ["--preset npu", "--recipe two.toml"] {
        let job = desk.tight(&format!("{JOB} {recipe} --memory tight -o out"));
        desk.does(&format!("quantize ck --calib rows.jsonl {recipe} -o whole"));
        let cut = |pid: u32| {
            // It must not read on meanwhile.
            signal("-STOP", pid);
            let file = fs::OpenOptions::new().write(true).open(&shard).unwrap();
            file.set_len(bytes.len() as u64 / 8).unwrap();
            signal("-CONT", pid);
        };
        let (code, stderr) = desk.meanwhile(&job, || desk.units("out").len() >= 2, cut);
        assert_eq!((code, stderr.matches("error: ").count()), (Some(2), 1), "{stderr}");
        for fact in ["model-00002-of-00002.safetensors", "a file that changed", "tensor \""] {
            assert!(stderr.contains(fact), "no {fact:?} in: {stderr}");
        }
        assert_eq!(listed(&desk.at("out")), ["unfinished"], "nothing half-written");
        let finished = desk.units("out");
        assert!(finished.len() >= 2, "{finished:?}");
        desk.fails(&job, &["model-00002-of-00002.safetensors"]);
        assert_eq!(desk.units("out"), finished, "what was finished stays");
        fs::write(&shard, &bytes).unwrap();
        desk.does(&job);
        desk.same("whole", "out");
        for out in ["whole", "out"] {
            fs::remove_dir_all(desk.at(out)).unwrap();
        }
    }
}

#[test]
fn a_shard_that_is_missing_at_the_rerun_is_named_and_what_was_finished_counts() {
    let desk = Desk::new();
    let shard = in_two_shards(&desk);
    let bytes = fs::read(&shard).unwrap();
    let job = desk.tight(&format!("{JOB} --recipe two.toml --memory tight -o out"));
    desk.does("quantize ck --calib rows.jsonl --recipe two.toml -o whole");
    // Removed under way it is still there for the one who has it open.
    let remove = |_| fs::remove_file(&shard).unwrap();
    let (code, stderr) = desk.meanwhile(&job, || desk.units("out").len() >= 2, remove);
    assert_eq!((code, &stderr[..]), (Some(0), ""));
    desk.same("whole", "out");
    fs::write(&shard, &bytes).unwrap();
    fs::remove_dir_all(desk.at("out")).unwrap();
    let (code, _) = desk.interrupt(&job, "out", 3, "-INT");
    assert_eq!(code, Some(130));
    let finished = desk.units("out");
    fs::remove_file(&shard).unwrap();
    desk.fails(&job, &["model-00002-of-00002.safetensors"]);
    assert_eq!(desk.units("out"), finished, "what was finished stays");
    fs::write(&shard, &bytes).unwrap();
    desk.does(&job);
    desk.same("whole", "out");
}

#[test]
fn weights_alone_name_a_shard_that_is_cut_and_leave_no_file() {
    let desk = Desk::new();
    let shard = in_two_shards(&desk);
    let bytes = fs::read(&shard).unwrap();
    fs::write(&shard, &bytes[..bytes.len() / 8]).unwrap();
    let job = "quantize ck --weights-only --seq-len 32 -o out";
    desk.fails(job, &["model-00002-of-00002.safetensors"]);
    assert!(listed(&desk.at("out")).is_empty());
    fs::write(&shard, bytes).unwrap();
    desk.does(job);
}
