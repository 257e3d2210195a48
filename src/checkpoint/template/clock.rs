//! The one day that templates see.

/// 26 July 2024, a Friday: the date that Llama's own template falls back to.
const DAY: &[(char, &str)] = &[
    ('Y', "2024"),
    ('y', "24"),
    ('m', "07"),
    ('d', "26"),
    ('e', "26"),
    ('j', "208"),
    ('B', "July"),
    ('b', "Jul"),
    ('h', "Jul"),
    ('A', "Friday"),
    ('a', "Fri"),
    ('H', "12"),
    ('I', "12"),
    ('M', "00"),
    ('S', "00"),
    ('p', "PM"),
    ('F', "2024-07-26"),
    ('D', "07/26/24"),
    ('T', "12:00:00"),
    ('R', "12:00"),
    ('r', "12:00:00 PM"),
    ('c', "Fri Jul 26 12:00:00 2024"),
    ('x', "07/26/24"),
    ('X', "12:00:00"),
    ('C', "20"),
    ('G', "2024"),
    ('g', "24"),
    ('V', "30"),
    ('U', "29"),
    ('W', "30"),
    ('u', "5"),
    ('w', "5"),
    ('k', "12"),
    ('l', "12"),
    ('P', "pm"),
    ('f', "000000"),
    ('n', "\n"),
    ('t', "\t"),
    ('Z', ""),
    ('z', ""),
    ('%', "%"),
];

/// Python's `strftime` for that day; a directive that is not known stays as written.
pub(super) fn strftime(format: &str) -> String {
    let mut out = String::new();
    let mut chars = format.chars();
    while let Some(c) = chars.next() {
        if c != '%' {
            out.push(c);
            continue;
        }
        // The C library's flag: without zeros in front.
        let bare = chars.as_str().starts_with('-');
        let mark = if bare { "%-" } else { "%" };
        let Some(directive) = chars.by_ref().nth(usize::from(bare)) else {
            out.push_str(mark);
            break;
        };
        match DAY.iter().find(|(name, _)| *name == directive) {
            Some((_, text @ "00")) if bare => out.push_str(&text[1..]),
            Some((_, text)) if bare => out.push_str(text.trim_start_matches('0')),
            Some((_, text)) => out.push_str(text),
            None => {
                out.push_str(mark);
                out.push(directive);
            }
        }
    }
    out
}
