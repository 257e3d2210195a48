//! Files down on disk, whole or not at all: one (`save.rs`), those of a job (`write.rs`), and the
//! folder that they are in (`claim.rs`).

mod claim;
mod save;
mod write;

pub use claim::Claim;
pub(super) use save::{Partial, hashed, save_with, sync_folder};
pub use save::{Pending, give_up, save, save_all};
pub(super) use write::FLOAT;
pub use write::{
    QUANTIZED, RECIPE, STAGES, Written, check_files, check_folder, io_files, nearest, stale,
    write_io, write_model, write_recipe,
};
