//! Layouts of token ids, as a processor writes them.

use super::prompt::{Draft, visual_tokens};
use super::{Layout, LayoutError};

/// Ids of the tokens that mark pictures and videos.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SpecialTokens {
    /// Placeholder of a picture's feature.
    pub image: u32,
    /// Placeholder of a video's feature.
    pub video: u32,
    /// What must stand before every run of placeholders; none demands nothing.
    pub vision_start: Option<u32>,
}

impl Layout {
    /// The layout of `ids`, one prompt without left padding, whose placeholders stand for
    /// `image_grids` and for every frame of `video_grids`.
    ///
    /// A run of placeholders is exactly one picture or one frame, as the processor writes them and
    /// as Hugging Face numbers them.
    pub fn from_input_ids(
        ids: &[u32],
        image_grids: &[[usize; 3]],
        video_grids: &[[usize; 3]],
        tokens: &SpecialTokens,
        merge: usize,
    ) -> Result<Layout, LayoutError> {
        let mut draft = Draft::new(merge)?;
        let frames = frames(video_grids, merge, ids.len())?;
        let (mut image, mut frame) = (0, 0);
        let mut at = 0;
        for run in ids.chunk_by(|a, b| a == b) {
            let (start, id) = (at, run[0]);
            at += run.len();
            let is_image = id == tokens.image;
            if !is_image && id != tokens.video {
                draft.text(run.len())?;
                continue;
            }
            let expected = if is_image {
                image += 1;
                image_grids.get(image - 1).map(|grid| (format!("picture {}", image - 1), *grid))
            } else {
                frame += 1;
                frames
                    .get(frame - 1)
                    .map(|(video, n, [_, h, w])| (format!("video {video}, frame {n}"), [1, *h, *w]))
            };
            // counted to the end below, so that the error tells how many there are
            let Some((item, grid)) = expected else { continue };
            check_run(&item, ids, start, run.len(), grid, tokens, merge)?;
            if is_image {
                draft.image(grid)?;
            } else {
                if frames[frame - 1].1 == 0 {
                    draft.video(frames[frame - 1].2)?;
                }
                draft.frame()?;
            }
        }
        let counts = [("image", image_grids.len(), image), ("video", frames.len(), frame)];
        for (kind, expected, found) in counts {
            if expected != found {
                return Err(LayoutError::RunCount { kind, expected, found });
            }
        }
        draft.finish()
    }
}

/// Video, frame and grid of every frame.
fn frames(
    grids: &[[usize; 3]],
    merge: usize,
    ids: usize,
) -> Result<Vec<(usize, usize, [usize; 3])>, LayoutError> {
    let mut frames = Vec::new();
    for (video, &grid) in grids.iter().enumerate() {
        visual_tokens(&format!("video {video}"), grid, merge)?;
        // a frame takes a token, so a longer list only has to be recognised as longer
        let count = grid[0].min(ids + 1);
        frames.extend((0..count).map(|frame| (video, frame, grid)));
    }
    Ok(frames)
}

fn check_run(
    item: &str,
    ids: &[u32],
    start: usize,
    found: usize,
    grid: [usize; 3],
    tokens: &SpecialTokens,
    merge: usize,
) -> Result<(), LayoutError> {
    let expected = visual_tokens(item, grid, merge)?;
    if found != expected {
        let item = item.to_owned();
        return Err(LayoutError::TokenCount { item, grid, start, expected, found });
    }
    let before = start.checked_sub(1).map(|at| ids[at]);
    match tokens.vision_start {
        Some(expected) if before != Some(expected) => {
            let item = item.to_owned();
            Err(LayoutError::NoVisionStart { item, start, expected, found: before })
        }
        _ => Ok(()),
    }
}
