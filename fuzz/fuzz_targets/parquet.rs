//! Any bytes as a Parquet file of texts.
#![no_main]

mod scratch;

use encircle::dataset::read_source;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let path = scratch::folder().join("texts.parquet");
    std::fs::write(&path, bytes).expect("the folder is ours");
    let _ = read_source(&path, None);
});
