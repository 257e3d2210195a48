//! Resized pictures to the rows of patches that the vision tower reads.

use super::super::error::{Error, ErrorKind, Result};
use super::decode::RgbPicture;
use super::resample::resize;
use super::settings::PictureSettings;
use crate::tensor::Tensor;

const CHANNELS: usize = 3;

/// A picture or a video as the vision tower reads it.
#[derive(Clone, Debug, PartialEq)]
pub struct Picture {
    /// One row for each patch, `[t * h * w, 3 * temporal_patch * patch * patch]`. Patches that will
    /// be merged follow each other; inside a row the order is colour, frame, row, column.
    pub pixel_values: Tensor,
    /// Patches over time, height and width: `[t, h, w]`.
    pub grid_thw: [usize; 3],
}

impl PictureSettings {
    /// Decodes and prepares one picture; `file` is its name in errors.
    ///
    /// # Errors
    /// `Malformed` if it is no picture, `Unsupported` if it is too elongated.
    pub fn prepare(&self, file: &str, bytes: &[u8]) -> Result<Picture> {
        self.preprocess(file, &RgbPicture::decode(file, bytes)?)
    }

    /// Prepares one picture, which fills all frames of its patches.
    ///
    /// # Errors
    /// `Unsupported` if it is too elongated.
    pub fn preprocess(&self, file: &str, picture: &RgbPicture) -> Result<Picture> {
        self.preprocess_frames(file, std::slice::from_ref(picture))
    }

    /// Prepares the frames of a video, all of one size. The last frame is repeated to fill its
    /// patches.
    ///
    /// # Errors
    /// `Unsupported` without frames, with frames of several sizes, or if they are too elongated.
    pub fn preprocess_frames(&self, file: &str, frames: &[RgbPicture]) -> Result<Picture> {
        let unsupported = |expected: &str, found: String| {
            Error::new(ErrorKind::Unsupported, file, expected, found)
        };
        let first = frames.first().ok_or_else(|| unsupported("a frame", "none".to_owned()))?;
        let size = |frame: &RgbPicture| (frame.height(), frame.width());
        if let Some(other) = frames.iter().find(|frame| size(frame) != size(first)) {
            let found = format!("{:?} and {:?}", size(first), size(other));
            return Err(unsupported("frames of one size", found));
        }
        let (height, width) = self.resized(file, first.height(), first.width())?;
        let resized: Vec<RgbPicture> =
            frames.iter().map(|frame| resize(frame, width, height)).collect();
        let grid_thw = [
            frames.len().div_ceil(self.temporal_patch_size),
            height / self.patch_size,
            width / self.patch_size,
        ];
        Ok(Picture { pixel_values: self.patches(&resized, grid_thw), grid_thw })
    }

    /// `frames` are not empty and their sides are whole multiples of a merged patch.
    fn patches(&self, frames: &[RgbPicture], [grid_t, grid_h, grid_w]: [usize; 3]) -> Tensor {
        let table = self.table();
        let (patch, merge) = (self.patch_size, self.merge_size);
        let row = CHANNELS * self.temporal_patch_size * patch * patch;
        let mut out = Vec::with_capacity(grid_t * grid_h * grid_w * row);
        let merged_rows = grid_h / merge;
        let merged_columns = grid_w / merge;
        for t in 0..grid_t {
            for merged in 0..merged_rows * merged_columns {
                for inner in 0..merge * merge {
                    let y = (merged / merged_columns * merge + inner / merge) * patch;
                    let x = (merged % merged_columns * merge + inner % merge) * patch;
                    self.one_patch(frames, &table, [t, y, x], &mut out);
                }
            }
        }
        Tensor::new([grid_t * grid_h * grid_w, row], out)
    }

    /// Appends the patch whose upper left pixel is (`y`, `x`) in the frames of grid time `t`.
    fn one_patch(
        &self,
        frames: &[RgbPicture],
        table: &[[f32; 256]; CHANNELS],
        [t, y, x]: [usize; 3],
        out: &mut Vec<f32>,
    ) {
        let last = frames.len() - 1;
        for (channel, table) in table.iter().enumerate() {
            for frame in 0..self.temporal_patch_size {
                let frame = &frames[(t * self.temporal_patch_size + frame).min(last)];
                for line in y..y + self.patch_size {
                    let start = (line * frame.width() + x) * CHANNELS;
                    let pixels = &frame.pixels()[start..start + self.patch_size * CHANNELS];
                    let (pixels, _) = pixels.as_chunks::<CHANNELS>();
                    out.extend(pixels.iter().map(|pixel| table[usize::from(pixel[channel])]));
                }
            }
        }
    }

    /// What each of the 256 samples of each colour becomes. The reference rescales in f64, rounds to
    /// f32, and shifts and divides in f32; so do we, to the last bit.
    fn table(&self) -> [[f32; 256]; CHANNELS] {
        std::array::from_fn(|channel| {
            let (mean, std) = (self.image_mean[channel] as f32, self.image_std[channel] as f32);
            std::array::from_fn(|sample| {
                let sample = sample as f64;
                let scale = if self.do_rescale { self.rescale_factor } else { 1.0 };
                let value = (sample * scale) as f32;
                if self.do_normalize { (value - mean) / std } else { value }
            })
        })
    }
}
