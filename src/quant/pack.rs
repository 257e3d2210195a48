//! Four-bit values, two to a byte: even index in the low half; an odd tail is padded by 0.

/// The first `len` values of `bytes`; `signed` nibbles are two's complement. None if `bytes` does
/// not hold exactly `len` nibbles and their padding.
pub fn unpack4(bytes: &[u8], len: usize, signed: bool) -> Option<Vec<i32>> {
    if bytes.len() != len.div_ceil(2) {
        return None;
    }
    let value = |nibble: u8| {
        let value = i32::from(nibble);
        if signed && value > 7 { value - 16 } else { value }
    };
    let nibbles = bytes.iter().flat_map(|byte| [byte & 0xf, byte >> 4]);
    Some(nibbles.take(len).map(value).collect())
}
