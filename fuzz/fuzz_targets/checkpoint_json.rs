//! Any JSON as one of the files beside a sound config.json; the first byte says which.
#![no_main]

mod scratch;

use encircle::checkpoint::Checkpoint;
use libfuzzer_sys::fuzz_target;

const SOUND: [(&str, &[u8]); 3] = [
    ("config.json", include_bytes!("../../assets/pixie/config.json")),
    ("tokenizer.json", include_bytes!("../seeds/tokenizer_json/bpe.json")),
    ("model.safetensors", include_bytes!("../seeds/safetensors_header/one_tensor")),
];
const NAMES: [&str; 7] = [
    "tokenizer_config.json",
    "special_tokens_map.json",
    "preprocessor_config.json",
    "processor_config.json",
    "video_preprocessor_config.json",
    "chat_template.json",
    "model.safetensors.index.json",
];

fuzz_target!(|bytes: &[u8]| {
    let Some((&which, json)) = bytes.split_first() else { return };
    let folder = scratch::folder();
    for name in SOUND.map(|(name, _)| name).iter().chain(&NAMES) {
        let _ = std::fs::remove_file(folder.join(name));
    }
    let name = NAMES[usize::from(which) % NAMES.len()];
    // an index counts where the one file is not there
    let sound = if name.ends_with("index.json") { &SOUND[..2] } else { &SOUND[..] };
    for (name, bytes) in sound.iter().copied().chain([(name, json)]) {
        std::fs::write(folder.join(name), bytes).expect("the folder is ours");
    }
    if let Ok(checkpoint) = Checkpoint::open(&folder) {
        let _ = checkpoint.tokenizer().map(|tokenizer| tokenizer.encode_document("7"));
        let _ = checkpoint.chat_template();
        let _ = checkpoint.picture_settings();
        let _ = checkpoint.video_settings();
    }
});
