use super::*;

#[test]
fn numbers_read_well() {
    assert_eq!((bytes(999), bytes(2_102_608)), ("999 B".into(), "2.10 MB".into()));
    assert_eq!((bytes(10_000), bytes(614_800)), ("10.0 kB".into(), "615 kB".into()));
    assert_eq!((counted(1, "row"), counted(0, "row")), ("1 row".into(), "0 rows".into()));
}

#[test]
fn what_is_said_to_be_enough_is() {
    assert_eq!((enough(91_337_750), enough(91_300_000)), ("91.4 MB".into(), "91.3 MB".into()));
    assert_eq!(
        (enough(0), enough(7), enough(9_999)),
        ("0 B".into(), "7 B".into(), "10.0 kB".into())
    );
}
