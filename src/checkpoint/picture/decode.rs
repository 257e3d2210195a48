//! PNG and JPEG bytes to 8-bit RGB, with the conversions that PIL's `convert("RGB")` makes.

use super::super::error::{Error, ErrorKind, Result};
use image::{DynamicImage, ImageFormat, ImageReader, Limits};
use std::io::Cursor;

/// Longest side believed, in pixels: beyond what cameras make, and within JPEG's own 16 bits.
const SIDE_MAX: u32 = 65_535;
/// Memory that decoding may take, in bytes: a picture of 128 million pixels.
const MEMORY_MAX: u64 = 512 << 20;

/// The marker that ends a JPEG file; compressed data never holds it.
const END: [u8; 2] = [0xff, 0xd9];

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

    /// Decodes PNG or JPEG; `file` is its name in errors. An alpha channel is dropped, not blended;
    /// the orientation that a camera noted is not applied: PIL does neither.
    ///
    /// # Errors
    /// `Malformed` if it is no such picture, or larger than any that is worth decoding.
    pub fn decode(file: &str, bytes: &[u8]) -> Result<RgbPicture> {
        let malformed =
            |found: &str| Error::new(ErrorKind::Malformed, file, "a picture (PNG or JPEG)", found);
        let mut reader = ImageReader::new(Cursor::new(bytes))
            .with_guessed_format()
            .map_err(|source| malformed("other bytes").caused_by(source))?;
        if reader.format().is_none() {
            return Err(malformed("other bytes"));
        }
        // the decoder fills up what is cut off with grey; PIL refuses the file, and so do we
        if reader.format() == Some(ImageFormat::Jpeg) && !bytes.windows(2).rev().any(|w| w == END) {
            return Err(malformed("a broken one").caused_by("it breaks off before its end"));
        }
        let mut limits = Limits::default();
        limits.max_image_width = Some(SIDE_MAX);
        limits.max_image_height = Some(SIDE_MAX);
        limits.max_alloc = Some(MEMORY_MAX);
        reader.limits(limits);
        let decoded = reader.decode().map_err(|s| malformed("a broken one").caused_by(s))?;
        let side = |side: u32| usize::try_from(side).unwrap_or(0);
        let (width, height) = (side(decoded.width()), side(decoded.height()));
        RgbPicture::new(width, height, to_rgb(decoded)).ok_or_else(|| malformed("an empty one"))
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

fn to_rgb(picture: DynamicImage) -> Vec<u8> {
    // PIL keeps the upper byte of 16-bit colours, but cuts 16-bit grey off at 255
    let upper = |sample: &u16| sample.to_be_bytes()[0];
    match picture {
        DynamicImage::ImageRgb8(rgb) => rgb.into_raw(),
        DynamicImage::ImageRgb16(rgb) => rgb.as_raw().iter().map(upper).collect(),
        DynamicImage::ImageRgba16(rgba) => {
            rgba.as_raw().chunks_exact(4).flat_map(|p| p[..3].iter().map(upper)).collect()
        }
        DynamicImage::ImageLumaA16(grey) => {
            grey.as_raw().chunks_exact(2).flat_map(|p| [upper(&p[0]); 3]).collect()
        }
        DynamicImage::ImageLuma16(grey) => {
            let cut = |sample: &u16| [u8::try_from(*sample).unwrap_or(u8::MAX); 3];
            grey.as_raw().iter().flat_map(cut).collect()
        }
        other => other.into_rgb8().into_raw(),
    }
}
