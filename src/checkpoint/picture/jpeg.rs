//! JPEG bytes to 8-bit RGB, by the library that PIL decodes with: another decoder would interpolate
//! colours otherwise.

use super::decode::{Decoded, affordable};
use super::segments::{SCAN, segments};
use mozjpeg::{ColorSpace, Decompress};
use std::cell::Cell;
use std::io::{self, BufRead, Read};
use std::panic::{catch_unwind, resume_unwind};

/// Passes over the picture that are believed: a progressive file has about ten, and each may take as
/// long as the picture is large, however short it is.
const SCANS_MAX: usize = 500;

/// Width, height and pixels.
///
/// # Errors
/// What is no JPEG file, breaks off, or is too large.
pub(super) fn decode(bytes: &[u8]) -> Decoded {
    let scans = segments(bytes).filter(|(marker, _)| *marker == SCAN).count();
    if scans > SCANS_MAX {
        return Err(format!("{scans} scans are too many").into());
    }
    // The library cannot return what it refuses: it unwinds, with a message.
    catch_unwind(|| pixels(bytes)).unwrap_or_else(|refusal| match refusal.downcast::<String>() {
        Ok(message) => Err(message.trim_start_matches("libjpeg fatal error: ").into()),
        Err(panic) => resume_unwind(panic),
    })
}

/// The bytes of a file that are left, and whether more were asked for.
struct Source<'a> {
    rest: &'a [u8],
    is_overdrawn: &'a Cell<bool>,
}

impl Read for Source<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.rest.read(buffer)
    }
}

impl BufRead for Source<'_> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        self.is_overdrawn.set(self.rest.is_empty());
        Ok(self.rest)
    }

    fn consume(&mut self, bytes: usize) {
        self.rest.consume(bytes);
    }
}

fn pixels(bytes: &[u8]) -> Decoded {
    let is_overdrawn = Cell::new(false);
    let decoder = Decompress::new_reader(Source { rest: bytes, is_overdrawn: &is_overdrawn })?;
    let size = [decoder.width(), decoder.height()];
    affordable(size, size[0].checked_mul(size[1]).and_then(|pixels| pixels.checked_mul(4)))?;
    let pixels = match decoder.color_space() {
        ColorSpace::JCS_CMYK | ColorSpace::JCS_YCCK => {
            let mut decoder = decoder.to_colorspace(ColorSpace::JCS_CMYK)?;
            let inks: Vec<[u8; 4]> = decoder.read_scanlines()?;
            inks.into_iter().flat_map(rgb).collect()
        }
        _ => decoder.rgb()?.read_scanlines()?,
    };
    // The decoder fills up what is cut off with grey; PIL, which needs no end that its decoder does
    // not come to, refuses the file, and so do we.
    if is_overdrawn.get() {
        return Err("it breaks off before its end".into());
    }
    Ok((size, pixels))
}

/// Of cyan, magenta, yellow and black as printers' files have them: 255 is no ink.
fn rgb([c, m, y, k]: [u8; 4]) -> [u8; 3] {
    [c, m, y].map(|paper| {
        // of 255 - ink × paper / 255, rounded as PIL rounds
        let ink = u32::from(255 - paper) * u32::from(k) + 128;
        k - (((ink >> 8) + ink) >> 8) as u8
    })
}
