//! Any bytes as a Circle file; what is read can be judged and listed.
#![no_main]

use encircle::circle;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(model) = circle::read(bytes) {
        let _ = circle::verify(&model);
    }
});
