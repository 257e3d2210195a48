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
        let Some(directive) = chars.next() else {
            out.push('%');
            break;
        };
        match DAY.iter().find(|(name, _)| *name == directive) {
            Some((_, text)) => out.push_str(text),
            None => out.extend(['%', directive]),
        }
    }
    out
}
