//! How a camera was held, as it noted it (EXIF 2.3, tag Orientation), and pictures turned upright:
//! what PIL's `exif_transpose` does where Hugging Face loads pictures from files.

use super::decode::RgbPicture;
use super::segments::{APP1, SCAN, segments};

/// The tag of a TIFF directory.
const ORIENTATION: u16 = 0x0112;
/// What a JPEG segment of this kind begins with.
const EXIF: &[u8] = b"Exif\0\0";

/// The orientation that a JPEG or PNG file notes, 1 to 8; 1, upright, where it notes none.
pub(super) fn orientation(bytes: &[u8]) -> u16 {
    let noted = match bytes {
        [0xff, 0xd8, ..] => in_jpeg(bytes),
        _ => bytes.get(8..).and_then(in_png),
    };
    noted.and_then(in_tiff).filter(|noted| (1..=8).contains(noted)).unwrap_or(1)
}

/// The EXIF block among the segments before the picture.
fn in_jpeg(bytes: &[u8]) -> Option<&[u8]> {
    let mut before = segments(bytes).take_while(|(marker, _)| *marker != SCAN);
    before.find_map(|(marker, content)| content.strip_prefix(EXIF).filter(|_| marker == APP1))
}

/// The EXIF chunk of a PNG file.
fn in_png(mut chunks: &[u8]) -> Option<&[u8]> {
    loop {
        let (len, rest) = chunks.split_first_chunk()?;
        let len = u32::from_be_bytes(*len) as usize;
        let (kind, rest) = rest.split_first_chunk::<4>()?;
        let (data, rest) = rest.split_at_checked(len)?;
        if kind == b"eXIf" {
            return Some(data);
        }
        chunks = rest.get(4..)?;
    }
}

/// The orientation in the first directory of a TIFF block.
fn in_tiff(block: &[u8]) -> Option<u16> {
    let little = match block.first_chunk()? {
        b"II" => true,
        b"MM" => false,
        _ => return None,
    };
    let short = |at: usize| {
        let two = *block.get(at..)?.first_chunk()?;
        Some(if little { u16::from_le_bytes(two) } else { u16::from_be_bytes(two) })
    };
    let (low, high) = if little { (4, 6) } else { (6, 4) };
    let directory = usize::from(short(low)?) | usize::from(short(high)?) << 16;
    let entry = |i: usize| directory + 2 + 12 * i;
    let at = (0..usize::from(short(directory)?)).find(|&i| short(entry(i)) == Some(ORIENTATION))?;
    short(entry(at) + 8)
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
