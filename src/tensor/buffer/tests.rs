//! Of the stock.

use super::*;
use proptest::prelude::*;

proptest! {
    #[test]
    fn a_payload_of_its_class_holds_what_was_asked_for(len in SMALL..1usize << 40) {
        let size = rounded(len);
        prop_assert!(size >= len && size - len <= len / 4);
        prop_assert_eq!(rounded(size), size);
        prop_assert!(class(size - 1) < class(size) && class(size) == class(size + 1));
    }
}

#[test]
fn memory_is_used_again_and_has_the_length_asked_for() {
    let mut first = Buffer::arbitrary(1000);
    first.fill(7.0);
    let at = first.as_ptr();
    drop(first);
    let second = Buffer::arbitrary(990);
    assert_eq!((second.as_ptr(), second.len()), (at, 990));
    assert_eq!(second.clone().into_vec(), vec![7.0; 990]);
}

#[test]
fn the_stock_is_bounded() {
    let mut stock = Stock::new(1 << 16);
    let kept = (0..40).filter(|_| stock.give(vec![0.0; 1 << 11]).is_none()).count();
    assert_eq!((kept, stock.bytes), (8, 1 << 16));
    let mut stock = Stock::new(1 << 16);
    let large = vec![0.0; (1 << 13) + 1];
    assert!(stock.give(large).is_some(), "one payload must not take more than half of it");
}
