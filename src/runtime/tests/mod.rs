//! Tests of the room as a whole.

mod exporting;
mod files;
mod folding;
mod hostile;
mod integer;
mod npy;
