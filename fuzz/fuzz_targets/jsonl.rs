//! Any bytes as a data set.
#![no_main]

mod scratch;

use encircle::dataset::read_jsonl;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let path = scratch::folder().join("rows.jsonl");
    std::fs::write(&path, bytes).expect("the folder is ours");
    let _ = read_jsonl(&path);
});
