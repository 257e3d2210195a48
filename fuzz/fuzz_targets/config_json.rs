//! Any JSON as config.json.
#![no_main]

use encircle::checkpoint::Config;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(json) = serde_json::from_slice(bytes) {
        let _ = Config::parse("config.json", json);
    }
});
