//! Any bytes as tokenizer.json; what is read takes text and ids.
#![no_main]

use encircle::checkpoint::Tokenizer;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(tokenizer) = Tokenizer::parse("tokenizer.json", bytes) {
        let ids = tokenizer.encode_document("Which digit is it? \u{1f600} 7").unwrap_or_default();
        let _ = tokenizer.decode(&ids, true);
        let _ = tokenizer.decode(&[0, 1, u32::MAX], false);
    }
});
