//! Rotation, stub.
/// Options.
#[derive(Clone, Copy, Debug, Default, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Options {
    /// Seed of the random signs and matrices.
    pub seed: u64,
}
