//! Experts that no calibration token reached.
//!
//! The activations of an expert are observed on the tokens sent to it alone, so one that gets none
//! has no statistics. Its siblings are the parts whose routes are slices of the same table; the
//! k-th node of one corresponds to the k-th node of another.

use super::{CalibrateError, Plan, Site, Statistics};
use crate::graph::{Graph, Source, ValueId};
use crate::quant::{NoRange, Observer, Range, UnseenExperts};
use std::collections::{BTreeMap, BTreeSet};

/// The classes that belong to experts.
pub(super) struct Experts {
    /// By class: the expert's name, and the place it has in its siblings too.
    places: BTreeMap<usize, (String, Place)>,
    /// Ranges that were seen in a place, united.
    seen: BTreeMap<Place, Range>,
}

/// The table of routes, and the position in the part.
type Place = (ValueId, usize);

impl Experts {
    /// Reads the experts of a graph, and what their classes have seen.
    pub(super) fn of(plan: &Plan, graph: &Graph, statistics: &Statistics) -> Experts {
        let mut experts = Experts { places: BTreeMap::new(), seen: BTreeMap::new() };
        let mut positions: BTreeMap<ValueId, usize> = BTreeMap::new();
        for node in &graph.nodes {
            let Some(route) = node.routed else { continue };
            let position = positions.entry(route).or_default();
            let place = (table(graph, route), *position);
            *position += 1;
            let Site::Activation { class } = plan.sites.site(node.output) else { continue };
            let name = &graph.value(route).name;
            let name = name.rsplit_once('.').map_or(&name[..], |(expert, _)| expert).to_owned();
            experts.places.entry(class).or_insert((name, place));
            if let Some(Ok(range)) = statistics.classes[class].as_ref().map(Observer::range) {
                let seen = experts.seen.entry(place).or_insert(range);
                *seen = seen.union(range);
            }
        }
        experts
    }

    /// The range of a class without statistics, from its siblings.
    pub(super) fn range(&self, class: usize) -> Option<Range> {
        self.places.get(&class).and_then(|(_, place)| self.seen.get(place)).copied()
    }
}

/// What the route of an expert is a slice of.
fn table(graph: &Graph, route: ValueId) -> ValueId {
    match graph.value(route).source {
        Source::Node(n) => graph.nodes[n].inputs[0],
        Source::Input | Source::Param(_) | Source::Const(_) => route,
    }
}

impl Plan {
    /// Names of the experts that no calibration token reached, in graph order.
    ///
    /// # Errors
    /// [`CalibrateError::UnseenExperts`] with those names, unless the policy says what to do.
    pub fn unseen_experts(
        &self,
        graph: &Graph,
        statistics: &Statistics,
    ) -> Result<Vec<String>, CalibrateError> {
        let experts = Experts::of(self, graph, statistics);
        let mut known = BTreeSet::new();
        let mut names = Vec::new();
        for (class, (name, _)) in &experts.places {
            let observer = statistics.classes[*class].as_ref();
            let unseen = matches!(observer.map(Observer::range), Some(Err(NoRange::Unseen)));
            if unseen && known.insert(name) {
                names.push(name.clone());
            }
        }
        match self.unseen {
            UnseenExperts::Refuse if !names.is_empty() => {
                Err(CalibrateError::UnseenExperts { names: names.join(", ") })
            }
            _ => Ok(names),
        }
    }
}
