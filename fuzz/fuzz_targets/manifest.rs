//! Any bytes as the manifest of a staged set, beside a Circle file that it may name.
#![no_main]

mod scratch;

use encircle::pipeline::{Chain, Reading};
use libfuzzer_sys::fuzz_target;

const FILE: &[u8] = include_bytes!("../seeds/circle_read/norm_and_linear");

fuzz_target!(|bytes: &[u8]| {
    let folder = scratch::folder();
    std::fs::write(folder.join("layer.circle"), FILE).expect("the folder is ours");
    std::fs::write(folder.join("manifest.json"), bytes).expect("the folder is ours");
    let _ = Chain::open(&folder, Reading::Float);
});
