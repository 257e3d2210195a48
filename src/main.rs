//! The `encircle` command.
fn main() {}
