//! Any bytes as a recipe; what is read is written and read back the same.
#![no_main]

mod scratch;

use encircle::pipeline::Numerics;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let path = scratch::folder().join("recipe.toml");
    let read = |bytes: &[u8]| {
        std::fs::write(&path, bytes).expect("the folder is ours");
        Numerics::find(path.to_str().expect("its name is UTF-8"))
    };
    if let Ok(recipe) = read(bytes) {
        let text = recipe.text();
        let again = read(text.as_bytes()).expect("the reader accepts what the writer wrote");
        assert_eq!(again.text(), text);
    }
});
