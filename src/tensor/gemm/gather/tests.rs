//! Claims that are wrong.

use super::*;

#[test]
fn numbers_off_their_grid_are_noticed() {
    let steps = Steps { sizes: &[0.5], limits: [-8, 7], span: 15 };
    for wrong in [0.25, 4.0, -4.5, f32::NAN, f32::INFINITY, 3e9] {
        for at in 0..3 {
            let mut numbers = [0.5, 1.0, -4.0];
            for of in [2, 4] {
                assert!(gathered(&numbers, 3, steps, (of, &[]), Par::Seq).is_some());
                numbers[at] = wrong;
                assert!(
                    gathered(&numbers, 3, steps, (of, &[]), Par::Seq).is_none(),
                    "{wrong} at {at}"
                );
                numbers = [0.5, 1.0, -4.0];
            }
        }
    }
}
