//! Statistics taken apart, to leave this process, and put together again.

use super::{CalibrateError, Plan, Statistics};
use crate::graph::Graph;
use crate::quant::{AnyObserver, Merge, MergeError, MergeableObserver, NoRange, Observer};

/// The observer of each class, by the name of its first member; none where nothing is observed.
pub type Parts = Vec<(String, Option<MergeableObserver>)>;

impl Statistics {
    /// The observers by class.
    ///
    /// # Errors
    /// The name of a class whose observer depends on the order of samples.
    pub fn into_parts(self, plan: &Plan, graph: &Graph) -> Result<Parts, CalibrateError> {
        let named = self.classes.into_iter().enumerate().map(|(i, observer)| {
            let name = graph.value(plan.sites.classes[i].members[0]).name.clone();
            match observer.map(AnyObserver::into_mergeable).transpose() {
                Ok(observer) => Ok((name, observer)),
                Err(_) => Err(CalibrateError::Ordered { name }),
            }
        });
        named.collect()
    }

    /// The other way; what cannot be statistics of this graph under `plan` is refused.
    ///
    /// # Errors
    /// The name of a class that is another, or whose observer is another or of another extent.
    pub fn from_parts(
        plan: &Plan,
        graph: &Graph,
        parts: Parts,
    ) -> Result<Statistics, CalibrateError> {
        let mut statistics = Statistics::new(plan);
        let differ = |name: &str, one: String, other: String| {
            let source = MergeError { one, other };
            CalibrateError::Foreign { name: name.into(), source }
        };
        let classes = statistics.classes.len();
        if parts.len() != classes {
            let (one, other) = (format!("{} classes", parts.len()), format!("{classes} classes"));
            return Err(differ("statistics", one, other));
        }
        for (i, (named, part)) in parts.into_iter().enumerate() {
            let id = plan.sites.classes[i].members[0];
            let name = &graph.value(id).name;
            if *name != named {
                return Err(differ(name, named, name.clone()));
            }
            match (&mut statistics.classes[i], part) {
                (Some(AnyObserver::Mergeable(fresh)), Some(part)) => {
                    adopt(fresh, &part, &graph.value(id).shape)
                        .map_err(|source| CalibrateError::Foreign { name: name.clone(), source })?;
                }
                (None, None) => {}
                (mine, _) => {
                    let known = |some: bool| if some { "an observer" } else { "none" };
                    let (one, other) = (known(mine.is_none()), known(mine.is_some()));
                    return Err(differ(name, one.into(), other.into()));
                }
            }
        }
        Ok(statistics)
    }
}

/// Makes `part` the content of `fresh`, which has seen nothing yet.
fn adopt(
    fresh: &mut MergeableObserver,
    part: &MergeableObserver,
    shape: &[usize],
) -> Result<(), MergeError> {
    let mut joined = fresh.clone();
    joined.merge(part)?;
    match joined.ranges() {
        Ok(ranges) if ranges.len() == 1 => *fresh = joined,
        Ok(ranges) => {
            let one = format!("{} ranges", ranges.len());
            return Err(MergeError { one, other: "1 range".into() });
        }
        Err(NoRange::Unseen) => {}
        // whatever its extent says, all that can be done with it is to refuse it by name
        Err(_) => fresh.observe(&vec![f32::NAN; shape.iter().product()], shape),
    }
    Ok(())
}
