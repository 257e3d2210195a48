//! Tests of the room as a whole.

mod files;
mod hostile;
mod integer;
mod npy;
