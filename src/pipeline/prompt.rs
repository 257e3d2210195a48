//! The static layout that all samples share.

use super::stages::shown;
use super::{Error, Recipe, SpanEntry};
use crate::checkpoint::{Checkpoint, Config};
use crate::dataset::Sample;
use crate::graph::{Graph, Kind, ValueId};
use crate::layout::{Layout, Segment, SpecialTokens};
use crate::tensor::Tensor;

/// What the user fixed about the layout; samples that differ are refused.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fixed {
    /// `grid_thw` of the picture, in patches.
    pub grid: Option<[usize; 3]>,
    /// Index of the first visual token.
    pub visual_start: Option<usize>,
    /// Tokens before every sample that are no part of the graph: their keys and values are constants.
    pub prefix: Vec<u32>,
}

/// The one prompt form that the static graph is for.
#[derive(Clone, Debug)]
pub struct Prompt {
    /// Segments, positions, spans.
    pub layout: Layout,
}

impl Prompt {
    /// The layout of the first sample, stretched to `seq_len` or the longest sample; all others
    /// must have their pictures in the same places.
    ///
    /// # Errors
    /// The row that does not fit, with both numbers.
    pub fn of(
        config: &Config,
        calib: &[Sample],
        eval: &[Sample],
        seq_len: Option<usize>,
        fixed: &Fixed,
    ) -> Result<Prompt, Error> {
        let first = calib.first().ok_or(Error::NoSamples)?;
        let longest = calib.iter().chain(eval).map(|s| s.input_ids.len()).max().unwrap_or(0);
        let known = fixed.prefix.len();
        let seq_len = seq_len.unwrap_or(known + longest);
        let layout = layout_of(config, first)?.after(known);
        check_fixed(&layout, first, fixed)?;
        let most = config.text.max_position_embeddings;
        for sample in calib.iter().chain(eval) {
            let len = known + sample.input_ids.len();
            for (most, of) in [(most, "max_position_embeddings"), (seq_len, "--seq-len")] {
                if len > most {
                    let found = format!("{len} tokens, expected at most {most} ({of})");
                    return Err(Error::row(sample, found));
                }
            }
            let other = layout_of(config, sample)?;
            if other.spans() != layout.spans() {
                let describe = |layout: &Layout| shown(&SpanEntry::all(layout));
                return Err(Error::row(
                    sample,
                    format!(
                        "pictures do not fit the static layout: found {}, expected {} as in {}",
                        describe(&other),
                        describe(&layout),
                        first.place
                    ),
                ));
            }
        }
        Ok(Prompt { layout: layout.with_seq_len(seq_len.saturating_sub(known))? })
    }
}

/// The layout that the arguments fix by themselves.
pub(super) fn without_rows(checkpoint: &Checkpoint, recipe: &Recipe) -> Result<Layout, Error> {
    let Some(seq_len) = recipe.seq_len else { return Err(Error::NoLayout) };
    let vision = checkpoint.config().vision.as_ref();
    match (recipe.fixed.grid, recipe.fixed.visual_start, vision) {
        (Some(grid), Some(start), Some(vision)) => {
            Ok(Layout::single(grid, start, seq_len, vision.spatial_merge_size)?)
        }
        (None, None, _) => Ok(Layout::text(seq_len)?),
        (Some(_), Some(_), None) => {
            Err(Error::NoVision { config: checkpoint.files().describe("config.json") })
        }
        _ => Err(Error::NoLayout),
    }
}

/// As many rows as there will be, of the layout that the arguments fix: enough to plan with.
///
/// # Errors
/// Arguments that fix none; a picture for a model that sees none.
pub fn announced(
    checkpoint: &Checkpoint,
    recipe: &Recipe,
    count: u32,
) -> Result<Vec<Sample>, Error> {
    let (layout, config) = (without_rows(checkpoint, recipe)?, checkpoint.config());
    let grids = layout.grids();
    let pixels = config.vision.as_ref().zip(grids.first()).map(|(vision, grid)| {
        let patch = vision.temporal_patch_size * vision.patch_size.pow(2);
        Tensor::full([grid.iter().product(), vision.in_channels * patch], 0.0)
    });
    let sample = |i: u32| {
        // they do not begin alike: a prefix of announced rows is not known
        let mut input_ids = vec![i % 2; layout.seq_len()];
        for span in layout.spans() {
            let (before, rest) = input_ids.split_at_mut(span.start);
            if let (Some(id), Some(start)) = (before.last_mut(), config.vision_start_token_id) {
                *id = start;
            }
            if let Some(image) = config.image_token_id {
                rest[..span.len].fill(image);
            }
        }
        Sample {
            prompt_len: input_ids.len(),
            input_ids,
            pixel_values: pixels.clone(),
            grids: grids.clone(),
            video_grids: Vec::new(),
            place: format!("announced row {}", i + 1),
        }
    };
    Ok((0..count).map(sample).collect())
}

/// Tensors of the checkpoint that only pictures need, where `layout` has none.
pub fn unseeing(checkpoint: &Checkpoint, layout: &Layout) -> usize {
    let tower = |name: &&str| name.starts_with("model.visual.");
    match layout.spans() {
        [] => checkpoint.tensor_names().filter(tower).count(),
        _ => 0,
    }
}

pub(super) fn layout_of(config: &Config, sample: &Sample) -> Result<Layout, Error> {
    let merge = config.vision.as_ref().map_or(1, |vision| vision.spatial_merge_size);
    let (Some(image), Some(video)) = (config.image_token_id, config.video_token_id) else {
        return Ok(Layout::text(sample.input_ids.len())?);
    };
    let tokens = SpecialTokens { image, video, vision_start: config.vision_start_token_id };
    let Sample { input_ids, grids, video_grids, .. } = sample;
    Layout::from_input_ids(input_ids, grids, video_grids, &tokens, merge)
        .map_err(|error| Error::row(sample, error.to_string()))
}

fn check_fixed(layout: &Layout, sample: &Sample, fixed: &Fixed) -> Result<(), Error> {
    let span = layout.spans().first();
    let known = fixed.prefix.len();
    if let Some(start) = fixed.visual_start
        && span.map(|s| known + s.start) != Some(start)
    {
        let found = span.map_or("no picture".into(), |s| (known + s.start).to_string());
        return Err(Error::row(
            sample,
            format!("visual_start_idx: found {found}, expected {start} (--visual-start)"),
        ));
    }
    let Some(grid) = fixed.grid else { return Ok(()) };
    Layout::new(&[Segment::Image { grid_thw: grid }], layout.merge()).map_err(Error::Grid)?;
    let found = match (span, layout.spans().iter().find(|s| s.grid_thw != grid)) {
        (None, _) => "no picture".into(),
        (Some(_), Some(other)) => format!("{:?}", other.grid_thw),
        (Some(_), None) => return Ok(()),
    };
    Err(Error::row(sample, format!("grid_thw: found {found}, expected {grid:?} (--grid)")))
}

/// Whether a batch of samples fits the inputs of the graph.
///
/// # Errors
/// A sample whose tensors do not have the graph's shapes.
pub(super) fn check(graph: &Graph, samples: &[&Sample]) -> Result<(), Error> {
    let real = graph.inputs.iter().map(|id| graph.value(*id)).filter(|v| v.kind == Kind::Real);
    for value in real {
        for sample in samples {
            let pixels = sample.pixel_values.as_ref().ok_or_else(|| {
                Error::row(sample, "has no picture, but the layout holds one".into())
            })?;
            let expected = [value.shape[0] / samples.len(), value.shape[1]];
            if pixels.shape() != expected {
                let found = pixels.shape();
                let message = format!("{}: found {found:?}, expected {expected:?}", value.name);
                return Err(Error::row(sample, message));
            }
        }
    }
    Ok(())
}

/// The graph's inputs for a batch of samples that [`check`] let pass, padded at the end to the
/// graph's length; causal attention keeps the padding from the rows before it.
pub(super) fn inputs(graph: &Graph, samples: &[&Sample]) -> Vec<Tensor> {
    let input = |id: &ValueId| {
        let value = graph.value(*id);
        if let (Kind::Real, [Sample { pixel_values: Some(pixels), .. }]) = (value.kind, samples) {
            return pixels.clone().reshape(value.shape.clone());
        }
        let part = value.shape.iter().product::<usize>() / samples.len();
        Tensor::written(value.shape.clone(), |out| {
            for (sample, out) in samples.iter().zip(out.chunks_exact_mut(part)) {
                match (value.kind, &sample.pixel_values) {
                    (Kind::Real, Some(pixels)) => out.copy_from_slice(pixels.data()),
                    _ => {
                        let (known, padding) = out.split_at_mut(sample.input_ids.len());
                        let ids = known.iter_mut().zip(&sample.input_ids);
                        ids.for_each(|(out, &id)| *out = id as f32);
                        padding.fill(0.0);
                    }
                }
            }
        })
    };
    graph.inputs.iter().map(input).collect()
}
