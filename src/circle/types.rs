//! The small enums of the schema: element types, fused activations, paddings.

use super::code::code_enum;

code_enum! {
    /// The element type of a tensor. Negative codes exist in Circle only.
    TensorType: i8 {
        MxInt8 = -7 "MXINT8",
        MxFp4 = -6 "MXFP4",
        GgmlQ8_1 = -5 "GGML_Q8_1",
        GgmlQ8_0 = -4 "GGML_Q8_0",
        GgmlQ4_1 = -3 "GGML_Q4_1",
        GgmlQ4_0 = -2 "GGML_Q4_0",
        Uint4 = -1 "UINT4",
        Float32 = 0 "FLOAT32",
        Float16 = 1 "FLOAT16",
        Int32 = 2 "INT32",
        Uint8 = 3 "UINT8",
        Int64 = 4 "INT64",
        String = 5 "STRING",
        Bool = 6 "BOOL",
        Int16 = 7 "INT16",
        Complex64 = 8 "COMPLEX64",
        Int8 = 9 "INT8",
        Float64 = 10 "FLOAT64",
        Complex128 = 11 "COMPLEX128",
        Uint64 = 12 "UINT64",
        Resource = 13 "RESOURCE",
        Variant = 14 "VARIANT",
        Uint32 = 15 "UINT32",
        Uint16 = 16 "UINT16",
        Int4 = 17 "INT4",
        Bfloat16 = 18 "BFLOAT16",
    }
}

code_enum! {
    /// The function that an operator applies to its result (`ActivationFunctionType`).
    Activation: i8 {
        None = 0 "NONE",
        Relu = 1 "RELU",
        ReluN1To1 = 2 "RELU_N1_TO_1",
        Relu6 = 3 "RELU6",
        Tanh = 4 "TANH",
        SignBit = 5 "SIGN_BIT",
    }
}

code_enum! {
    /// How a sliding window treats the border.
    Padding: i8 {
        Same = 0 "SAME",
        Valid = 1 "VALID",
    }
}

/// LiteRT's number for the type that Circle numbers -1.
const LITERT_UINT4: i8 = 20;

impl TensorType {
    /// Bits of one element; `None` where elements have no size of their own (strings, handles,
    /// blocks that share a scale, unknown codes).
    pub const fn bits(self) -> Option<u64> {
        use TensorType::*;
        Some(match self {
            Uint4 | Int4 => 4,
            Uint8 | Int8 | Bool => 8,
            Float16 | Bfloat16 | Int16 | Uint16 => 16,
            Float32 | Int32 | Uint32 => 32,
            Float64 | Int64 | Uint64 | Complex64 => 64,
            Complex128 => 128,
            _ => return None,
        })
    }

    /// `(elements, bytes)` of one block of the types that pack 32 elements of a row with a scale.
    pub const fn block(self) -> Option<(u64, u64)> {
        match self {
            TensorType::GgmlQ4_0 => Some((32, 18)),
            TensorType::GgmlQ4_1 => Some((32, 20)),
            TensorType::GgmlQ8_0 => Some((32, 34)),
            TensorType::GgmlQ8_1 => Some((32, 36)),
            _ => None,
        }
    }

    /// The least and the greatest integer that an element can hold; `None` for other types.
    pub const fn integer_range(self) -> Option<(i64, i64)> {
        use TensorType::*;
        Some(match self {
            Uint4 => (0, 15),
            Int4 => (-8, 7),
            Uint8 => (0, 255),
            Int8 => (-128, 127),
            Uint16 => (0, 65_535),
            Int16 => (-32_768, 32_767),
            Int32 => (i32::MIN as i64, i32::MAX as i64),
            Uint32 => (0, u32::MAX as i64),
            Int64 => (i64::MIN, i64::MAX),
            _ => return None,
        })
    }

    /// Bytes of a payload of this type and shape; `None` where the type has no fixed size, a
    /// dimension is negative, or the product overflows.
    pub fn payload_bytes(self, shape: &[i32]) -> Option<u64> {
        let mut count = 1u64;
        for &dim in shape {
            count = count.checked_mul(u64::try_from(dim).ok()?)?;
        }
        if let Some((elements, bytes)) = self.block() {
            let row = u64::try_from(*shape.last()?).ok()?;
            return if row % elements == 0 { (count / elements).checked_mul(bytes) } else { None };
        }
        Some(count.checked_mul(self.bits()?)?.div_ceil(8))
    }

    /// The number that a `.tflite` file uses for this type; `None` where LiteRT has no such type.
    pub(super) fn litert_code(self) -> Option<i8> {
        match self {
            TensorType::Uint4 => Some(LITERT_UINT4),
            other => (other.code() >= 0).then_some(other.code()),
        }
    }

    /// The meaning of a type number in a `.tflite` file.
    pub(super) fn from_litert_code(code: i8) -> Self {
        if code == LITERT_UINT4 { TensorType::Uint4 } else { TensorType::from_code(code) }
    }
}
