//! Any JSON as the segments of a prompt.
#![no_main]

use encircle::layout::{Layout, Segment};
use libfuzzer_sys::fuzz_target;

/// Longer prompts are sound, and only take long.
const LEN_MAX: usize = 1 << 16;

fuzz_target!(|bytes: &[u8]| {
    let Ok(segments) = serde_json::from_slice::<Vec<Segment>>(bytes) else { return };
    for merge in [0, 1, 2, 3] {
        match Layout::new(&segments, merge) {
            Ok(layout) if layout.seq_len() <= LEN_MAX => {
                assert_eq!(layout.position_ids().map(|ids| ids.len()), [layout.seq_len(); 3]);
                let _ = layout.rope_delta();
            }
            _ => {}
        }
    }
});
