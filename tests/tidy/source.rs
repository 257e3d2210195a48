//! Source files as the rules see them: path, text, and the text without comments, strings, tests.

use std::path::Path;

/// One text file of the repository.
pub(crate) struct Source {
    /// Relative to the repository, with `/`.
    pub(crate) path: String,
    /// As it stands on disk.
    pub(crate) text: String,
}

impl Source {
    pub(crate) fn new(path: &str, text: &str) -> Source {
        Source { path: path.into(), text: text.into() }
    }

    /// The room under `src/` that the file belongs to; none for `lib.rs` and `main.rs`.
    pub(crate) fn room(&self) -> Option<&str> {
        let inner = self.path.strip_prefix("src/")?;
        match inner.split_once('/') {
            Some((room, _)) => Some(room),
            None => inner.strip_suffix(".rs").filter(|name| !matches!(*name, "lib" | "main")),
        }
    }

    /// Whether this is a test: `tests.rs`, or anything under a folder `tests`.
    pub(crate) fn is_test(&self) -> bool {
        self.path.ends_with("/tests.rs") || self.path.split('/').any(|part| part == "tests")
    }

    /// Rust that ships: under `src/`, and no test.
    pub(crate) fn ships(&self) -> bool {
        self.path.starts_with("src/") && self.path.ends_with(".rs") && !self.is_test()
    }

    /// How many modules lie between the file and the crate root: 1 for `src/room/mod.rs`.
    pub(crate) fn depth(&self) -> usize {
        let parts = self.path.split('/').count() - 1;
        if self.path.ends_with("/mod.rs") { parts - 1 } else { parts }
    }

    /// The text with comments, string contents and inline test modules blanked.
    pub(crate) fn code(&self) -> String {
        without_inline_tests(&blank(&self.text, Blank::CommentsAndStrings))
    }

    /// The text with comments and inline test modules blanked.
    pub(crate) fn code_and_strings(&self) -> String {
        without_inline_tests(&blank(&self.text, Blank::Comments))
    }
}

/// Every text file of the repository that people wrote.
pub(crate) fn repository() -> Vec<Source> {
    let mut found = Vec::new();
    walk(Path::new(env!("CARGO_MANIFEST_DIR")), "", &mut found);
    found.sort_by(|a, b| a.path.cmp(&b.path));
    found
}

const SKIPPED_FOLDERS: [&str; 5] = [".git", "target", "out", "data", "__pycache__"];
const TEXT: [&str; 10] = ["rs", "py", "sh", "md", "toml", "json", "yml", "yaml", "cff", "run"];

fn walk(folder: &Path, prefix: &str, found: &mut Vec<Source>) {
    for entry in std::fs::read_dir(folder).expect("the repository can be listed") {
        let entry = entry.expect("the repository can be listed");
        let name = entry.file_name().to_string_lossy().into_owned();
        let path = if prefix.is_empty() { name.clone() } else { format!("{prefix}/{name}") };
        let kind = entry.file_type().expect("an entry has a type");
        if kind.is_dir() {
            if !SKIPPED_FOLDERS.contains(&name.as_str()) {
                walk(&entry.path(), &path, found);
            }
        } else if kind.is_file() && is_text(&path) {
            let text = std::fs::read_to_string(entry.path()).expect("a text file holds UTF-8");
            found.push(Source { path, text });
        }
    }
}

fn is_text(path: &str) -> bool {
    let ending = path.rsplit(['.', '/']).next().unwrap_or_default();
    TEXT.contains(&ending)
}

#[derive(Clone, Copy, PartialEq)]
enum Blank {
    Comments,
    CommentsAndStrings,
}

/// Replaces what is not code by spaces; line breaks stay, so line numbers hold.
fn blank(text: &str, what: Blank) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let (length, hide) = token(rest, ends_in_word(&out));
        let length = length.max(first.len_utf8());
        let hide = match hide {
            Token::Comment => true,
            Token::Text => what == Blank::CommentsAndStrings,
            Token::Code => false,
        };
        let (piece, after) = rest.split_at(length);
        if hide {
            out.extend(piece.chars().map(|c| if c == '\n' { '\n' } else { ' ' }));
        } else {
            out.push_str(piece);
        }
        rest = after;
    }
    out
}

enum Token {
    Comment,
    Text,
    Code,
}

fn ends_in_word(out: &str) -> bool {
    out.chars().next_back().is_some_and(|c| c.is_alphanumeric() || c == '_')
}

/// Length and kind of what `rest` starts with; code is taken a character at a time.
fn token(rest: &str, in_word: bool) -> (usize, Token) {
    if rest.starts_with("//") {
        return (rest.find('\n').unwrap_or(rest.len()), Token::Comment);
    }
    if rest.starts_with("/*") {
        return (block_comment(rest), Token::Comment);
    }
    if rest.starts_with('"') {
        return (quoted(rest), Token::Text);
    }
    if rest.starts_with('\'') {
        return match char_literal(rest) {
            Some(length) => (length, Token::Text),
            None => (1, Token::Code), // a lifetime
        };
    }
    if !in_word && let Some(length) = raw_string(rest) {
        return (length, Token::Text);
    }
    (0, Token::Code)
}

fn block_comment(rest: &str) -> usize {
    let (mut depth, mut at) = (0_usize, 0);
    while at < rest.len() {
        if rest[at..].starts_with("/*") {
            (depth, at) = (depth + 1, at + 2);
        } else if rest[at..].starts_with("*/") {
            (depth, at) = (depth - 1, at + 2);
            if depth == 0 {
                return at;
            }
        } else {
            at += rest[at..].chars().next().map_or(1, char::len_utf8);
        }
    }
    rest.len()
}

fn quoted(rest: &str) -> usize {
    let mut escaped = false;
    for (at, c) in rest.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => return at + 1,
            _ => {}
        }
    }
    rest.len()
}

fn char_literal(rest: &str) -> Option<usize> {
    let mut chars = rest.char_indices().skip(1);
    let (_, first) = chars.next()?;
    if first == '\\' {
        chars.next()?;
        return rest.char_indices().skip(3).find(|(_, c)| *c == '\'').map(|(at, _)| at + 1);
    }
    chars.next().filter(|(_, c)| *c == '\'').map(|(at, _)| at + 1)
}

/// `r"…"`, `r#"…"#`, also after `b`.
fn raw_string(rest: &str) -> Option<usize> {
    let body = rest.strip_prefix('b').unwrap_or(rest).strip_prefix('r')?;
    let hashes = body.len() - body.trim_start_matches('#').len();
    let inner = body[hashes..].strip_prefix('"')?;
    let close = format!("\"{}", "#".repeat(hashes));
    let start = rest.len() - inner.len();
    Some(inner.find(&close).map_or(rest.len(), |at| start + at + close.len()))
}

/// Blanks `#[cfg(test)] mod … { … }`; strings and comments need not be blanked before.
fn without_inline_tests(code: &str) -> String {
    let mut out = code.to_owned();
    let mut from = 0;
    while let Some(found) = out[from..].find("#[cfg(test)]") {
        let start = from + found;
        let after = start + "#[cfg(test)]".len();
        from = after;
        let is_module = out[after..].trim_start().starts_with("mod ");
        if let Some(end) = body_end(&out, after).filter(|_| is_module) {
            let hidden: String =
                out[start..end].chars().map(|c| if c == '\n' { '\n' } else { ' ' }).collect();
            out.replace_range(start..end, &hidden);
            from = start;
        }
    }
    out
}

/// Where the first `{ … }` after `from` ends, unless a `;` outside of brackets comes first.
pub(crate) fn body_end(code: &str, from: usize) -> Option<usize> {
    let (mut braces, mut brackets) = (0_usize, 0_usize);
    for (at, byte) in code.bytes().enumerate().skip(from) {
        match byte {
            b'{' => braces += 1,
            b'}' => {
                braces = braces.checked_sub(1)?;
                if braces == 0 && brackets == 0 {
                    return Some(at + 1);
                }
            }
            b'(' | b'[' if braces == 0 => brackets += 1,
            b')' | b']' if braces == 0 => brackets = brackets.checked_sub(1)?,
            b';' if braces == 0 && brackets == 0 => return None,
            _ => {}
        }
    }
    None
}

/// The words of `code` with their byte offsets.
pub(crate) fn words(code: &str) -> impl Iterator<Item = (usize, &str)> {
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    let mut at = 0;
    code.split_inclusive(move |c| !is_word(c)).filter_map(move |piece| {
        let start = at;
        at += piece.len();
        let word = piece.trim_end_matches(|c| !is_word(c));
        (!word.is_empty()).then_some((start, word))
    })
}

/// The line number of a byte offset.
pub(crate) fn line_of(text: &str, at: usize) -> usize {
    text[..at].matches('\n').count() + 1
}
