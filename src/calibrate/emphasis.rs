//! How much each token counts in calibration: modalities weighed against each other, and a prefix
//! that is not looked at.

use super::{CalibrateError, Observing, Statistics, Tokens};
use crate::exec::Tap;
use crate::graph::ValueId;
use crate::layout::Layout;
use crate::quant::{Balance, Head, Modality, PolicySpec, Prefix, Times};
use crate::tensor::Tensor;
use std::ops::Range;

/// How much the rows of each position count. Known before anything is observed, since layout and
/// lengths of all calibration rows are: so shards count alike and join exactly.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Emphasis {
    /// Positions before this are not observed.
    isolated: usize,
    /// Visual positions.
    visual: Vec<Range<usize>>,
    /// How many times a row of text and of vision counts; none if all count once.
    times: Option<[u64; 2]>,
    /// The same for sums, 1 on the average of the calibration rows.
    weights: [f64; 2],
}

impl Emphasis {
    /// What `policy` asks for, given the prompts `rows`, which share `layout`.
    ///
    /// # Errors
    /// A prefix that is not the same in all rows, reaches a picture or leaves nothing of a row.
    pub fn of(
        policy: &PolicySpec,
        layout: &Layout,
        rows: &[&[u32]],
    ) -> Result<Emphasis, CalibrateError> {
        let spans = layout.spans().iter();
        let visual = spans.map(|span| span.start..span.start + span.len).collect();
        let tokens: u64 = rows.iter().map(|row| row.len() as u64).sum();
        let seen = (rows.len() * layout.visual_len()) as u64;
        let counts = [tokens.saturating_sub(seen), seen];
        let times = policy.modality.and_then(|modality| times(modality, counts));
        let [text, vision] = times.unwrap_or([1, 1]).map(|times| times as f64);
        let mean = (text * counts[0] as f64 + vision * counts[1] as f64) / tokens.max(1) as f64;
        let isolated = policy.prefix.map_or(Ok(0), |prefix| isolated(prefix, layout, rows))?;
        Ok(Emphasis { isolated, visual, times, weights: [text / mean, vision / mean] })
    }

    /// Number of tokens at the beginning that are not observed.
    pub fn isolated(&self) -> usize {
        self.isolated
    }

    /// How many times a row of text and one of vision count, where they do not count alike.
    pub fn times(&self) -> Option<[u64; 2]> {
        self.times
    }

    /// Whether every row is observed, once.
    pub fn is_plain(&self) -> bool {
        self.isolated == 0 && self.times.is_none()
    }

    /// Square roots of what rows at these positions count in sums of products; none if all count
    /// alike. The prefix counts too: the static graph computes it with the weights that sums choose.
    pub fn roots(&self, positions: Option<Vec<usize>>) -> Option<Vec<f64>> {
        self.times?;
        let root = |position| self.weights[usize::from(self.is_visual(position))].sqrt();
        Some(positions?.into_iter().map(root).collect())
    }

    fn is_visual(&self, position: usize) -> bool {
        self.visual.iter().any(|span| span.contains(&position))
    }

    /// How many times what stands at a position is observed.
    pub fn count(&self, position: usize) -> u64 {
        match self.times {
            _ if position < self.isolated => 0,
            Some(times) => times[usize::from(self.is_visual(position))],
            None => 1,
        }
    }
}

/// Times of text and vision in lowest terms; none if they are alike or there is only one kind.
fn times(modality: Modality, [text, vision]: [u64; 2]) -> Option<[u64; 2]> {
    if text == 0 || vision == 0 {
        return None;
    }
    let [a, b] = match modality {
        Modality::Named(Balance::Equal) => [vision, text],
        Modality::Times(Times { vision, text }) => [text, vision].map(|n| u64::from(n.get())),
    };
    let common = divisor(a, b);
    (a != b).then_some([a / common, b / common])
}

/// The greatest common divisor.
fn divisor(a: u64, b: u64) -> u64 {
    if b == 0 { a.max(1) } else { divisor(b, a % b) }
}

/// Length of the prefix that is not observed.
fn isolated(prefix: Prefix, layout: &Layout, rows: &[&[u32]]) -> Result<usize, CalibrateError> {
    let first = rows.first().copied().unwrap_or(&[]);
    let alike = |row: &[u32]| first.iter().zip(row).take_while(|(a, b)| a == b).count();
    let same = rows.iter().map(|row| alike(row)).min().unwrap_or(0);
    let picture = layout.spans().first().map_or(usize::MAX, |span| span.start);
    let shortest = rows.iter().map(|row| row.len()).min().unwrap_or(0);
    let most = picture.min(shortest.saturating_sub(1));
    match prefix {
        Prefix::Named(Head::Bake) => Ok(0),
        Prefix::Named(Head::Isolate) => Ok(same.clamp(1, most.max(1))),
        Prefix::Tokens(tokens) if tokens.get() <= most.min(same.max(1)) => Ok(tokens.get()),
        Prefix::Tokens(tokens) => Err(CalibrateError::Prefix {
            found: tokens.get(),
            same,
            picture: (picture < usize::MAX).then_some(picture),
            shortest,
        }),
    }
}

/// The tap of a calibrating run where not all tokens count alike.
pub struct Weighing<'a> {
    /// What observes.
    pub observing: Observing<'a>,
    /// Where the tokens are, in the graph that runs.
    pub tokens: &'a Tokens,
}

impl Weighing<'_> {
    /// Shows the statistics those rows of a value that count, as often as they do; `position` tells
    /// the token of an index along `axis`.
    fn observe(
        &mut self,
        class: usize,
        x: &Tensor,
        axis: usize,
        position: impl Fn(usize) -> usize,
    ) {
        let Observing { plan, statistics } = &mut self.observing;
        let mut counts: Vec<u64> =
            (0..x.shape()[axis]).map(|i| plan.emphasis.count(position(i))).collect();
        if !statistics.counts(class) {
            counts.iter_mut().for_each(|count| *count = (*count).min(1));
        }
        let mut kinds: Vec<u64> = counts.iter().copied().filter(|&count| count > 0).collect();
        kinds.sort_unstable();
        kinds.dedup();
        for kind in kinds {
            let chosen: Vec<usize> = (0..counts.len()).filter(|&i| counts[i] == kind).collect();
            statistics.observe_times(class, &taken(x, axis, &chosen), kind);
        }
    }
}

impl Tap for Weighing<'_> {
    fn visit(&mut self, id: ValueId, value: &mut Tensor) {
        let Some(class) = self.observing.plan.sites.observed(id) else { return };
        let seq = self.tokens.seq();
        match self.tokens.axis(id) {
            Some(axis) => self.observe(class, value, axis, |i| i % seq),
            None => {
                let Observing { plan, statistics } = &mut self.observing;
                let times = plan.emphasis.times.filter(|_| self.tokens.is_picture(id));
                statistics.observe_times(class, value, times.map_or(1, |[_, vision]| vision));
            }
        }
    }

    fn visit_rows(&mut self, id: ValueId, value: &mut Tensor, rows: &[usize]) {
        let Some(class) = self.observing.plan.sites.observed(id) else { return };
        let seq = self.tokens.seq().max(1);
        self.observe(class, value, 1, |i| rows[i] % seq);
    }
}

/// The given indices of an axis, side by side.
fn taken(x: &Tensor, axis: usize, indices: &[usize]) -> Tensor {
    let extent = x.shape()[axis];
    if indices.len() == extent {
        return x.clone();
    }
    let inner: usize = x.shape()[axis + 1..].iter().product();
    let mut shape = x.shape().to_vec();
    shape[axis] = indices.len();
    Tensor::written(shape, |out| {
        let blocks = x.data().chunks_exact((extent * inner).max(1));
        let runs = blocks
            .flat_map(|block| indices.iter().map(move |i| &block[i * inner..(i + 1) * inner]));
        out.chunks_exact_mut(inner.max(1))
            .zip(runs)
            .for_each(|(out, run)| out.copy_from_slice(run));
    })
}

impl Statistics {
    /// Shows rows of a value of a class that count so many times.
    fn observe_times(&mut self, class: usize, value: &Tensor, times: u64) {
        if let Some(observer) = &mut self.classes[class] {
            crate::quant::Observer::observe_times(observer, value.data(), value.shape(), times);
        }
    }

    fn counts(&self, class: usize) -> bool {
        self.classes[class].as_ref().is_some_and(crate::quant::AnyObserver::counts)
    }
}
