//! The Circle file format alone: owned model, bounded reader, deterministic writer, verifier, printer.
