//! A JPEG file by its markers (ITU-T T.81, B.1.1).

/// The marker before compressed data.
pub(super) const SCAN: u8 = 0xda;
/// The marker that ends the file.
pub(super) const END: u8 = 0xd9;
/// The marker of application data 1, of which EXIF and XMP are sorts.
pub(super) const APP1: u8 = 0xe1;

/// Marker and content of each segment, up to the end of the file or to where it breaks off. Contents
/// are stepped over, as thumbnails inside of them have markers of their own.
pub(super) fn segments(mut rest: &[u8]) -> impl Iterator<Item = (u8, &[u8])> {
    std::iter::from_fn(move || {
        loop {
            // Compressed data and what strays between segments are passed by alike.
            let at = rest.iter().position(|&byte| byte == 0xff)?;
            rest = &rest[at + 1..];
            match *rest {
                [END, ..] => {
                    rest = &[];
                    return Some((END, rest));
                }
                // a byte of data and one that fills; markers that stand alone
                [0x00 | 0xff | 0x01 | 0xd0..=0xd8, ..] => {}
                [kind, high, low, ..] => {
                    let end = 1 + usize::from(u16::from_be_bytes([high, low]));
                    let content = rest.get(3..end).unwrap_or_default();
                    rest = rest.get(end..)?;
                    return Some((kind, content));
                }
                _ => return None,
            }
        }
    })
}
