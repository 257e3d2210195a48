//! stub
/// stub
#[derive(Clone, Debug, PartialEq)]
pub struct QuantParams;
