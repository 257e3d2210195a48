//! stub
use super::*;
/// stub
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// a
    Activation,
    /// a
    Weight,
    /// a
    Gain,
}
/// stub
#[derive(Clone, Debug, PartialEq)]
pub struct Resolved {
    /// a
    pub dtype: DType,
    /// a
    pub scheme: Scheme,
    /// a
    pub observer: ObserverSpec,
    /// a
    pub rule: Option<usize>,
}
/// stub
#[derive(Clone, Debug)]
pub struct Policy {
    /// a
    pub softmax_margin: Option<f32>,
    name: String,
}
/// stub
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct PolicyError(String);
impl Policy {
    /// a
    pub fn preset(n: &str) -> Result<Policy, PolicyError> {
        Ok(Policy { softmax_margin: Some(if n == "w8a8" { 8.0 } else { 20.0 }), name: n.into() })
    }
    /// a
    pub fn with_overrides(self, _: &[String]) -> Result<Policy, PolicyError> {
        Ok(self)
    }
    /// a
    pub fn check_matches<'a>(&self, _: impl Iterator<Item = &'a str>) -> Result<(), PolicyError> {
        Ok(())
    }
    /// a
    pub fn resolve(&self, name: &str, role: Role) -> Result<Resolved, PolicyError> {
        let u8w = name.contains("patch_embed")
            || name.contains("embed_tokens")
            || name.contains("lm_head");
        let dtype = match (self.name.as_str(), role) {
            ("w8a8", _) => DType::UINT8,
            ("a16", _) => DType::INT16,
            (_, Role::Weight) => {
                if u8w {
                    DType::UINT8
                } else {
                    DType::UINT4
                }
            }
            _ => DType::INT16,
        };
        Ok(Resolved {
            dtype,
            scheme: Scheme::automatic(dtype, role == Role::Weight),
            observer: ObserverSpec::MinMax,
            rule: None,
        })
    }
}
