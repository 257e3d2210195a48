//! A folder of this process, for readers that take paths.

use std::path::PathBuf;

/// The folder, made when it is first asked for.
pub fn folder() -> PathBuf {
    let path = std::env::temp_dir().join(format!("encircle-fuzz-{}", std::process::id()));
    std::fs::create_dir_all(&path).expect("a temporary folder can be made");
    path
}
