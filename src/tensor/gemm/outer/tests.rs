use super::super::isa::Isa;
use super::*;

#[test]
fn outer_products_are_those_of_the_definition_for_every_rest() {
    let width = Isa::detect(super::super::Products::F32).panel_width();
    let values = |len: usize, seed: usize| -> Vec<f32> {
        (0..len).map(|i| ((i * 31 + seed) as f32 * 0.7).sin()).collect()
    };
    for (rows, n, k) in [(1, 1, 1), (5, 30, 3 * width), (9, 17, FINISHED * width + 3), (0, 4, 4)] {
        let (left, right) = (values(rows * n, 1), values(rows * k, 2));
        let blocks = [0..rows / 3, rows / 3..rows].map(|r| {
            let block = [&left[r.start * n..r.end * n], &right[r.start * k..r.end * k]];
            Outer::new(block, [n, k], Par::All)
        });
        for (first, columns, from) in [(0, n, 0), (n / 2, n - n / 2, width * (k / width / 2))] {
            let mut out = vec![1.0; columns * k];
            Outer::add_all(&blocks, &mut out, first, from);
            for (i, out) in out.iter().enumerate() {
                let (a, b) = (first + i / k, i % k);
                let products =
                    (0..rows).map(|row| f64::from(left[row * n + a] * right[row * k + b]));
                let expected = 1.0 + if b < from { 0.0 } else { products.sum() };
                assert!((out - expected).abs() < 1e-5, "{rows} {n} {k}: {a} {b}: {out} {expected}");
            }
        }
    }
}
