//! Frames of a video to patches, as the reference's video processor makes them.
//!
//! It differs from that of pictures: the bounds are those of all frames together, and rescaling is folded
//! into the normalization, which rounds differently.

use super::super::config::Config;
use super::super::error::{Error, ErrorKind, Result};
use super::super::files::Files;
use super::decode::RgbPicture;
use super::patches::{Picture, Table};
use super::settings::{PictureSettings, RATIO_MAX, VIDEOS, smart_resize_frames};

/// How the frames of a video become patches; they are taken as sampled.
#[derive(Clone, Debug, PartialEq)]
pub struct VideoSettings {
    /// The pixels in it are those of all frames together.
    frame: PictureSettings,
}

impl VideoSettings {
    /// A checkpoint without a file for videos means them to be read as its pictures are.
    pub(in super::super) fn load(files: &Files, config: &Config) -> Result<VideoSettings> {
        let frame = PictureSettings::load_from(files, config, &VIDEOS)?;
        Ok(VideoSettings { frame })
    }

    /// Patches along one side of a merged patch.
    pub fn merge_size(&self) -> usize {
        self.frame.merge_size
    }

    /// Seconds at which each patch in time stands, given those of the frames: the middle between its
    /// first and its last one.
    pub fn timestamps(&self, frames: &[f64]) -> Vec<f64> {
        // where the last frame is repeated to fill its patch, so is its time
        let middle = |patch: &[f64]| (patch[0] + patch[patch.len() - 1]) / 2.0;
        frames.chunks(self.frame.temporal_patch_size).map(middle).collect()
    }

    /// Prepares frames of one size. The last one is repeated to fill its patches.
    ///
    /// # Errors
    /// `Unsupported` with fewer frames than a patch holds, with frames of several sizes, or if they
    /// are too small or too elongated.
    pub fn preprocess(&self, file: &str, frames: &[RgbPicture]) -> Result<Picture> {
        let unsupported = |expected: String, found: String| {
            Error::new(ErrorKind::Unsupported, file, expected, found)
        };
        let (count, deep) = (frames.len(), self.frame.temporal_patch_size);
        let first = frames.first().filter(|_| count >= deep).ok_or_else(|| {
            unsupported(format!("at least the {deep} frames of a patch"), count.to_string())
        })?;
        let size = |frame: &RgbPicture| (frame.height(), frame.width());
        if let Some(other) = frames.iter().find(|frame| size(frame) != size(first)) {
            let found = format!("{:?} and {:?}", size(first), size(other));
            return Err(unsupported("frames of one size".into(), found));
        }
        let resized = self.resized(file, count, first)?;
        Ok(self.frame.patched(frames, resized, &table(&self.frame)))
    }

    /// Height and width that this many frames like `frame` are resized to.
    ///
    /// # Errors
    /// `Unsupported` if they are too small or too elongated, `OutOfRange` if they are too many for
    /// their size.
    pub fn resized(&self, file: &str, count: usize, frame: &RgbPicture) -> Result<(usize, usize)> {
        let (height, width, deep) = (frame.height(), frame.width(), self.frame.temporal_patch_size);
        self.frame.fitted(file, height, width, count, |factor| {
            let held = (count as f64 / deep as f64).round_ties_even() as usize * deep;
            let bounds = (self.frame.min_pixels, self.frame.max_pixels);
            Some(factor)
                .filter(|&factor| height >= factor && width >= factor)
                .and_then(|f| smart_resize_frames([count, held], height, width, f, bounds.0, bounds.1))
                .ok_or_else(|| {
                    format!("frames of at least {factor} pixels a side, of a ratio of at most {RATIO_MAX}")
                })
        })
    }
}

/// What samples of frames become. The reference's tensors are f32, its shift and divisor too.
pub(super) fn table(frame: &PictureSettings) -> Table {
    if !(frame.do_rescale && frame.do_normalize) {
        return frame.table();
    }
    let whole = (1.0 / frame.rescale_factor) as f32;
    std::array::from_fn(|channel| {
        let mean = frame.image_mean[channel] as f32 * whole;
        let std = frame.image_std[channel] as f32 * whole;
        std::array::from_fn(|sample| (sample as f32 - mean) / std)
    })
}
