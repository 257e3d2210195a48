//! What can be wrong with a layout.

/// A layout that no prompt can have; says which number is wrong, found and expected.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LayoutError {
    /// The merge size is zero.
    #[error("the spatial merge size is 0: expected at least 1")]
    Merge,
    /// An extent of a grid is zero.
    #[error("{item}: {extent} of grid {grid:?} is 0: expected at least 1")]
    ZeroExtent {
        /// The picture or video.
        item: String,
        /// `frames`, `height` or `width`.
        extent: &'static str,
        /// Frames, height and width in patches.
        grid: [usize; 3],
    },
    /// An extent cannot be cut into merge blocks.
    #[error("{item}: {extent} {found} of grid {grid:?} is no multiple of the merge size {merge}")]
    NotMergeable {
        /// The picture or video.
        item: String,
        /// `height` or `width`.
        extent: &'static str,
        /// The extent, in patches.
        found: usize,
        /// The merge size.
        merge: usize,
        /// Frames, height and width in patches.
        grid: [usize; 3],
    },
    /// A grid makes more tokens than a prompt may have, or the prompt has.
    #[error("{item} is too large: found {found} tokens, expected at most {limit}")]
    TooLarge {
        /// The picture, video or prompt.
        item: String,
        /// Its tokens, or the greatest number there is; of a prompt, as far as it was counted.
        found: u64,
        /// The limit.
        limit: usize,
    },
    /// A video needs one timestamp a frame.
    #[error("{item}: expected timestamp lengths for {expected} frames, found {found}")]
    Timestamps {
        /// The video.
        item: String,
        /// Frames of its grid.
        expected: usize,
        /// Timestamps given.
        found: usize,
    },
    /// A prompt without tokens.
    #[error("the prompt is empty: expected at least 1 token")]
    Empty,
    /// Visual tokens reach past the sequence.
    #[error(
        "{item} occupies tokens {start}..{end}, but the sequence has {seq_len}: \
         expected a sequence length of at least {end}"
    )]
    PastEnd {
        /// The picture or video frame.
        item: String,
        /// First visual token.
        start: usize,
        /// One past the last visual token.
        end: usize,
        /// Tokens of the sequence.
        seq_len: usize,
    },
    /// A run of placeholder tokens does not fit its grid.
    #[error("{item}: grid {grid:?} makes {expected} tokens, found {found} from token {start} on")]
    TokenCount {
        /// The picture or video frame.
        item: String,
        /// Frames, height and width in patches.
        grid: [usize; 3],
        /// First placeholder token.
        start: usize,
        /// Tokens the grid makes.
        expected: usize,
        /// Placeholders found in a row.
        found: usize,
    },
    /// Placeholders and grids do not pair up.
    #[error("found {found} runs of {kind} placeholders, but the {kind} grids make {expected}")]
    RunCount {
        /// `image` or `video`.
        kind: &'static str,
        /// Pictures, or frames of all videos.
        expected: usize,
        /// Runs in the ids.
        found: usize,
    },
    /// Placeholders stand without their vision start token.
    #[error(
        "{item}: expected vision start token {expected} before token {start}, found {}",
        match found { Some(id) => format!("token {id}"), None => "the start of the prompt".into() }
    )]
    NoVisionStart {
        /// The picture or video frame.
        item: String,
        /// First placeholder token.
        start: usize,
        /// Id of the vision start token.
        expected: u32,
        /// Id found there.
        found: Option<u32>,
    },
    /// A table of position embeddings that is not square.
    #[error("the position table is {shape:?}: expected [n*n, width] for some n >= 1")]
    PositionTable {
        /// Shape found.
        shape: Vec<usize>,
    },
}
