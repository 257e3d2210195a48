//! Names that values have alone.

use crate::circle::SubGraph;
use std::collections::HashMap;

/// Every name that is taken, and how often others have asked for it.
#[derive(Default)]
pub(super) struct Names(HashMap<String, usize>);

impl Names {
    /// A name no other value has; the wanted one where possible.
    pub(super) fn give(&mut self, wanted: &str) -> String {
        let mut name = wanted.to_string();
        while self.0.contains_key(&name) {
            let asked = self.0.entry(wanted.to_string()).or_default();
            *asked += 1;
            name = format!("{wanted}#{asked}");
        }
        self.0.insert(name.clone(), 0);
        name
    }

    /// Tells the tensors of one name apart, inputs first; all their names are taken then.
    pub(super) fn of(graph: &mut SubGraph) -> Names {
        let mut names = Names::default();
        let mut named = vec![false; graph.tensors.len()];
        let inputs = graph.inputs.iter().filter_map(|&i| usize::try_from(i).ok());
        for i in inputs.chain(0..named.len()) {
            if !std::mem::replace(&mut named[i], true) {
                graph.tensors[i].name = names.give(&graph.tensors[i].name);
            }
        }
        names
    }
}
