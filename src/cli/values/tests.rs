use super::*;

#[test]
fn numbers_that_no_option_takes_are_told_what_is_expected() {
    let least = |least| Err(format!("expected a whole number, {least} or more"));
    assert_eq!(parse_count::<usize>("-1"), least(0));
    assert_eq!(parse_count::<u64>("1.5").map(|_| 0), least(0));
    assert_eq!(parse_some("0").map(NonZeroUsize::get), least(1));
    let large = "99999999999999999999";
    assert_eq!(parse_count::<usize>(large), Err("expected a number below 2^64".into()));
    let grid = "expected T,H,W, each of them: expected a whole number, 1 or more";
    assert_eq!(parse_grid("-1,8,8"), Err(grid.into()));
    assert_eq!(parse_grid("0x8x8"), Err(grid.into()));
    assert_eq!(parse_grid("1x8x8"), Ok([1, 8, 8]));
    for (text, expected) in [("-1", "at least one byte"), ("-4GiB", "at least one byte")] {
        assert!(parse_bytes(text).unwrap_err().contains(expected), "{text}");
    }
    assert_eq!(parse_bytes("4 KiB"), Ok(4096));
}
