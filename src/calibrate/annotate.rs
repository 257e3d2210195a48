//! From statistics to `QuantParams` on the graph.

use super::experts::Experts;
use super::{CalibrateError, Plan, Site, Statistics, meeting, spread, tables};
use crate::graph::{Graph, Source, ValueId};
use crate::quant::{
    self, AnyObserver, DType, Decision, NoRange, Observer, ParamsError, QuantParams, Range,
};
use crate::tensor::{Tensor, each};

impl Plan {
    /// Annotates every activation class from `statistics` and the constants among its members.
    ///
    /// # Errors
    /// A class that no sample reached, values that are not finite; experts that no token reached,
    /// unless the policy says what to do.
    pub fn annotate_activations(
        &self,
        graph: &mut Graph,
        statistics: &Statistics,
        param: &dyn Fn(ValueId) -> Tensor,
    ) -> Result<(), CalibrateError> {
        self.unseen_experts(graph, statistics)?;
        let experts = Experts::of(self, graph, statistics);
        let mut grids = Vec::with_capacity(self.classes.len());
        for (i, decision) in self.classes.iter().enumerate() {
            let mut observer = statistics.classes[i].clone();
            observer.iter_mut().for_each(|observer| observer.begin(None));
            for &id in &self.sites.classes[i].observed {
                let constant = match &graph.value(id).source {
                    Source::Const(tensor) => tensor.clone(),
                    Source::Param(_) => param(id),
                    Source::Input | Source::Node(_) => continue,
                };
                if let Some(observer) = &mut observer {
                    observer.observe(constant.data(), constant.shape());
                }
            }
            let grid = self.class_grid(i, decision, observer.as_ref(), &experts);
            grids.push(grid.map_err(|source| {
                let name = graph.value(self.sites.classes[i].members[0]).name.clone();
                CalibrateError::Params { name, source }
            })?);
        }
        for id in graph.ids() {
            if let Site::Activation { class } = self.sites.site(id) {
                let value = &mut graph.values[id.index()];
                value.qparams.clone_from(&grids[class]);
                // Each view has blocks of its own.
                if let Some(QuantParams::Mx { axis, .. }) = &mut value.qparams {
                    *axis = value.shape.len().saturating_sub(1);
                }
            }
        }
        Ok(())
    }

    fn class_grid(
        &self,
        class: usize,
        decision: &Decision,
        observer: Option<&AnyObserver>,
        experts: &Experts,
    ) -> Result<Option<QuantParams>, ParamsError> {
        if !matches!(decision, Decision::Affine { .. }) {
            return decision.params(&[]);
        }
        let range = match (self.sites.classes[class].pinned, observer.map(Observer::range)) {
            (Some(pinned), Some(Ok(seen))) => pinned.union(seen),
            (Some(pinned), _) => pinned,
            (None, Some(Err(NoRange::Unseen))) => experts.range(class).ok_or(NoRange::Unseen)?,
            (None, Some(seen)) => seen?,
            (None, None) => return Err(NoRange::Unseen.into()),
        };
        match decision {
            // A grid as fine as the formulas' floor would have no room for the bias behind it, and any
            // grid holds zero.
            Decision::Affine { dtype, .. } if range == Range::new(0.0, 0.0) => {
                Ok(Some(QuantParams::per_tensor(*dtype, 1.0, 0)))
            }
            _ => decision.params(&[range]),
        }
    }

    /// The grid of a weight or gain, chosen for `tensor`; none if the policy leaves it float.
    ///
    /// # Errors
    /// Values that are not finite, a scheme that the dtype cannot carry.
    pub fn weight_grid(
        &self,
        id: ValueId,
        name: &str,
        tensor: &Tensor,
    ) -> Result<Option<QuantParams>, CalibrateError> {
        let Some(decision) = &self.weights[id.index()] else { return Ok(None) };
        tables::ranges(decision, tensor)
            .map_err(ParamsError::from)
            .and_then(|ranges| decision.params(&ranges))
            .map_err(|source| CalibrateError::Params { name: name.into(), source })
    }

    /// Annotates the weights, gains and biases `ids`, and rounds their tensors to their grids.
    /// Activations must be annotated before: a bias lives on the grid of its accumulator.
    ///
    /// # Errors
    /// Those of [`Plan::weight_grid`]; a bias that its accumulator cannot hold.
    pub fn quantize_weights(
        &self,
        graph: &mut Graph,
        tensors: &mut [(ValueId, Tensor)],
    ) -> Result<(), CalibrateError> {
        let name = |id: ValueId| graph.value(id).name.as_str();
        let grids = each(tensors.iter_mut(), |(id, tensor)| {
            let grid = self.weight_grid(*id, name(*id), tensor)?;
            if let Some(grid) = &grid {
                *tensor = tables::rounded(tensor.clone(), grid);
            }
            Ok::<Option<QuantParams>, CalibrateError>(grid)
        })?;
        for ((id, _), grid) in tensors.iter().zip(grids) {
            if self.weights[id.index()].is_some() {
                graph.values[id.index()].qparams = grid;
            }
        }
        for (id, tensor) in tensors.iter_mut() {
            match self.sites.site(*id) {
                Site::Bias { input, weight } => {
                    self.quantize_bias(graph, *id, tensor, [input, weight])?
                }
                Site::Activation { .. } => {
                    if let Some(grid) = &graph.value(*id).qparams {
                        quant::round(grid, tensor);
                    }
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// For each row of a weight that meets `input`, annotated before, the least scale with which its
    /// accumulator holds the bias `id`: the formulas' own is next to nothing where a row is all zero. None where
    /// the bias stays float.
    pub fn least_scales(
        &self,
        graph: &Graph,
        [input, id]: [ValueId; 2],
        bias: &Tensor,
    ) -> Option<Vec<f32>> {
        let (scale, dtype) = added_to(graph, input, id)?;
        Some(bias.data().iter().map(|&bias| quant::least_scale(bias, scale, dtype)).collect())
    }

    /// Rounds the bias `id` to the grid of its accumulator and annotates it; `input` and `weight` must
    /// be annotated before, or it stays float.
    ///
    /// # Errors
    /// A bias that its accumulator cannot hold.
    pub fn quantize_bias(
        &self,
        graph: &mut Graph,
        id: ValueId,
        tensor: &mut Tensor,
        [input, weight]: [ValueId; 2],
    ) -> Result<(), CalibrateError> {
        let weight = graph.value(weight).qparams.as_ref();
        let scales = weight.and_then(|grid| grid.row_scales(tensor.len()));
        let (Some((input, dtype)), Some(scales)) = (added_to(graph, input, id), scales) else {
            return Ok(());
        };
        let (params, _) =
            quant::quantize_bias(tensor.data(), input, &scales, dtype).map_err(|source| {
                CalibrateError::Bias { name: graph.value(id).name.clone(), source }
            })?;
        quant::round(&params, tensor);
        graph.values[id.index()].qparams = Some(params);
        Ok(())
    }
}

/// What the bias `id` behind `input` is added to: the scale of the input as the operator takes it, spread
/// where it meets wider grids, and the dtype of the accumulator.
fn added_to(graph: &Graph, input: ValueId, id: ValueId) -> Option<(f32, DType)> {
    let own = graph.value(input).qparams.as_ref()?;
    let node = graph.nodes.iter().find(|node| node.inputs.contains(&id));
    let met = node.and_then(|node| spread(graph, input, meeting(graph, node)?));
    let grid = met.as_ref().unwrap_or(own);
    let dtype = if grid.dtype()?.bits() > 8 { DType::INT64 } else { DType::INT32 };
    Some((grid.as_per_tensor()?.0, dtype))
}

/// Rounds the constants of an annotated graph to their grids.
pub fn quantize_constants(graph: &mut Graph) {
    for value in &mut graph.values {
        if let (Source::Const(tensor), Some(params)) = (&mut value.source, &value.qparams) {
            quant::round(params, tensor);
        }
    }
}
