//! Four-bit values, two to a byte.

/// Packs the low four bits of each value, even index in the low nibble; an odd tail is padded by 0.
pub fn pack4(values: &[i32]) -> Vec<u8> {
    values
        .chunks(2)
        .map(|pair| {
            let high = pair.get(1).copied().unwrap_or(0);
            (pair[0] & 0xf) as u8 | ((high & 0xf) as u8) << 4
        })
        .collect()
}

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
