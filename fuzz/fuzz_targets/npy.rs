//! Any bytes as a .npy array; what was read is written and read back the same.
#![no_main]

use encircle::runtime::npy;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(array) = npy::read(bytes) {
        let written = npy::write(&array);
        let again = npy::read(&written).expect("the reader accepts what the writer wrote");
        assert_eq!(npy::write(&again), written);
    }
});
