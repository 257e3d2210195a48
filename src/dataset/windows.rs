//! Long text as samples: windows of one length, each judged where no window before it was.

use super::Sample;

/// How text is cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Windows {
    /// Tokens of a window.
    pub context: usize,
    /// Tokens from one window's start to the next one's, at most `context`; equal to it, windows do
    /// not overlap and every first token goes unjudged.
    pub stride: usize,
    /// Windows at most; none means all.
    pub limit: Option<usize>,
}

/// Why text cannot be cut.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WindowError {
    /// Less than one window.
    #[error("{place}: {found} tokens, expected at least the context of {context}")]
    Short {
        /// Where the text is from.
        place: String,
        /// Its tokens.
        found: usize,
        /// Tokens of a window.
        context: usize,
    },
    /// Windows of which every token is a first one.
    #[error("context is {context}, expected at least 2")]
    Context {
        /// Tokens of a window.
        context: usize,
    },
    /// Windows that leave gaps or judge nothing.
    #[error("stride is {stride}, expected 1 to the context of {context}")]
    Stride {
        /// The stride.
        stride: usize,
        /// Tokens of a window.
        context: usize,
    },
}

impl Windows {
    /// The windows of `ids`; a rest shorter than a window is left out.
    ///
    /// # Errors
    /// Text shorter than the context, a context of one token, a stride outside it.
    pub fn cut(&self, ids: &[u32], place: &str) -> Result<Vec<Sample>, WindowError> {
        let Windows { context, stride, limit } = *self;
        if context < 2 {
            return Err(WindowError::Context { context });
        }
        if stride == 0 || stride > context {
            return Err(WindowError::Stride { stride, context });
        }
        if ids.len() < context {
            return Err(WindowError::Short { place: place.into(), found: ids.len(), context });
        }
        let starts = (0..=ids.len() - context).step_by(stride);
        let sample = |start: usize| Sample {
            input_ids: ids[start..start + context].to_vec(),
            prompt_len: if start == 0 { 1 } else { (context - stride).max(1) },
            pixel_values: None,
            grids: Vec::new(),
            video_grids: Vec::new(),
            place: format!("{place}, tokens from {start}"),
        };
        Ok(starts.take(limit.unwrap_or(usize::MAX)).map(sample).collect())
    }
}

#[cfg(test)]
mod tests;
