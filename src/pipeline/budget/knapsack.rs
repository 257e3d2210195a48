//! The choice of one option a scope with the least sum of losses under a limit on the sum of costs.
//!
//! Exact: scopes join one after the other, and of all partial choices those stay that no other beats
//! in both sums (Nemhauser & Ullmann, "Discrete Dynamic Programming and Capital Allocation",
//! Management Science 15, 1969). A partial choice that is dominated stays so whatever follows, so
//! the best of the last front is the best of all.

/// What one option of a scope costs, and what is lost with it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Item {
    pub(super) cost: u64,
    pub(super) loss: f64,
}

/// A partial choice.
#[derive(Clone, Copy)]
struct Node {
    cost: u64,
    loss: f64,
    option: usize,
    /// Where in the front before.
    parent: usize,
}

/// The option of each scope; none if the limit is below the least possible cost. Of choices with
/// equal losses the cheapest.
pub(super) fn choose(scopes: &[Vec<Item>], limit: u64) -> Option<Vec<usize>> {
    let cheapest = |items: &Vec<Item>| items.iter().map(|item| item.cost).min().unwrap_or(0);
    // What all later scopes cost at least.
    let mut later: u64 = scopes.iter().map(cheapest).sum();
    let mut fronts: Vec<Vec<Node>> = vec![vec![Node { cost: 0, loss: 0.0, option: 0, parent: 0 }]];
    for items in scopes {
        later -= cheapest(items);
        let before = fronts.last().map_or(&[][..], Vec::as_slice);
        let extend = |(parent, node): (usize, &Node)| {
            let (cost, loss) = (node.cost, node.loss);
            let join = move |(option, item): (usize, &Item)| Node {
                cost: cost + item.cost,
                loss: loss + item.loss,
                option,
                parent,
            };
            items.iter().enumerate().map(join).collect::<Vec<Node>>()
        };
        let all = before.iter().enumerate().flat_map(extend);
        fronts.push(front(all.filter(|node| node.cost + later <= limit).collect()));
    }
    let last = fronts.last()?;
    let mut at = last.len().checked_sub(1)?;
    let mut chosen = Vec::with_capacity(scopes.len());
    for front in fronts[1..].iter().rev() {
        chosen.push(front[at].option);
        at = front[at].parent;
    }
    chosen.reverse();
    Some(chosen)
}

/// Those that no other beats: costs rise, losses fall.
fn front(mut nodes: Vec<Node>) -> Vec<Node> {
    nodes.sort_by(|a, b| a.cost.cmp(&b.cost).then(a.loss.total_cmp(&b.loss)));
    let mut kept: Vec<Node> = Vec::new();
    for node in nodes {
        if kept.last().is_none_or(|last| node.loss < last.loss) {
            kept.push(node);
        }
    }
    kept
}

#[cfg(test)]
mod tests;
