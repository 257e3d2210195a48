//! Tests of the room as a whole; those of a single function stand beside it.

mod hostile;
mod roundtrip;
mod sample;
