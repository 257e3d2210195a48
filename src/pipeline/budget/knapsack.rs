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
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn sums(scopes: &[Vec<Item>], chosen: &[usize]) -> (u64, f64) {
        let items = scopes.iter().zip(chosen).map(|(items, &option)| items[option]);
        items.fold((0, 0.0), |(cost, loss), item| (cost + item.cost, loss + item.loss))
    }

    /// Every choice, tried.
    fn least_loss(scopes: &[Vec<Item>], limit: u64) -> Option<f64> {
        let mut sums = vec![(0, 0.0)];
        for items in scopes {
            let join = |&(cost, loss): &(u64, f64)| {
                items.iter().map(move |item| (cost + item.cost, loss + item.loss))
            };
            sums = sums.iter().flat_map(join).collect();
        }
        let fit = sums.into_iter().filter(|(cost, _)| *cost <= limit).map(|(_, loss)| loss);
        fit.min_by(f64::total_cmp)
    }

    fn scopes() -> impl Strategy<Value = Vec<Vec<Item>>> {
        let item = (1u64..20, 0u32..1000)
            .prop_map(|(cost, loss)| Item { cost, loss: f64::from(loss) / 64.0 });
        prop::collection::vec(prop::collection::vec(item, 1..4), 1..6)
    }

    proptest! {
        #[test]
        fn the_knapsack_is_as_good_as_trying_everything(scopes in scopes(), limit in 0u64..90) {
            match (choose(&scopes, limit), least_loss(&scopes, limit)) {
                (None, None) => {}
                (Some(chosen), Some(best)) => {
                    let (cost, loss) = sums(&scopes, &chosen);
                    prop_assert!(cost <= limit);
                    prop_assert_eq!(loss, best);
                }
                (chosen, best) => prop_assert!(false, "{chosen:?} {best:?}"),
            }
        }

        #[test]
        fn more_budget_is_never_worse(scopes in scopes(), limit in 0u64..90, more in 0u64..40) {
            if let Some(chosen) = choose(&scopes, limit) {
                let richer = choose(&scopes, limit + more).unwrap();
                prop_assert!(sums(&scopes, &richer).1 <= sums(&scopes, &chosen).1);
            }
        }
    }

    #[test]
    fn a_choice_that_can_be_checked_by_hand() {
        let item = |cost, loss| Item { cost, loss };
        // 8 bits help the first scope most for what they cost, but the second fits beside the third.
        let scopes = [
            vec![item(4, 9.0), item(8, 1.0)],
            vec![item(2, 5.0), item(4, 1.0)],
            vec![item(2, 5.0), item(4, 0.5)],
        ];
        assert_eq!(choose(&scopes, 7), None);
        assert_eq!(choose(&scopes, 8), Some(vec![0, 0, 0]));
        assert_eq!(choose(&scopes, 11), Some(vec![0, 0, 1]));
        assert_eq!(choose(&scopes, 12), Some(vec![0, 1, 1]));
        assert_eq!(choose(&scopes, 16), Some(vec![1, 1, 1]));
    }
}
