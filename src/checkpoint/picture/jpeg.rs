//! JPEG bytes to 8-bit RGB, by the library that PIL decodes with: another decoder would interpolate
//! colours otherwise.

use super::decode::{Decoded, affordable};
use super::segments::{END, SCAN, segments};
use mozjpeg::{ColorSpace, Decompress};
use std::panic::{catch_unwind, resume_unwind};

/// Passes over the picture that are believed: a progressive file has about ten, and each may take as
/// long as the picture is large, however short it is.
const SCANS_MAX: usize = 500;

/// Width, height and pixels.
///
/// # Errors
/// What is no JPEG file, breaks off, or is too large.
pub(super) fn decode(bytes: &[u8]) -> Decoded {
    let (mut scans, mut ends) = (0, false);
    for (marker, _) in segments(bytes) {
        scans += usize::from(marker == SCAN);
        ends |= marker == END;
    }
    // The decoder fills up what is cut off with grey; PIL refuses the file, and so do we.
    if !ends {
        return Err("it breaks off before its end".into());
    }
    if scans > SCANS_MAX {
        return Err(format!("{scans} scans are too many").into());
    }
    // The library cannot return what it refuses: it unwinds, with a message.
    catch_unwind(|| pixels(bytes)).unwrap_or_else(|refusal| match refusal.downcast::<String>() {
        Ok(message) => Err(message.trim_start_matches("libjpeg fatal error: ").into()),
        Err(panic) => resume_unwind(panic),
    })
}

fn pixels(bytes: &[u8]) -> Decoded {
    let decoder = Decompress::new_mem(bytes)?;
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
