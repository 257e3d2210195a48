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
    let item =
        (1u64..20, 0u32..1000).prop_map(|(cost, loss)| Item { cost, loss: f64::from(loss) / 64.0 });
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
