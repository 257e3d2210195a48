//! How a camera was held, as it noted it (tag Orientation of EXIF 2.3 or, where that is silent, of XMP),
//! and pictures turned upright: what PIL's `exif_transpose` does where Hugging Face loads pictures from
//! files.

use super::decode::RgbPicture;
use super::segments::{APP1, SCAN, segments};

/// The tag of a TIFF directory.
const ORIENTATION: u16 = 0x0112;
/// What a JPEG segment of EXIF begins with, and often the block itself in PNG.
const EXIF: &[u8] = b"Exif\0\0";
/// What a JPEG segment of XMP begins with.
const XMP: &[u8] = b"http://ns.adobe.com/xap/1.0/\0";

/// The orientation that the segments before the picture note, 1 to 8; 1 is upright.
pub(super) fn in_jpeg(bytes: &[u8]) -> u16 {
    let before = segments(bytes).take_while(|(marker, _)| *marker != SCAN);
    let noted: Vec<&[u8]> = before.filter(|(kind, _)| *kind == APP1).map(|(_, c)| c).collect();
    let exif = noted.iter().find_map(|content| content.strip_prefix(EXIF));
    orientation(exif, noted.iter().rev().find_map(|content| content.strip_prefix(XMP)))
}

/// The orientation that the chunks of a PNG file note, 1 to 8.
pub(super) fn in_png(info: &png::Info) -> u16 {
    let raw = text(info, "Raw profile type exif").and_then(|text| unhexed(&text));
    let xmp = text(info, "XML:com.adobe.xmp");
    let exif = info.exif_metadata.as_deref().or(raw.as_deref());
    orientation(exif, xmp.as_deref().map(str::as_bytes))
}

fn orientation(exif: Option<&[u8]>, xmp: Option<&[u8]>) -> u16 {
    let noted = exif.and_then(in_tiff).or_else(|| xmp.and_then(in_xmp));
    noted.filter(|noted| (1..=8).contains(noted)).unwrap_or(1)
}

/// The text of a PNG file under this name.
fn text(info: &png::Info, name: &str) -> Option<String> {
    let plain = info.uncompressed_latin1_text.iter().filter(|chunk| chunk.keyword == name);
    let packed = info.compressed_latin1_text.iter().filter(|chunk| chunk.keyword == name);
    let international = info.utf8_text.iter().filter(|chunk| chunk.keyword == name);
    let plain = plain.map(|chunk| chunk.text.clone());
    // unpacked by what has a limit
    let packed = packed
        .cloned()
        .filter_map(|mut chunk| chunk.decompress_text().and_then(|()| chunk.get_text()).ok());
    let international = international
        .cloned()
        .filter_map(|mut chunk| chunk.decompress_text().and_then(|()| chunk.get_text()).ok());
    plain.chain(packed).chain(international).last()
}

/// The bytes of a raw profile: an empty line, its kind, its length, then digits.
fn unhexed(text: &str) -> Option<Vec<u8>> {
    let digits = text.split('\n').skip(3).flat_map(str::chars).filter(|c| !c.is_whitespace());
    let digits: Vec<u32> = digits.map(|c| c.to_digit(16)).collect::<Option<_>>()?;
    let (pairs, _) = digits.as_chunks::<2>();
    Some(pairs.iter().map(|[high, low]| (high << 4 | low) as u8).collect())
}

/// The digit of the first orientation in XMP, as an attribute or an element.
fn in_xmp(xmp: &[u8]) -> Option<u16> {
    (0..xmp.len()).find_map(|at| {
        let rest = xmp[at..].strip_prefix(b"tiff:Orientation")?;
        let value = rest.strip_prefix(b"=\"").or(rest.strip_prefix(b">"))?;
        value.first().filter(|c| c.is_ascii_digit()).map(|c| u16::from(c - b'0'))
    })
}

/// The orientation in the first directory of a TIFF block; 0 if it is no whole number.
fn in_tiff(block: &[u8]) -> Option<u16> {
    let block = block.strip_prefix(EXIF).unwrap_or(block);
    let little = match block.first_chunk()? {
        b"II*\0" | b"II\0*" => true,
        b"MM\0*" | b"MM*\0" => false,
        _ => return None,
    };
    let short = |at: usize| {
        let two = *block.get(at..)?.first_chunk()?;
        Some(if little { u16::from_le_bytes(two) } else { u16::from_be_bytes(two) })
    };
    let long = |at: usize| {
        let (low, high) = if little { (at, at + 2) } else { (at + 2, at) };
        Some(usize::from(short(low)?) | usize::from(short(high)?) << 16)
    };
    let directory = long(4)?;
    let entry = |i: usize| directory + 2 + 12 * i;
    let at = (0..usize::from(short(directory)?)).find(|&i| short(entry(i)) == Some(ORIENTATION))?;
    // an entry that breaks off is none
    block.get(entry(at) + 11)?;
    match short(entry(at) + 2)? {
        3 | 8 => short(entry(at) + 8),
        4 | 9 => Some(u16::try_from(long(entry(at) + 8)?).unwrap_or(0)),
        _ => Some(0),
    }
}

/// The picture as it was seen when the camera noted `orientation`.
pub(super) fn upright(picture: RgbPicture, orientation: u16) -> RgbPicture {
    if !(2..=8).contains(&orientation) {
        return picture;
    }
    let (w, h) = (picture.width(), picture.height());
    let (width, height) = if orientation < 5 { (w, h) } else { (h, w) };
    // Where the pixel at x, y comes from.
    let source = |x: usize, y: usize| match orientation {
        2 => (w - 1 - x, y),
        3 => (w - 1 - x, h - 1 - y),
        4 => (x, h - 1 - y),
        5 => (y, x),
        6 => (y, h - 1 - x),
        7 => (w - 1 - y, h - 1 - x),
        8 => (w - 1 - y, x),
        _ => (x, y),
    };
    let (pixels, _) = picture.pixels().as_chunks::<3>();
    let places = (0..height).flat_map(|y| (0..width).map(move |x| (x, y)));
    let turned = places.flat_map(|(x, y)| {
        let (x, y) = source(x, y);
        pixels[y * w + x]
    });
    RgbPicture::new(width, height, turned.collect()).unwrap_or(picture)
}
