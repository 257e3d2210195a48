//! Tests of the room as a whole; those of a single function stand beside it.

mod cutting;
mod hostile;
mod printing;
mod resizing;
mod roundtrip;
mod sample;
mod shapes;
mod traps;
mod verifying;
