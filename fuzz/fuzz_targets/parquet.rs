//! Any bytes as a Parquet file of texts.
#![no_main]

mod scratch;

use encircle::dataset::read_source;
use libfuzzer_sys::fuzz_target;

// The library panics on some damaged pages. Ours is caught, so only what escapes may end the run.
fuzz_target!(init: std::panic::set_hook(Box::new(|_| {})), |bytes: &[u8]| {
    let path = scratch::folder().join("texts.parquet");
    std::fs::write(&path, bytes).expect("the folder is ours");
    let _ = read_source(&path, None);
});
