//! Element types that safetensors can hold.

use std::fmt::{self, Display};

/// The element type of a stored tensor. Only [`Dtype::is_float`] ones can be read as numbers here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "each name is the format's own and says everything")]
#[non_exhaustive]
pub enum Dtype {
    Bool,
    F4,
    F6E2M3,
    F6E3M2,
    U8,
    I8,
    F8E5M2,
    F8E4M3,
    F8E8M0,
    I16,
    U16,
    F16,
    Bf16,
    I32,
    U32,
    F32,
    C64,
    F64,
    I64,
    U64,
}

/// Each type with the name that files use and its size in bits.
const NAMES: [(Dtype, &str, usize); 20] = [
    (Dtype::Bool, "BOOL", 8),
    (Dtype::F4, "F4", 4),
    (Dtype::F6E2M3, "F6_E2M3", 6),
    (Dtype::F6E3M2, "F6_E3M2", 6),
    (Dtype::U8, "U8", 8),
    (Dtype::I8, "I8", 8),
    (Dtype::F8E5M2, "F8_E5M2", 8),
    (Dtype::F8E4M3, "F8_E4M3", 8),
    (Dtype::F8E8M0, "F8_E8M0", 8),
    (Dtype::I16, "I16", 16),
    (Dtype::U16, "U16", 16),
    (Dtype::F16, "F16", 16),
    (Dtype::Bf16, "BF16", 16),
    (Dtype::I32, "I32", 32),
    (Dtype::U32, "U32", 32),
    (Dtype::F32, "F32", 32),
    (Dtype::C64, "C64", 64),
    (Dtype::F64, "F64", 64),
    (Dtype::I64, "I64", 64),
    (Dtype::U64, "U64", 64),
];

impl Dtype {
    /// The type that files call `name`.
    pub(super) fn named(name: &str) -> Option<Dtype> {
        NAMES.iter().find(|(_, n, _)| *n == name).map(|(dtype, ..)| *dtype)
    }

    fn row(self) -> (&'static str, usize) {
        let row = NAMES.iter().find(|(dtype, ..)| *dtype == self);
        row.map_or(("?", 0), |(_, name, bits)| (name, *bits))
    }

    /// Size of one element in bits.
    pub fn bits(self) -> usize {
        self.row().1
    }

    /// Whether this reader turns the elements into f32.
    pub fn is_float(self) -> bool {
        matches!(self, Dtype::F32 | Dtype::F16 | Dtype::Bf16)
    }
}

impl Display for Dtype {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.row().0)
    }
}
