use super::*;

fn read(name: &str, content: &[u8], column: Option<&str>) -> std::result::Result<String, String> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join(name);
    std::fs::write(&path, content).unwrap();
    match read_source(&path, column) {
        Ok(Source::Text(text)) => Ok(text),
        Ok(Source::Rows(rows)) => Ok(format!("{} rows", rows.len())),
        Err(e) => Err(e.to_string().replace(&format!("{}/", dir.path().display()), "")),
    }
}

#[test]
fn text_comes_from_plain_files_and_from_jsonl() {
    assert_eq!(read("a.txt", b"one two", None).unwrap(), "one two");
    let marked = "\u{feff}one two".as_bytes();
    assert_eq!(read("a.txt", marked, Some("body")).unwrap(), "one two", "plain text has no column");
    let jsonl = b"{\"text\": \"one\"}\n{\"text\": \"two\"}\n";
    assert_eq!(read("a.jsonl", jsonl, None).unwrap(), "one\n\ntwo");
    let bodies = b"{\"body\": \"one\"}\n{\"body\": \"two\"}\n";
    assert_eq!(read("a.jsonl", bodies, Some("body")).unwrap(), "one\n\ntwo");
    // by any name of JSON lines, and with empty lines as data sets of text have them
    let gaps = b"{\"text\": \"one\"}\n{\"text\": \"\"}\n{\"text\": \"two\"}\n";
    for name in ["a.jsonl", "a.json", "a.NDJSON"] {
        assert_eq!(read(name, gaps, None).unwrap(), "one\n\n\n\ntwo");
    }
    let asked = b"{\"question\": \"one\"}\n{\"text\": \"two\"}\n";
    assert_eq!(read("a.jsonl", asked, None).unwrap(), "2 rows");
}

#[test]
fn files_without_text_are_refused_by_file_and_column() {
    let wrong = [
        ("a.txt", &b" \n"[..], None, "a.txt: expected some text, found none"),
        (
            "a.csv",
            b"text\none",
            None,
            "a.csv: expected plain text, JSON lines or Parquet, found a table",
        ),
        ("a.txt", b"\xff", None, "a.txt: expected UTF-8 text, found other bytes"),
        ("a.jsonl", b"{\"text\": \"x\"}", Some("body"), "a.jsonl:1: field \"body\""),
        ("a.jsonl", b"{\"question\": \"x\"}", Some("body"), "a.jsonl: field \"body\""),
        ("a.jsonl", b"{\"text\": 3}", None, "a.jsonl:1: field \"text\""),
        (
            "a.jsonl",
            b"{\"body\": \"x\"}",
            None,
            "a.jsonl:1: field \"question\": expected it, \"messages\" or \"text\" (or a field of text, by \
             --column)",
        ),
        ("a.jsonl", b"\n{\"text\": \"\xff\"}", None, "a.jsonl:2: expected UTF-8 text, found other"),
    ];
    for (name, content, column, expected) in wrong {
        let error = read(name, content, column).unwrap_err();
        assert!(error.starts_with(expected), "{name} {column:?}: {error}");
    }
}
