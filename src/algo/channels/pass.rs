//! What samples feed the readers of each group: one float pass, in graph order, with the weights of
//! one part of the graph in memory at a time.

use super::{Group, Reader, find};
use crate::algo::{AlgoError, Moments, Roots, SessionError};
use crate::calibrate::{Emphasis, Tokens};
use crate::exec::{Float, Lifetimes, Stream, Weights, rows_on};
use crate::graph::{Graph, Read, ValueId};
use crate::tensor::{Par, Tensor, alone};
use rayon::prelude::*;
use std::borrow::Cow;

/// A calibration sample and the float graph of its length.
#[derive(Clone, Debug)]
pub struct Fed<'a> {
    /// Corresponds, value by value, to the graph that is rewritten.
    pub graph: &'a Graph,
    /// One tensor an input of the graph.
    pub inputs: Vec<Tensor>,
}

/// What was seen of a group's channels at one value that layers read.
pub(in crate::algo) struct Inputs {
    /// The value.
    pub(in crate::algo) of: ValueId,
    /// Greatest |x| of each channel.
    pub(in crate::algo) greatest: Vec<f64>,
    /// Mean |x| of each channel; of several inputs with one channel, the greatest.
    pub(in crate::algo) mean: Vec<f64>,
    /// Second moments of the value as the layers see it, by input; if asked for.
    pub(in crate::algo) moments: Option<Moments>,
}

/// What the pass works on.
pub(in crate::algo) struct Pass<'a, E> {
    /// Samples in their order.
    pub(in crate::algo) samples: &'a [Fed<'a>],
    /// Reads the checkpoint.
    pub(in crate::algo) read: Read<'a, E>,
    /// Whether second moments are wanted.
    pub(in crate::algo) moments: bool,
    /// How much each token counts in second moments.
    pub(in crate::algo) emphasis: &'a Emphasis,
}

/// The samples on their way.
struct Streams<'a> {
    plain: &'a Graph,
    samples: &'a [Fed<'a>],
    lifetimes: Lifetimes,
    streams: Vec<Stream>,
    emphasis: &'a Emphasis,
    /// Where the tokens of each sample are, if that matters.
    tokens: Vec<Option<Tokens>>,
    /// Nodes that have run.
    at: usize,
}

/// Finds the groups of `graph` and calls `choose` for each, in graph order, with what its readers are
/// fed; it may append edits to the graph that leave its function as it is. Activations are those of
/// the graph as it was handed in. Groups are passed over whose readers no token is sent to, or zeros
/// alone, and those that `known` has dealt with.
///
/// # Errors
/// Those of reading and of `choose`; inputs that are not finite, with the layer.
pub(in crate::algo) fn each_group<E: From<SessionError>>(
    graph: &mut Graph,
    pass: &Pass<'_, E>,
    mut known: impl FnMut(&mut Graph, &Group) -> bool,
    mut choose: impl FnMut(&mut Graph, &Group, &[Inputs]) -> Result<(), E>,
) -> Result<(), E> {
    let plain = graph.clone();
    let tokens = |fed: &Fed<'_>| (!pass.emphasis.is_plain()).then(|| Tokens::of(fed.graph));
    let start = |fed: &Fed<'_>| Stream::start(fed.graph, fed.inputs.clone(), &mut Float);
    let mut streams = Streams {
        plain: &plain,
        samples: pass.samples,
        lifetimes: Lifetimes::of(&plain),
        streams: pass.samples.iter().map(start).collect(),
        emphasis: pass.emphasis,
        tokens: pass.samples.iter().map(tokens).collect(),
        at: 0,
    };
    for group in find(&plain) {
        if known(graph, &group) {
            continue;
        }
        let mut seen: Vec<Inputs> = Vec::new();
        for reader in &group.readers {
            if seen.iter().any(|inputs| inputs.of == reader.input) {
                continue;
            }
            streams.run(reader.node, pass.read)?;
            let inputs = streams.gather(&group, reader, pass.moments).map_err(|source| {
                let name = plain.value(reader.weight).name.clone();
                SessionError::Layer { name, source }
            })?;
            seen.extend(inputs);
        }
        if !seen.is_empty() {
            choose(graph, &group, &seen)?;
        }
    }
    Ok(())
}

impl Streams<'_> {
    /// Runs all samples up to a node; the weights on the way are read for that and let go.
    fn run<E>(&mut self, to: usize, read: Read<'_, E>) -> Result<(), E> {
        let nodes = self.at..to.max(self.at);
        let mut weights = Weights::none(self.plain);
        for id in self.plain.nodes[nodes.clone()].iter().flat_map(|node| &node.inputs) {
            if self.plain.param(*id).is_some() && weights.get(*id).is_none() {
                weights.set(*id, self.plain.load(*id, read)?);
            }
        }
        let lifetimes = &self.lifetimes;
        self.streams.par_iter_mut().zip(self.samples).for_each(|(stream, fed)| {
            alone(|| {
                stream.run(fed.graph, nodes.clone(), &weights, lifetimes, &mut Float, Par::Seq)
            });
        });
        self.at = nodes.end;
        Ok(())
    }

    /// Where the rows of each sample stand that feed a reader, if that matters.
    fn positions(&self, reader: &Reader) -> Vec<Option<Vec<usize>>> {
        let routed = self.plain.nodes[reader.node].routed;
        let of = |((fed, stream), tokens): ((&Fed<'_>, &Stream), &Option<Tokens>)| {
            let tokens = tokens.as_ref()?;
            match routed {
                None => tokens.of_rows(reader.input, &fed.graph.value(reader.input).shape),
                Some(route) => {
                    let rows = rows_on([stream.get(route)?; 2]);
                    Some(rows.into_iter().map(|row| row % tokens.seq().max(1)).collect())
                }
            }
        };
        self.samples.iter().zip(&self.streams).zip(&self.tokens).map(of).collect()
    }

    /// What all samples feed a reader; none where that is no token, or zeros alone.
    fn gather(
        &self,
        group: &Group,
        reader: &Reader,
        moments: bool,
    ) -> Result<Option<Inputs>, AlgoError> {
        let rows: Option<Vec<Cow<'_, [f32]>>> = self
            .streams
            .iter()
            .map(|stream| match self.plain.nodes[reader.node].routed {
                None => stream.get(reader.input).map(|x| Cow::Borrowed(x.data())),
                Some(route) => {
                    let route = stream.get(route)?;
                    stream.rows(&self.lifetimes, reader.input, [route; 2]).map(Cow::Owned)
                }
            })
            .collect();
        let rows = rows.expect("invariant: the input of a layer about to run is live");
        let (k, count) = (reader.channels.len(), group.free.len());
        let (mut greatest, mut sum) = (vec![0f32; k], vec![0f64; k]);
        let mut tokens = 0;
        let positions = self.positions(reader);
        for (rows, positions) in rows.iter().zip(&positions) {
            for (i, row) in rows.chunks_exact(k.max(1)).enumerate() {
                let times = positions.as_ref().map_or(1, |all| self.emphasis.count(all[i]));
                if times == 0 {
                    continue;
                }
                for ((most, sum), x) in greatest.iter_mut().zip(&mut sum).zip(row) {
                    // Unlike `max`, this keeps a NaN.
                    *most = if x.abs() <= *most { *most } else { x.abs() };
                    *sum += f64::from(x.abs()) * times as f64;
                }
                tokens += times;
            }
        }
        if sum.iter().any(|x| !x.is_finite()) {
            return Err(AlgoError::NonFinite);
        }
        if sum.iter().all(|&x| x == 0.0) {
            return Ok(None);
        }
        let mut inputs = Inputs {
            of: reader.input,
            greatest: vec![0.0; count],
            mean: vec![0.0; count],
            moments: moments.then(|| {
                let mut all = Moments::new(k, false);
                let pairs: Vec<(&[f32], &[f32])> = rows.iter().map(|x| (&x[..], &x[..])).collect();
                let roots = |positions| self.emphasis.roots(positions);
                all.add_weighed(&pairs, &positions.into_iter().map(roots).collect::<Vec<Roots>>());
                all
            }),
        };
        for ((&channel, most), sum) in reader.channels.iter().zip(greatest).zip(sum) {
            inputs.greatest[channel] = inputs.greatest[channel].max(most.into());
            inputs.mean[channel] = inputs.mean[channel].max(sum / tokens as f64);
        }
        Ok(Some(inputs))
    }
}

/// Numbers that an earlier run of the same job has found, so that nobody seeks them again.
pub trait Recall<E> {
    /// What was found under a name.
    fn known(&self, key: &str) -> Option<Vec<f64>>;

    /// Takes what was found.
    ///
    /// # Errors
    /// Why the job ends here.
    fn note(&self, key: String, numbers: &[f64]) -> Result<(), E>;
}
