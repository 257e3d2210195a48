//! Any observers as a file of statistics, whose lengths and checksum are right: else no mutation
//! would get past them. The bytes are the length of the header (two of them), header and body.
#![no_main]

use encircle::cluster::{Collected, Fnv};
use encircle::quant::{Merge, MergeableObserver, Observer};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let _ = Collected::from_bytes(bytes);
    let Some((&[low, high], rest)) = bytes.split_first_chunk() else { return };
    let Some((header, body)) = rest.split_at_checked(u16::from_le_bytes([low, high]).into()) else {
        return;
    };
    let mut file = b"ENCSTATS\x01\0\0\0".to_vec();
    for part in [header, body] {
        file.extend((part.len() as u64).to_le_bytes());
        file.extend(part);
    }
    let mut hash = Fnv::default();
    hash.add(&file);
    file.extend(hash.0.to_le_bytes());
    if let Ok(mut collected) = Collected::from_bytes(&file) {
        let _ = collected.rows().complete();
        let same = collected.clone();
        let _ = collected.merge(&same);
        let _ = collected.to_bytes();
    }
    // What they say of ranges is asked where there is a graph, so here they are read once more.
    type Classes = Vec<(String, Option<MergeableObserver>)>;
    let classes: Classes = postcard::from_bytes(body).unwrap_or_default();
    for mut observer in classes.into_iter().filter_map(|(_, observer)| observer) {
        let _ = observer.ranges();
        let same = observer.clone();
        let _ = observer.merge(&same);
        let _ = observer.ranges();
    }
});
