//! Arrays there and back, and bytes that are none.

use crate::runtime::npy::*;
use proptest::prelude::*;

proptest! {
    #[test]
    fn what_is_written_is_read(shape in prop::collection::vec(0_usize..4, 0..4), kind in 0..7) {
        let n: usize = shape.iter().product();
        let elements = match kind {
            0 => Elements::F32((0..n).map(|i| i as f32 * 0.5).collect()),
            1 => Elements::I64((0..n).map(|i| i as i64 - 1).collect()),
            2 => Elements::I32((0..n).map(|i| i as i32 - 1).collect()),
            3 => Elements::I16((0..n).map(|i| i as i16 - 1).collect()),
            4 => Elements::U16((0..n).map(|i| i as u16 + 40_000).collect()),
            5 => Elements::I8((0..n).map(|i| i as i8 - 1).collect()),
            _ => Elements::U8((0..n).map(|i| i as u8).collect()),
        };
        let array = Array { shape, elements };
        prop_assert_eq!(read(&write(&array)), Ok(array));
    }

    #[test]
    fn bytes_are_refused_or_read_never_a_panic(
        bytes in prop::collection::vec(any::<u8>(), 0..200),
        at in any::<prop::sample::Index>(),
        value in any::<u8>(),
    ) {
        let _ = read(&bytes);
        let mut file = write(&Array { shape: vec![2, 3], elements: Elements::I16(vec![0; 6]) });
        let at = at.index(file.len());
        file[at] = value;
        let _ = read(&file);
        let _ = read(&file[..at]);
    }
}

#[test]
fn refusals_say_what_was_found() {
    let refuse = |bytes: &[u8]| read(bytes).unwrap_err().to_string();
    assert_eq!(refuse(b"hello"), "is no .npy file");
    assert_eq!(refuse(b"\x93NUMPY\x01\x00"), "ends within its header");
    assert_eq!(refuse(b"\x93NUMPY\x04\x00"), "has .npy version 4, expected 1 to 3");
    let file = write(&Array { shape: vec![2], elements: Elements::F32(vec![0.0; 2]) });
    let text = |from: &str, to: &str| {
        let at = file.windows(from.len()).position(|w| w == from.as_bytes()).unwrap();
        let mut file = file.clone();
        file[at..at + from.len()].copy_from_slice(to.as_bytes());
        refuse(&file)
    };
    assert_eq!(text("<f4", "<f8"), "has elements \"<f8\", expected f4, i8, i4, i2, u2, i1 or u1");
    assert_eq!(text("False", "True "), "is in column-major order, expected row-major");
    let longer = refuse(&[&file[..], &[0; 3]].concat());
    assert_eq!(longer, "holds 11 bytes after its header, expected 8 for shape [2] of \"<f4\"");
    assert_eq!(
        text("(2,)", "(3,)"),
        "holds 8 bytes after its header, expected 12 for shape [3] of \"<f4\""
    );
}
