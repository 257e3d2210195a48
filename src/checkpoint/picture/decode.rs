//! PNG and JPEG bytes to 8-bit RGB, with the conversions that PIL's `convert("RGB")` makes.

use super::super::error::{Error, ErrorKind, Result};
use super::{exif, jpeg};
use png::{BitDepth, ColorType, Transformations};
use std::io::Cursor;

/// Longest side believed, in pixels: beyond what cameras make, and within JPEG's own 16 bits.
const SIDE_MAX: usize = 65_535;
/// Memory that a decoded picture may take, in bytes: 128 million pixels.
const MEMORY_MAX: usize = 512 << 20;

/// How PNG files begin.
const PNG: &[u8] = b"\x89PNG\r\n\x1a\n";
/// How JPEG files begin: with a marker, and the next one.
const JPEG: &[u8] = &[0xff, 0xd8, 0xff];

/// Width, height and pixels of a picture, or why bytes are none.
pub(super) type Decoded<T = ([usize; 2], Vec<u8>)> =
    std::result::Result<T, Box<dyn std::error::Error + Send + Sync>>;

/// An 8-bit RGB picture, not empty.
#[derive(Clone, PartialEq)]
pub struct RgbPicture {
    width: usize,
    height: usize,
    /// Three bytes for each pixel, row by row.
    pixels: Vec<u8>,
}

impl std::fmt::Debug for RgbPicture {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "RgbPicture({} x {})", self.width, self.height)
    }
}

impl RgbPicture {
    /// A picture of `pixels`, three bytes each, row by row; nothing if they do not fill `width` by
    /// `height`, or if that is empty.
    pub fn new(width: usize, height: usize, pixels: Vec<u8>) -> Option<RgbPicture> {
        let bytes = width.checked_mul(height)?.checked_mul(3)?;
        (bytes == pixels.len() && bytes > 0).then_some(RgbPicture { width, height, pixels })
    }

    /// Decodes PNG or JPEG; `file` is its name in errors. An alpha channel is dropped, not blended, and
    /// a picture whose camera noted how it was held is turned upright.
    ///
    /// # Errors
    /// `Malformed` if it is no such picture, or larger than any that is worth decoding.
    pub fn decode(file: &str, bytes: &[u8]) -> Result<RgbPicture> {
        let malformed =
            |found: &str| Error::new(ErrorKind::Malformed, file, "a picture (PNG or JPEG)", found);
        let decoded = match bytes {
            _ if bytes.starts_with(PNG) => png(bytes),
            _ if bytes.starts_with(JPEG) => {
                jpeg::decode(bytes).map(|(size, pixels)| (size, pixels, exif::in_jpeg(bytes)))
            }
            _ => return Err(malformed("other bytes")),
        };
        let ([width, height], pixels, orientation) =
            decoded.map_err(|source| malformed("a broken one").caused_by(source))?;
        let picture =
            RgbPicture::new(width, height, pixels).ok_or_else(|| malformed("an empty one"))?;
        Ok(exif::upright(picture, orientation))
    }

    /// Pixels along a row.
    pub fn width(&self) -> usize {
        self.width
    }

    /// Rows.
    pub fn height(&self) -> usize {
        self.height
    }

    /// Red, green and blue of every pixel, row by row.
    pub fn pixels(&self) -> &[u8] {
        &self.pixels
    }
}

/// Bytes of a decoded picture, if they are few enough.
pub(super) fn affordable([width, height]: [usize; 2], bytes: Option<usize>) -> Decoded<usize> {
    let fits = |bytes: &usize| *bytes <= MEMORY_MAX && width.max(height) <= SIDE_MAX;
    bytes.filter(fits).ok_or_else(|| format!("{width} x {height} pixels are too many").into())
}

/// Of a PNG file, and its orientation.
fn png(bytes: &[u8]) -> Decoded<([usize; 2], Vec<u8>, u16)> {
    let limits = png::Limits { bytes: MEMORY_MAX };
    let mut decoder = png::Decoder::new_with_limits(Cursor::new(bytes), limits);
    // Palettes become colours, fewer bits eight.
    decoder.set_transformations(Transformations::EXPAND);
    let mut reader = decoder.read_info()?;
    let size = [reader.info().width, reader.info().height].map(|side| side as usize);
    let mut samples = vec![0; affordable(size, reader.output_buffer_size())?];
    reader.next_frame(&mut samples)?;
    let (colours, depth) = reader.output_color_type();
    let wide = depth == BitDepth::Sixteen;
    let grey = reader.info().color_type == ColorType::Grayscale;
    let (pairs, _) = samples.as_chunks::<2>();
    // PIL keeps the upper byte of 16-bit colours, but cuts 16-bit grey off at 255.
    let cut = |sample: &[u8; 2]| if sample[0] > 0 { u8::MAX } else { sample[1] };
    let samples = match (wide, grey) {
        (false, _) => samples,
        // transparent grey too, which was expanded
        (true, true) => pairs.iter().map(cut).collect(),
        (true, _) => pairs.iter().map(|sample| sample[0]).collect(),
    };
    let pixels = match colours {
        ColorType::Rgb => samples,
        ColorType::Rgba => samples.chunks_exact(4).flat_map(|p| [p[0], p[1], p[2]]).collect(),
        ColorType::GrayscaleAlpha => samples.chunks_exact(2).flat_map(|p| [p[0]; 3]).collect(),
        ColorType::Grayscale => samples.iter().flat_map(|&grey| [grey; 3]).collect(),
        ColorType::Indexed => return Err("a palette that is not there".into()),
    };
    // what follows the pixels may note something too, and may be broken
    let _ = reader.finish();
    Ok((size, pixels, exif::in_png(reader.info())))
}
