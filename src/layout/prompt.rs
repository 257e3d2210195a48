//! Where visual tokens stand in a prompt, and which position ids follow.
//!
//! Qwen3-VL numbers text tokens alike on its three axes (time, height, width). A visual token sits at
//! the position its picture begins plus its frame, row and column; text resumes after the largest of
//! them. Videos are frames apart, each behind its own timestamp text.

use serde::{Deserialize, Serialize};

use super::LayoutError;

/// Longest sequence that is accepted: far above any model's, far below what exhausts memory.
pub const MAX_SEQ_LEN: usize = 1 << 24;

/// A part of a prompt.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Segment {
    /// Tokens of text.
    Text {
        /// How many.
        tokens: usize,
    },
    /// A picture, between a vision start and a vision end token that are counted by themselves.
    Image {
        /// Frames, height and width in patches, before merging.
        grid_thw: [usize; 3],
    },
    /// A video: for every frame timestamp text, vision start, the frame's tokens, vision end.
    Video {
        /// Frames, height and width in patches, before merging.
        grid_thw: [usize; 3],
        /// Tokens of each frame's timestamp.
        timestamp_tokens: Vec<usize>,
    },
}

/// What a visual span shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum VisualKind {
    /// A picture.
    Image,
    /// One frame of a video.
    VideoFrame,
}

/// Visual tokens that stand in a row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VisualSpan {
    /// Picture or frame.
    pub kind: VisualKind,
    /// First token.
    pub start: usize,
    /// Number of tokens: `t * (h / merge) * (w / merge)`.
    pub len: usize,
    /// Frames, height and width in patches; one frame, except for pictures given with more.
    pub grid_thw: [usize; 3],
    /// First row of this span in the vision tower's features, in the order of [`Layout::grids`].
    pub feature_offset: usize,
}

/// A validated prompt layout.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layout {
    merge: usize,
    seq_len: usize,
    /// Tokens before the first whose keys and values are known.
    known: usize,
    /// In order of `start`; they do not overlap.
    spans: Vec<VisualSpan>,
    images: Vec<[usize; 3]>,
    videos: Vec<[usize; 3]>,
}

/// Appends to a layout that is being made; every length goes through here.
pub(super) struct Draft {
    layout: Layout,
}

impl Draft {
    pub(super) fn new(merge: usize) -> Result<Draft, LayoutError> {
        if merge == 0 {
            return Err(LayoutError::Merge);
        }
        let (spans, images, videos) = Default::default();
        Ok(Draft { layout: Layout { merge, seq_len: 0, known: 0, spans, images, videos } })
    }

    fn advance(&mut self, tokens: usize) -> Result<(), LayoutError> {
        let total = (self.layout.seq_len as u64).saturating_add(tokens as u64);
        self.layout.seq_len = counted(total, || "the prompt".into())?;
        Ok(())
    }

    pub(super) fn text(&mut self, tokens: usize) -> Result<(), LayoutError> {
        self.advance(tokens)
    }

    fn span(&mut self, kind: VisualKind, grid: [usize; 3], len: usize) -> Result<(), LayoutError> {
        let start = self.layout.seq_len;
        self.advance(len)?;
        let span = VisualSpan { kind, start, len, grid_thw: grid, feature_offset: 0 };
        self.layout.spans.push(span);
        Ok(())
    }

    /// The visual tokens of a picture, without start and end.
    pub(super) fn image(&mut self, grid: [usize; 3]) -> Result<(), LayoutError> {
        let item = format!("picture {}", self.layout.images.len());
        let len = visual_tokens(&item, grid, self.layout.merge)?;
        self.layout.images.push(grid);
        self.span(VisualKind::Image, grid, len)
    }

    /// Registers a video, whose frames follow one by one.
    pub(super) fn video(&mut self, grid: [usize; 3]) -> Result<(), LayoutError> {
        let item = format!("video {}", self.layout.videos.len());
        visual_tokens(&item, grid, self.layout.merge)?;
        self.layout.videos.push(grid);
        Ok(())
    }

    /// The visual tokens of one frame of the last video, without start and end.
    pub(super) fn frame(&mut self) -> Result<(), LayoutError> {
        let [_, h, w] = self.layout.videos.last().copied().unwrap_or([0; 3]);
        let item = format!("video {}", self.layout.videos.len().saturating_sub(1));
        let len = visual_tokens(&item, [1, h, w], self.layout.merge)?;
        self.span(VisualKind::VideoFrame, [1, h, w], len)
    }

    pub(super) fn finish(mut self) -> Result<Layout, LayoutError> {
        if self.layout.seq_len == 0 {
            return Err(LayoutError::Empty);
        }
        // features of all pictures come first, then those of all videos
        let mut offset = 0;
        for kind in [VisualKind::Image, VisualKind::VideoFrame] {
            for span in self.layout.spans.iter_mut().filter(|span| span.kind == kind) {
                span.feature_offset = offset;
                offset += span.len;
            }
        }
        Ok(self.layout)
    }
}

/// Tokens of one grid after merging.
pub(super) fn visual_tokens(
    item: &str,
    grid: [usize; 3],
    merge: usize,
) -> Result<usize, LayoutError> {
    if merge == 0 {
        return Err(LayoutError::Merge);
    }
    for (extent, size) in ["frames", "height", "width"].into_iter().zip(grid) {
        if size == 0 {
            return Err(LayoutError::ZeroExtent { item: item.to_owned(), extent, grid });
        }
        if extent != "frames" && size % merge != 0 {
            let item = item.to_owned();
            return Err(LayoutError::NotMergeable { item, extent, found: size, merge, grid });
        }
    }
    let [t, h, w] = grid.map(|size| size as u64);
    let block = merge as u64;
    let tokens = t.saturating_mul(h / block).saturating_mul(w / block);
    counted(tokens, || format!("{item} of grid {grid:?}"))
}

/// So many tokens, if a prompt may have them.
fn counted(tokens: u64, item: impl FnOnce() -> String) -> Result<usize, LayoutError> {
    match usize::try_from(tokens) {
        Ok(tokens) if tokens <= MAX_SEQ_LEN => Ok(tokens),
        _ => Err(LayoutError::TooLarge { item: item(), found: tokens, limit: MAX_SEQ_LEN }),
    }
}

impl Layout {
    /// The prompt of `segments`; `merge` is the vision tower's spatial merge size.
    pub fn new(segments: &[Segment], merge: usize) -> Result<Layout, LayoutError> {
        let mut draft = Draft::new(merge)?;
        for segment in segments {
            match segment {
                Segment::Text { tokens } => draft.text(*tokens)?,
                Segment::Image { grid_thw } => {
                    draft.text(1)?;
                    draft.image(*grid_thw)?;
                    draft.text(1)?;
                }
                Segment::Video { grid_thw, timestamp_tokens } => {
                    let video = draft.layout.videos.len();
                    draft.video(*grid_thw)?;
                    if timestamp_tokens.len() != grid_thw[0] {
                        return Err(LayoutError::Timestamps {
                            item: format!("video {video}"),
                            expected: grid_thw[0],
                            found: timestamp_tokens.len(),
                        });
                    }
                    for tokens in timestamp_tokens {
                        draft.text(*tokens)?;
                        draft.text(1)?;
                        draft.frame()?;
                        draft.text(1)?;
                    }
                }
            }
        }
        draft.finish()
    }

    /// One picture whose visual tokens begin at `visual_start_idx`, text around it up to `seq_len`.
    ///
    /// Start and end tokens count as text, and none are demanded: `visual_start_idx` may be 0. A grid
    /// of several frames is one block whose tokens count up on the time axis.
    pub fn single(
        grid_thw: [usize; 3],
        visual_start_idx: usize,
        seq_len: usize,
        merge: usize,
    ) -> Result<Layout, LayoutError> {
        let mut draft = Draft::new(merge)?;
        draft.text(visual_start_idx)?;
        draft.image(grid_thw)?;
        draft.finish()?.with_seq_len(seq_len)
    }

    /// Text alone.
    pub fn text(seq_len: usize) -> Result<Layout, LayoutError> {
        Layout::new(&[Segment::Text { tokens: seq_len }], 1)
    }

    /// The same prompt with its trailing text padded or cut to `seq_len` tokens in all.
    pub fn with_seq_len(mut self, seq_len: usize) -> Result<Layout, LayoutError> {
        if seq_len == 0 {
            return Err(LayoutError::Empty);
        }
        counted(seq_len as u64, || "the prompt".into())?;
        let past = self.spans.iter().position(|span| span.start + span.len > seq_len);
        if let Some((at, span)) = past.map(|at| (at, &self.spans[at])) {
            let (start, end) = (span.start, span.start + span.len);
            let item = format!("visual span {at}");
            return Err(LayoutError::PastEnd { item, start, end, seq_len });
        }
        self.seq_len = seq_len;
        Ok(self)
    }

    /// The same behind `known` tokens of text that are not part of it: their keys and values are known,
    /// so positions begin after them.
    pub fn after(self, known: usize) -> Layout {
        Layout { known, ..self }
    }

    /// Tokens before the prompt whose keys and values are known; positions begin after them.
    pub fn known(&self) -> usize {
        self.known
    }

    /// Tokens of the prompt.
    pub fn seq_len(&self) -> usize {
        self.seq_len
    }

    /// The vision tower's spatial merge size.
    pub fn merge(&self) -> usize {
        self.merge
    }

    /// Runs of visual tokens, in order of their place in the prompt.
    pub fn spans(&self) -> &[VisualSpan] {
        &self.spans
    }

    /// Grids fed to the vision tower, frames, height and width: all pictures in order, then all
    /// videos in order, as Hugging Face keeps them in two lists.
    pub fn grids(&self) -> Vec<[usize; 3]> {
        [self.images.as_slice(), &self.videos].concat()
    }

    /// Grids of the pictures alone.
    pub fn image_grids(&self) -> &[[usize; 3]] {
        &self.images
    }

    /// Grids of the videos alone.
    pub fn video_grids(&self) -> &[[usize; 3]] {
        &self.videos
    }

    /// Visual tokens in all: the rows of the vision tower's features.
    pub fn visual_len(&self) -> usize {
        self.spans.iter().map(|span| span.len).sum()
    }

    /// Position ids of every token on the time, height and width axes: `[3][seq_len]`.
    pub fn position_ids(&self) -> [Vec<i64>; 3] {
        let mut ids = [const { Vec::new() }; 3];
        let mut next = self.known as i64;
        for span in &self.spans {
            self.number_text(&mut ids, &mut next, span.start);
            let [t, h, w] = self.merged(span);
            for frame in 0..t {
                for row in 0..h {
                    for column in 0..w {
                        for (axis, at) in ids.iter_mut().zip([frame, row, column]) {
                            axis.push(next + at);
                        }
                    }
                }
            }
            next += t.max(h).max(w);
        }
        self.number_text(&mut ids, &mut next, self.seq_len);
        ids
    }

    fn number_text(&self, ids: &mut [Vec<i64>; 3], next: &mut i64, end: usize) {
        let end = *next + (end - ids[0].len()) as i64;
        ids.iter_mut().for_each(|axis| axis.extend(*next..end));
        *next = end;
    }

    /// Frames, rows and columns of a span's tokens.
    fn merged(&self, span: &VisualSpan) -> [i64; 3] {
        let [t, h, w] = span.grid_thw;
        [t, h / self.merge, w / self.merge].map(|n| n as i64)
    }

    /// Largest position id plus one, less the sequence length with all known tokens: never positive.
    pub fn rope_delta(&self) -> i64 {
        let saved = |span| self.merged(span).into_iter().max().unwrap_or(0) - span.len as i64;
        self.spans.iter().map(saved).sum()
    }

    /// Position id of token `index` on all axes, for tokens behind the last visual one: the prompt's
    /// trailing text and everything decoded after it.
    pub fn position_at(&self, index: usize) -> i64 {
        (self.known + index) as i64 + self.rope_delta()
    }
}
