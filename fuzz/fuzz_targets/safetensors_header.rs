//! Any bytes as `model.safetensors` beside a sound config.json.
#![no_main]

mod scratch;

use encircle::checkpoint::Checkpoint;
use libfuzzer_sys::fuzz_target;

const CONFIG: &str = include_str!("../seeds/config_json/text.json");

fuzz_target!(|bytes: &[u8]| {
    let folder = scratch::folder();
    std::fs::write(folder.join("config.json"), CONFIG).expect("the folder is ours");
    std::fs::write(folder.join("model.safetensors"), bytes).expect("the folder is ours");
    if let Ok(checkpoint) = Checkpoint::open(&folder) {
        for name in checkpoint.tensor_names() {
            let _ = checkpoint.raw(name);
        }
    }
});
