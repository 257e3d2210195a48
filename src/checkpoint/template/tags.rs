//! The tags of a template: rewritten where minijinja would do other than Jinja, refused where it could not
//! take them.

use super::super::error::quoted;

/// Operators in one tag, and `elif`s of the conditions around one place: minijinja goes into each of them
/// on the stack. Real templates have tens.
const DEPTH: usize = 500;
/// What Python's dicts have besides their items; Jinja finds it before an item of that name.
const OF_DICTS: [&str; 10] =
    ["clear", "copy", "fromkeys", "get", "items", "keys", "pop", "setdefault", "update", "values"];

/// What is expected instead of a template that cannot be taken.
#[derive(Debug, PartialEq)]
pub(super) struct Refusal {
    pub(super) line: usize,
    pub(super) expected: String,
    pub(super) found: String,
}

/// The template that gives in minijinja what `template` gives in Jinja, line by line. `generation`
/// blocks mark the assistant's tokens for training and print as their content; what they set stays
/// inside.
pub(super) fn adapted(template: &str) -> Result<String, Refusal> {
    let mut out = String::with_capacity(template.len());
    let (mut around, mut line) = (Around::default(), 1);
    let mut rest = template;
    let opens = |two: &[u8]| matches!(two, b"{%" | b"{{" | b"{#");
    while let Some(at) = rest.as_bytes().windows(2).position(opens) {
        let (before, tag) = rest.split_at(at);
        out.push_str(before);
        line += before.matches('\n').count();
        let (inside, after) = tag.split_at(tag_len(tag));
        rest = after;
        let refused = |(expected, found): (String, String)| Refusal { line, expected, found };
        let mut raw = false;
        if inside.starts_with("{#") {
            out.push_str(inside);
        } else {
            // a line of a string may go on in the next
            let mut tag = Tag::read(&inside.replace("\\\n", ""));
            raw = tag.word(0) == "raw" && tag.is_block();
            tag.check().and_then(|()| around.pass(&tag)).map_err(refused)?;
            out.push_str(&tag.adapted());
        }
        line += inside.matches('\n').count();
        if raw {
            let (raw, after) = rest.split_at(rest.find("endraw").unwrap_or(rest.len()));
            out.push_str(raw);
            line += raw.matches('\n').count();
            rest = after;
        }
    }
    out.push_str(rest);
    Ok(out)
}

/// The blocks around a tag, and the names that are known there.
#[derive(Default)]
struct Around {
    open: Vec<String>,
    chains: Vec<usize>,
    namespaces: Vec<String>,
}

impl Around {
    /// Goes by a tag. A loop that is left or gone on with from inside of a scope would be a panic:
    /// minijinja forgets to close it.
    fn pass(&mut self, tag: &Tag) -> Result<(), (String, String)> {
        let uncalled = |i: &usize| {
            let bare = tag.word(*i) == "." && tag.word(i + 2) != "(";
            bare && OF_DICTS.contains(&tag.word(i + 1))
                && !(*i > 0 && self.namespaces.iter().any(|name| name == tag.word(i - 1)))
        };
        if let Some(i) = (0..tag.tokens.len()).find(uncalled) {
            let expected = "an item in brackets where a method has its name";
            return Err((expected.to_owned(), quoted(&format!(".{}", tag.word(i + 1)))));
        }
        if !tag.is_block() {
            return Ok(());
        }
        match tag.word(0) {
            "if" => self.chains.push(0),
            "elif" => {
                self.chains.last_mut().into_iter().for_each(|chain| *chain += 1);
                if self.chains.iter().sum::<usize>() > DEPTH {
                    let expected = "elif in a condition and those around it";
                    return Err((format!("at most {DEPTH} {expected}"), "more".into()));
                }
            }
            "endif" => drop(self.chains.pop()),
            name @ ("for" | "with" | "generation" | "filter" | "autoescape") => {
                self.open.push(name.to_owned())
            }
            // what is set to a value has no end
            "set" if tag.assigned().is_empty() => self.open.push("set".to_owned()),
            "set" if tag.word(2) == "=" && tag.word(3) == "namespace" => {
                self.namespaces.push(tag.word(1).to_owned())
            }
            "endfor" | "endwith" | "endgeneration" | "endfilter" | "endautoescape" | "endset" => {
                self.open.pop();
            }
            name @ ("break" | "continue") if self.open.last().is_some_and(|open| open != "for") => {
                let around = "with, set, filter, autoescape, generation";
                return Err((format!("no break or continue inside of {around}"), quoted(name)));
            }
            "do" => return Err(("a tag that Jinja has".into(), quoted("do"))),
            _ => {}
        }
        Ok(())
    }
}

/// A word, a number, a text or a sign in a tag.
struct Token {
    start: usize,
    end: usize,
    /// How many brackets are open around it; those around what is in them count as outside.
    depth: usize,
}

/// A tag, its tokens, and what is written before and behind each of these.
struct Tag {
    text: String,
    tokens: Vec<Token>,
    /// What is written instead of a token.
    instead: Vec<Option<&'static str>>,
    before: Vec<String>,
    behind: Vec<String>,
}

impl Tag {
    fn read(text: &str) -> Tag {
        let sign = |c: Option<u8>| usize::from(matches!(c, Some(b'-' | b'+')));
        let bytes = text.as_bytes();
        let start = 2 + sign(bytes.get(2).copied());
        let closed = text.len() > 3 && (text.ends_with("%}") || text.ends_with("}}"));
        let end = text.len() - if closed { 2 } else { 0 };
        let end = end - if closed { sign(bytes.get(end - 1).copied()) } else { 0 };
        let tokens = tokens(text, start.min(end), end);
        let none = vec![String::new(); tokens.len()];
        let instead = vec![None; tokens.len()];
        Tag { text: text.to_owned(), before: none.clone(), behind: none, instead, tokens }
    }

    fn is_block(&self) -> bool {
        self.text.starts_with("{%") && self.text.ends_with("%}")
    }

    /// A token as written; empty beyond the last.
    fn word(&self, i: usize) -> &str {
        self.tokens.get(i).map_or("", |token| &self.text[token.start..token.end])
    }

    /// Whether a value ends there, so that what follows is an operator and no sign of the next value.
    fn ends_value(&self, i: usize) -> bool {
        let word = self.word(i);
        let name = word.chars().next().is_some_and(|c| is_word(c) || ")]}\"'".contains(c));
        name && !matches!(word, "not" | "and" | "or" | "in" | "is" | "if" | "else" | "elif")
            && !(i == 0 && self.is_block())
    }

    fn is_infix(&self, i: usize) -> bool {
        i > 0 && self.ends_value(i - 1)
    }

    fn check(&self) -> Result<(), (String, String)> {
        let count = (0..self.tokens.len()).filter(|&i| match self.word(i) {
            "not" | "and" | "or" | "in" | "is" | "if" | "+" | "*" | "/" | "//" | "**" | "%"
            | "~" | "|" | "." => true,
            "[" | "(" => self.is_infix(i),
            "-" => self.is_infix(i) || !self.word(i + 1).starts_with(|c: char| c.is_ascii_digit()),
            _ => false,
        });
        let count = count.count();
        if count > DEPTH {
            let expected = format!("at most {DEPTH} operators in an expression");
            return Err((expected, count.to_string()));
        }
        let of_macros = |i: &usize| {
            matches!(self.word(*i), "varargs" | "kwargs") && (*i == 0 || self.word(i - 1) != ".")
        };
        match (0..self.tokens.len()).find(of_macros) {
            Some(i) => Err(("macros whose arguments have names".into(), quoted(self.word(i)))),
            None => Ok(()),
        }
    }

    /// Where a token ends the operands of an operator: 0 of those that join texts, 1 of those that add, 2
    /// of those that compare, and all that binds less.
    fn bounds(&self, i: usize, level: usize) -> bool {
        let tested = i > 0 && (self.word(i - 1) == "is")
            || (i > 1 && self.word(i - 1) == "not" && self.word(i - 2) == "is");
        match self.word(i) {
            "~" => level == 0,
            "+" | "-" => level <= 1 && self.is_infix(i),
            "in" | "not" => !tested,
            "==" | "!=" | "<" | "<=" | ">" | ">=" | "and" | "or" | "if" | "else" | "," | ":"
            | "=" | "recursive" => true,
            _ => i == 0 && self.is_block(),
        }
    }

    /// The first token of the operand before `i`, the last of the one behind it.
    fn operands(&self, i: usize, level: usize) -> (usize, usize) {
        let depth = self.tokens[i].depth;
        let ends = |&k: &usize| {
            self.tokens[k].depth < depth || (self.tokens[k].depth == depth && self.bounds(k, level))
        };
        let first = (0..i).rev().find(ends).map_or(0, |k| k + 1);
        (first, (i + 1..self.tokens.len()).find(ends).unwrap_or(self.tokens.len()) - 1)
    }

    /// The tokens of each value that a `set` or `with` gives a name.
    fn assigned(&self) -> Vec<(usize, usize)> {
        let outside = |i: &usize| self.tokens[*i].depth == 0;
        let several = self.word(0) == "with";
        let signs = (0..self.tokens.len()).filter(outside).filter(|i| self.word(*i) == "=");
        let last = |i| {
            let mut rest = (i + 1..self.tokens.len()).filter(outside);
            let next = rest.find(|k| several && self.word(*k) == ",");
            next.unwrap_or(self.tokens.len()) - 1
        };
        signs.map(|i| (i + 1, last(i))).collect()
    }

    fn apply(&mut self, filter: &str, (first, last): (usize, usize)) {
        if first <= last {
            self.before[first].insert(0, '(');
            self.behind[last].extend([")|", filter]);
        }
    }

    /// Lets filters see to what minijinja's operators and statements give no say in.
    fn adapted(&mut self) -> String {
        let count = self.tokens.len();
        (1..count).for_each(|i| self.adapt_slice(i));
        let operators: [(&[&str], &str); 3] =
            [(&["~"], "__text"), (&["+"], "__added"), (&["<", "<=", ">", ">="], "__ordered")];
        for (level, (signs, filter)) in operators.into_iter().enumerate() {
            for i in 1..count {
                if !(signs.contains(&self.word(i)) && self.is_infix(i)) {
                    continue;
                }
                let (first, last) = self.operands(i, level);
                if !(first > 0 && signs.contains(&self.word(first - 1))) {
                    self.apply(filter, (first, i - 1));
                }
                self.apply(filter, (i + 1, last));
            }
        }
        for i in 0..count {
            if self.word(i) == "loop"
                && self.word(i + 1) == "("
                && self.word(i.wrapping_sub(1)) != "."
            {
                let depth = self.tokens[i].depth;
                let close = (i + 2..count).find(|&k| self.tokens[k].depth == depth);
                self.apply("__each|__kept", (i + 2, close.unwrap_or(count) - 1));
            }
        }
        if self.is_block() {
            match self.word(0) {
                "for" => self.adapt_loop(),
                "set" | "with" => {
                    let of_namespace = self.word(2) == ".";
                    let filter = if of_namespace { "__kept_inside" } else { "__kept" };
                    self.assigned().into_iter().for_each(|value| self.apply(filter, value));
                }
                "macro" => return self.macro_of_set_defaults(),
                "generation" | "endgeneration" => {
                    return self.text.replacen("generation", "with", 1);
                }
                _ => {}
            }
        }
        let start = self.tokens.first().map_or(self.text.len(), |token| token.start);
        let end = self.tokens.last().map_or(self.text.len(), |token| token.end);
        let (open, shut) = (&self.text[..start], &self.text[end..]);
        let written = self.written(0, count);
        match self.word(0) {
            _ if !self.is_block() => [open, &written, shut].concat(),
            // what is set inside stays there
            "filter" => [open, &written, " %}{% with", shut].concat(),
            "set" if self.assigned().is_empty() => [open, &written, " %}{% with", shut].concat(),
            "endfilter" | "endset" => [open, "endwith %}{% ", &written, shut].concat(),
            _ => [open, &written, shut].concat(),
        }
    }

    /// A slice as a filter: minijinja forgets that a macro knows what it is taken of.
    fn adapt_slice(&mut self, open: usize) {
        if self.word(open) != "[" || !self.is_infix(open) {
            return;
        }
        let depth = self.tokens[open].depth;
        let inside = open + 1..self.tokens.len();
        let Some(close) = inside.clone().find(|&i| self.tokens[i].depth == depth) else { return };
        let is_colon = |i: &usize| self.tokens[*i].depth == depth + 1 && self.word(*i) == ":";
        let colons: Vec<usize> = (open + 1..close).filter(is_colon).collect();
        if colons.is_empty() {
            return;
        }
        let first = self.value_start(open - 1);
        self.before[first].insert_str(0, "((");
        self.instead[open] =
            Some(if colons[0] == open + 1 { ")|__slice(none" } else { ")|__slice(" });
        for &colon in &colons {
            let empty = colon + 1 == close || colons.contains(&(colon + 1));
            self.instead[colon] = Some(if empty { ", none" } else { "," });
        }
        self.instead[close] = Some("))");
    }

    /// The first token of the value that ends with token `last`: a name, a literal, what is in brackets,
    /// and the items, attributes and calls of these.
    fn value_start(&self, last: usize) -> usize {
        let mut at = last;
        loop {
            let depth = self.tokens[at].depth;
            if matches!(self.word(at), ")" | "]" | "}") {
                at = (0..at).rev().find(|&i| self.tokens[i].depth == depth).unwrap_or(0);
                if !self.is_infix(at) {
                    return at;
                }
                at -= 1;
            } else if at > 1 && self.word(at - 1) == "." {
                at -= 2;
            } else {
                return at;
            }
        }
    }

    fn adapt_loop(&mut self) {
        let outside = |word: &str, from: usize| {
            let mut rest = from..self.tokens.len();
            rest.find(|&i| self.tokens[i].depth == 0 && self.word(i) == word)
        };
        let Some(start) = outside("in", 1) else { return };
        let end = outside("if", start).or(outside("recursive", start));
        self.apply("__each", (start + 1, end.unwrap_or(self.tokens.len()) - 1));
    }

    /// A macro whose arguments get their defaults in its body, where they know each other.
    fn macro_of_set_defaults(&self) -> String {
        let Some(close) =
            (3..self.tokens.len()).find(|&i| self.word(i) == ")" && self.tokens[i].depth == 0)
        else {
            return self.text.clone();
        };
        let ends = |i: &usize| self.tokens[*i].depth == 1 && self.word(*i) == ",";
        let (mut names, mut tags, mut start) = (Vec::new(), Vec::new(), 3);
        while start < close {
            let end = (start..close).find(ends).unwrap_or(close);
            let name = self.word(start);
            names.push(name);
            if self.word(start + 1) == "=" {
                let default = self.written(start + 2, end);
                tags.push(format!("if {name} is undefined"));
                tags.push(format!("set {name} = {default}"));
                tags.push("endif".to_owned());
            }
            tags.push(format!("set {name} = {name}|__kept"));
            start = end + 1;
        }
        let head = format!("macro {}({})", self.word(1), names.join(", "));
        tags.insert(0, head);
        let open = &self.text[..self.tokens[0].start];
        let shut = self.text[self.tokens[close].end..].trim_start();
        let lines = "\n".repeat(self.text.matches('\n').count());
        format!("{open}{}{lines} {shut}", tags.join(" %}{% "))
    }

    /// The tokens from `start` to before `end`, and what was added to them.
    fn written(&self, start: usize, end: usize) -> String {
        let mut out = String::new();
        for i in start..end {
            let token = &self.tokens[i];
            let gap = if i > start { &self.text[self.tokens[i - 1].end..token.start] } else { "" };
            let word = self.instead[i].unwrap_or(self.word(i));
            out.extend([gap, &self.before[i], word, &self.behind[i]]);
        }
        out
    }
}

/// The tokens of `text` from `start` to before `end`.
fn tokens(text: &str, start: usize, end: usize) -> Vec<Token> {
    let (mut out, mut depth, mut at): (Vec<Token>, usize, usize) = (Vec::new(), 0, start);
    while let Some(c) = text[at..end].chars().next() {
        let rest = &text[at..end];
        let len = match c {
            '"' | '\'' => string_len(rest, c),
            '0'..='9' => {
                number_len(rest, out.last().is_some_and(|last| text[last.start..].starts_with('.')))
            }
            c if is_word(c) => rest.find(|c| !is_word(c)).unwrap_or(rest.len()),
            _ if ["==", "!=", "<=", ">=", "//", "**"].iter().any(|sign| rest.starts_with(sign)) => {
                2
            }
            c => c.len_utf8(),
        };
        if ")]}".contains(c) {
            depth = depth.saturating_sub(1);
        }
        if !c.is_whitespace() {
            out.push(Token { start: at, end: at + len, depth });
        }
        if "([{".contains(c) {
            depth += 1;
        }
        at += len;
    }
    out
}

fn string_len(text: &str, quote: char) -> usize {
    let mut escaped = true;
    let end = text.find(|c| {
        let ends = c == quote && !escaped;
        escaped = !escaped && c == '\\';
        ends
    });
    end.map_or(text.len(), |end| end + 1)
}

/// The length of the number that `text` begins with; behind a dot, it is an index.
fn number_len(text: &str, index: bool) -> usize {
    let is_digit = |i: usize| text.as_bytes().get(i).is_some_and(u8::is_ascii_digit);
    let fraction = |c: char, i: usize| c == '.' && !index && is_digit(i + 1);
    let power = |c: char, i: usize| {
        matches!(c, '+' | '-')
            && is_digit(i + 1)
            && !text.starts_with("0x")
            && text[..i].ends_with(['e', 'E'])
    };
    let mut chars = text.char_indices();
    chars
        .find(|&(i, c)| !(is_word(c) || fraction(c, i) || power(c, i)))
        .map_or(text.len(), |(i, _)| i)
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// The length of the tag, of the expression or of the comment that `text` begins with: up to what
/// closes it outside of strings and brackets.
fn tag_len(text: &str) -> usize {
    let close = match text.as_bytes().get(1) {
        Some(b'#') => return text.find("#}").map_or(text.len(), |end| end + 2),
        Some(b'%') => "%}",
        _ => "}}",
    };
    let (mut at, mut open) = (2, 0_usize);
    while let Some(c) = text[at..].chars().next() {
        match c {
            '"' | '\'' => {
                at += string_len(&text[at..], c);
                continue;
            }
            '(' | '[' | '{' => open += 1,
            _ if open == 0 && text[at..].starts_with(close) => return at + close.len(),
            ')' | ']' | '}' => open = open.saturating_sub(1),
            _ => {}
        }
        at += c.len_utf8();
    }
    text.len()
}
