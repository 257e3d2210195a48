//! The rules. Each takes files and returns what breaks it, so that a planted file can prove it.

use crate::source::{Source, body_end, line_of, words};
use std::collections::{BTreeMap, BTreeSet};

/// The rooms under `src/`, in the order in which data passes through them.
pub(crate) const ROOMS: [&str; 19] = [
    "tensor",
    "layout",
    "checkpoint",
    "dataset",
    "quant",
    "circle",
    "ops",
    "graph",
    "models",
    "synth",
    "exec",
    "calibrate",
    "cluster",
    "algo",
    "lower",
    "runtime",
    "report",
    "pipeline",
    "cli",
];

/// Earlier rooms that a room must not know all the same.
const STRANGERS: [(&str, &[&str]); 6] = [
    ("quant", &["checkpoint", "layout", "dataset"]),
    ("circle", &["tensor", "checkpoint", "layout", "dataset", "quant"]),
    ("graph", &["checkpoint"]),
    ("models", &["quant", "circle"]),
    ("exec", &["checkpoint"]),
    ("algo", &["models", "checkpoint", "circle"]),
];

const ROOMS_WITH_FILES: [&str; 5] = ["checkpoint", "dataset", "synth", "pipeline", "cli"];
/// The program itself, and memory that goes on on disk: a file that nobody else ever sees.
const FILES_WITH_FILES: [&str; 2] = ["src/main.rs", "src/exec/spool.rs"];
const FAMILIES: [&str; 4] = ["qwen", "llama", "gemma", "mistral"];
const ALGORITHMS: [&str; 6] = ["gptq", "spinquant", "smoothquant", "awq", "adaround", "omniquant"];
const BANNED_NAMES: [&str; 6] = ["utils", "util", "common", "helpers", "manager", "base"];
const FILE_LINES_MAX: usize = 500;
const FUNCTION_LINES_MAX: usize = 70;
pub(crate) const TOTAL_LINES_MAX: usize = 48_200;

/// A room names only rooms before it, and none of its strangers. Tests may know more.
pub(crate) fn rooms_know_only_earlier_rooms(files: &[Source]) -> Vec<String> {
    let mut broken = Vec::new();
    for file in files.iter().filter(|file| file.ships()) {
        let Some(room) = file.room() else { continue };
        let Some(rank) = ROOMS.iter().position(|name| *name == room) else {
            broken.push(format!("{}: {room} is not on the list of rooms", file.path));
            continue;
        };
        let strangers = STRANGERS.iter().find(|(name, _)| *name == room).map_or(&[][..], |s| s.1);
        for (line, named) in named_rooms(&file.code()) {
            let at = format!("{}:{line}", file.path);
            if named == room {
                continue;
            }
            match ROOMS.iter().position(|name| *name == named) {
                None => broken.push(format!("{at}: crate::{named} is no room")),
                Some(other) if other > rank => broken.push(format!("{at}: {room} names {named}")),
                Some(_) if strangers.contains(&named.as_str()) => {
                    broken.push(format!("{at}: {named} is a stranger to {room}"));
                }
                Some(_) => {}
            }
        }
    }
    broken
}

/// What follows `crate::` or `encircle::`, alone or in braces, with line numbers.
fn named_rooms(code: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    for (at, word) in words(code).filter(|(_, word)| matches!(*word, "crate" | "encircle")) {
        let Some(path) = code[at + word.len()..].strip_prefix("::") else { continue };
        let line = line_of(code, at);
        match path.strip_prefix('{') {
            None => found.extend(words(path).next().map(|(_, name)| (line, name.to_owned()))),
            Some(group) => found.extend(heads(group).into_iter().map(|name| (line, name))),
        }
    }
    found
}

/// The first segment of each path in the `{…}` group whose inside `group` starts with.
fn heads(group: &str) -> Vec<String> {
    let (mut depth, mut item, mut found) = (0, String::new(), Vec::new());
    for c in group.chars() {
        match c {
            '{' => depth += 1,
            '}' if depth == 0 => break,
            '}' => depth -= 1,
            ',' if depth == 0 => found.push(std::mem::take(&mut item)),
            _ if depth == 0 => item.push(c),
            _ => {}
        }
    }
    found.push(item);
    let head = |item: &String| words(item).next().map(|(_, name)| name.to_owned());
    found.iter().filter_map(head).collect()
}

/// A path made of `super::` never climbs to the crate root, where it could reach any room unseen.
pub(crate) fn super_stays_inside_the_room(files: &[Source]) -> Vec<String> {
    let mut broken = Vec::new();
    for file in files.iter().filter(|file| file.ships() && file.room().is_some()) {
        let climb = "super::".repeat(file.depth());
        for (number, line) in file.code().lines().enumerate() {
            if line.contains(&climb) {
                broken.push(format!("{}:{}: leaves the room by super", file.path, number + 1));
            }
        }
    }
    broken
}

/// Only the rooms at the border touch files and the environment.
pub(crate) fn only_border_rooms_touch_the_system(files: &[Source]) -> Vec<String> {
    let mut broken = Vec::new();
    for file in files.iter().filter(|file| file.ships()) {
        let inside = file.room().is_some_and(|r| ROOMS_WITH_FILES.contains(&r));
        if inside || FILES_WITH_FILES.contains(&&*file.path) {
            continue;
        }
        let code = file.code();
        for (at, _) in code.match_indices("std::") {
            let path = &code[at + "std::".len()..];
            let named = match path.strip_prefix('{') {
                Some(group) => heads(group),
                None => words(path).next().map(|(_, name)| name.to_owned()).into_iter().collect(),
            };
            for name in named.iter().filter(|name| matches!(name.as_str(), "fs" | "env")) {
                broken.push(format!("{}:{}: std::{name}", file.path, line_of(&code, at)));
            }
        }
    }
    broken
}

/// Files stay short; `naughty` lists exactly those that do not.
pub(crate) fn files_are_short(files: &[Source], naughty: &[&str]) -> Vec<String> {
    let long: BTreeMap<String, usize> = files
        .iter()
        .filter(|file| file.path.ends_with(".rs") && !file.is_test())
        .map(|file| (file.path.clone(), file.text.lines().count()))
        .filter(|(_, lines)| *lines > FILE_LINES_MAX)
        .collect();
    exact(&long, naughty, FILE_LINES_MAX)
}

/// Functions fit a screen; `naughty` lists exactly those that do not, as `path::name`.
pub(crate) fn functions_fit_a_screen(files: &[Source], naughty: &[&str]) -> Vec<String> {
    let mut long = BTreeMap::new();
    for file in files.iter().filter(|file| file.path.ends_with(".rs") && !file.is_test()) {
        let code = file.code();
        for (at, _) in words(&code).filter(|(_, word)| *word == "fn") {
            let Some((_, name)) = words(&code[at + 2..]).next() else { continue };
            let is_pointer = code[at + 2..].trim_start().starts_with('(');
            let Some(end) = body_end(&code, at).filter(|_| !is_pointer) else { continue };
            let lines = line_of(&code, end) - line_of(&code, at) + 1;
            if lines > FUNCTION_LINES_MAX {
                long.insert(format!("{}::{name}", file.path), lines);
            }
        }
    }
    exact(&long, naughty, FUNCTION_LINES_MAX)
}

fn exact(long: &BTreeMap<String, usize>, naughty: &[&str], limit: usize) -> Vec<String> {
    let new = long
        .iter()
        .filter(|(name, _)| !naughty.contains(&name.as_str()))
        .map(|(name, lines)| format!("{name}: {lines} lines, the limit is {limit}"));
    let healed = naughty
        .iter()
        .filter(|name| !long.contains_key(**name))
        .map(|name| format!("{name}: no longer too long, take it off the list"));
    new.chain(healed).collect()
}

/// A file is named after its subject.
pub(crate) fn files_are_named_after_their_subject(files: &[Source]) -> Vec<String> {
    let is_banned = |part: &&str| {
        let stem = part.split('.').next().unwrap_or(part);
        BANNED_NAMES.iter().any(|name| stem == *name || stem.ends_with(&format!("_{name}")))
    };
    files
        .iter()
        .filter(|file| file.path.split('/').any(|part| is_banned(&part)))
        .map(|file| format!("{}: a banned name", file.path))
        .collect()
}

/// No note to self, no debugging left behind.
pub(crate) fn nothing_is_left_for_later(files: &[Source]) -> Vec<String> {
    let banned = [
        concat!("FIX", "ME"),
        concat!("XX", "X"),
        concat!("to", "do!"),
        concat!("db", "g!"),
        concat!("unimplemen", "ted!"),
    ];
    let is_code = |file: &&Source| [".rs", ".py", ".sh"].iter().any(|e| file.path.ends_with(e));
    lines_with(files.iter().filter(is_code), &banned)
}

/// No path of somebody's machine, no package host but the tools' defaults.
pub(crate) fn nothing_names_a_machine(files: &[Source]) -> Vec<String> {
    let banned = [
        concat!("/wo", "rk/"),
        concat!("/ro", "ot/"),
        concat!("/ho", "me/"),
        concat!("index", "-url"),
        concat!("find", "-links"),
        concat!("trusted", "-host"),
        concat!("pythonhosted", ".org"),
        concat!("pypi", ".org"),
        concat!("static.crates", ".io"),
        concat!("registry", "-index"),
    ];
    lines_with(files.iter(), &banned)
}

fn lines_with<'a>(files: impl Iterator<Item = &'a Source>, banned: &[&str]) -> Vec<String> {
    let mut broken = Vec::new();
    for file in files {
        for (number, line) in file.text.lines().enumerate() {
            for word in banned.iter().filter(|word| line.contains(**word)) {
                broken.push(format!("{}:{}: {word}", file.path, number + 1));
            }
        }
    }
    broken
}

/// Every room opens with what it is.
pub(crate) fn rooms_say_what_they_are(files: &[Source]) -> Vec<String> {
    let rooms: BTreeSet<&str> =
        files.iter().filter(|file| file.ships()).filter_map(Source::room).collect();
    let opens = |room: &str| {
        let paths = [format!("src/{room}/mod.rs"), format!("src/{room}.rs")];
        files.iter().any(|file| paths.contains(&file.path) && file.text.starts_with("//!"))
    };
    let silent = rooms.into_iter().filter(|room| !opens(room));
    silent.map(|room| format!("src/{room}: its root does not open with //!")).collect()
}

/// A family is known by its folder, by config.json, and to people who read help.
pub(crate) fn families_are_named_at_home_only(files: &[Source]) -> Vec<String> {
    let home = ["src/models/", "src/checkpoint/config"];
    named_away_from(files, &home, &FAMILIES)
}

/// An algorithm is known by its folder, and to people who read help.
pub(crate) fn algorithms_are_named_at_home_only(files: &[Source]) -> Vec<String> {
    named_away_from(files, &["src/algo/"], &ALGORITHMS)
}

/// The name of a law for rotary frequencies in config.json (`rope_type`), whatever the family.
const ROPE_LAW: &str = "llama3";

fn named_away_from(files: &[Source], home: &[&str], names: &[&str]) -> Vec<String> {
    let mut broken = Vec::new();
    for file in files.iter().filter(|file| file.ships()) {
        if home.iter().any(|prefix| file.path.starts_with(prefix)) {
            continue;
        }
        // the command line may say in words what it must not know in code
        let speaks = file.room() == Some("cli");
        let code = if speaks { file.code() } else { file.code_and_strings() }.to_lowercase();
        let code = code.replace(ROPE_LAW, "");
        for (number, line) in code.lines().enumerate() {
            for name in names.iter().filter(|name| line.contains(**name)) {
                broken.push(format!("{}:{}: names {name}", file.path, number + 1));
            }
        }
    }
    broken
}

/// Lines that ship, by room, and whether the whole keeps within its budget.
pub(crate) fn the_whole_keeps_its_budget(files: &[Source]) -> (String, Vec<String>) {
    let mut rooms: BTreeMap<&str, usize> = BTreeMap::new();
    for file in files.iter().filter(|file| file.ships()) {
        *rooms.entry(file.room().unwrap_or("root")).or_default() += file.text.lines().count();
    }
    let total: usize = rooms.values().sum();
    let shown: Vec<String> = rooms.iter().map(|(room, lines)| format!("{room} {lines}")).collect();
    let line = format!("lines: {} = {total} of {TOTAL_LINES_MAX}", shown.join(" + "));
    let broken = (total > TOTAL_LINES_MAX).then(|| line.clone()).into_iter().collect();
    (line, broken)
}
