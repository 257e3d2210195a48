//! What was read and can be written reads back the same, and writes the same bytes.
#![no_main]

use encircle::circle;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Ok(model) = circle::read(bytes) else { return };
    let Ok(written) = circle::to_bytes(&model) else { return };
    let again = circle::read(&written).expect("the reader accepts what the writer wrote");
    assert_eq!(circle::to_bytes(&again).expect("it was written before"), written);
});
