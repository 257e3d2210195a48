//! The demo: pixie, a small trained Qwen3-VL, and questions about pictures of handwritten digits,
//! as part of the program. Attribution: `assets/README.md`.

use include_dir::{Dir, include_dir};

static PIXIE: Dir<'_> = include_dir!("$CARGO_MANIFEST_DIR/assets/pixie");
static VQA: Dir<'_> = include_dir!("$CARGO_MANIFEST_DIR/assets/vqa");

/// Files as (name, bytes).
pub(super) type Embedded = &'static [(&'static str, &'static [u8])];

/// The checkpoint.
pub(super) fn checkpoint() -> Embedded {
    files(&PIXIE)
}

/// `train.jsonl`, `test.jsonl` and their pictures.
pub(super) fn rows() -> Embedded {
    files(&VQA)
}

fn files(dir: &'static Dir<'static>) -> Embedded {
    let name =
        |file: &'static include_dir::File<'static>| Some((file.path().to_str()?, file.contents()));
    // Called twice in the life of the process; the lists live as long as it does.
    Box::leak(dir.files().filter_map(name).collect())
}
