//! Prompt layouts: segments to position ids and rotary tables.
