//! Resized pictures to the rows of patches that the vision tower reads.

use super::super::error::Result;
use super::decode::RgbPicture;
use super::resample::resize;
use super::settings::PictureSettings;
use crate::tensor::Tensor;

const CHANNELS: usize = 3;

/// What each of the 256 samples of each colour becomes.
pub(super) type Table = [[f32; 256]; CHANNELS];

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
        let size = self.resized(file, picture.height(), picture.width())?;
        Ok(self.patched(std::slice::from_ref(picture), size, &self.table()))
    }

    /// Resizes `frames`, at least one, to height and width `size`, and cuts them into patches, whose
    /// samples `table` looks up. The last frame is repeated to fill its patches.
    pub(super) fn patched(
        &self,
        frames: &[RgbPicture],
        (height, width): (usize, usize),
        table: &Table,
    ) -> Picture {
        let resized: Vec<RgbPicture> =
            frames.iter().map(|frame| resize(frame, width, height)).collect();
        let grid_thw = [
            frames.len().div_ceil(self.temporal_patch_size),
            height / self.patch_size,
            width / self.patch_size,
        ];
        Picture { pixel_values: self.patches(&resized, grid_thw, table), grid_thw }
    }

    /// `frames` are not empty and their sides are whole multiples of a merged patch.
    fn patches(
        &self,
        frames: &[RgbPicture],
        [grid_t, grid_h, grid_w]: [usize; 3],
        table: &Table,
    ) -> Tensor {
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
                    self.one_patch(frames, table, [t, y, x], &mut out);
                }
            }
        }
        Tensor::new([grid_t * grid_h * grid_w, row], out)
    }

    /// Appends the patch whose upper left pixel is (`y`, `x`) in the frames of grid time `t`.
    fn one_patch(
        &self,
        frames: &[RgbPicture],
        table: &Table,
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

    /// Rescaled in f64, rounded to f32, shifted and divided in f32.
    pub(super) fn table(&self) -> Table {
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
