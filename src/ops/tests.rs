//! Laws that every operator obeys.

use super::*;
use crate::tensor::{self, Par};
use proptest::prelude::*;

fn ramp(shape: &[usize]) -> Tensor {
    let len: usize = shape.iter().product();
    Tensor::new(shape, (0..len).map(|i| ((i * 37 % 101) as f32 - 50.0) * 0.1).collect())
}

fn check(op: &Op, inputs: &[Tensor]) -> Tensor {
    let shapes: Vec<&[usize]> = inputs.iter().map(|t| t.shape()).collect();
    let shape = op.def().shape(&shapes).unwrap();
    let refs: Vec<&Tensor> = inputs.iter().collect();
    let out = op.def().eval(&refs, Par::Seq.into());
    assert_eq!(out.shape(), shape, "{}", op.name());
    for par in [Par::Seq, Par::All] {
        assert_eq!(out, op.def().eval(&refs, par.into()), "{} depends on the threads", op.name());
        finished_once(op, &refs, &out, par);
    }
    out
}

/// Adds to every element what only its place says, so that one left out, finished twice or called
/// by another's index shows.
fn finished_once(op: &Op, inputs: &[&Tensor], plain: &Tensor, par: Par) {
    let mark = |i: usize| 1.0 + (i % 97) as f32;
    let finish = |at: usize, piece: &mut [f32]| {
        piece.iter_mut().zip(at..).for_each(|(x, i)| *x += mark(i));
    };
    let mut all = vec![op.def().eval(inputs, Run::new(par, &finish))];
    let shapes: Vec<&[usize]> = inputs.iter().map(|t| t.shape()).collect();
    if op.def().in_place(&shapes) {
        let mine = Tensor::new(inputs[0].shape(), inputs[0].data().to_vec());
        let at = mine.data().as_ptr();
        let over = op.def().eval_over(mine, &inputs[1..], Run::new(par, &finish));
        let large = over.len() >= tensor::LARGE;
        assert_eq!(large, over.data().as_ptr() == at, "{} writes over large ones", op.name());
        all.push(over);
    }
    for (i, y) in plain.data().iter().enumerate() {
        for x in &all {
            assert_eq!(x.data()[i], y + mark(i), "{} finishes element {i} otherwise", op.name());
        }
    }
}

#[test]
fn shape_rule_is_the_kernels_shape() {
    let x = ramp(&[2, 3, 4, 8]);
    check(&Linear.into(), &[x.clone(), ramp(&[5, 8]), ramp(&[5])]);
    check(&MatMul { transpose_rhs: true }.into(), &[x.clone(), ramp(&[2, 3, 6, 8])]);
    check(&MatMul { transpose_rhs: false }.into(), &[x.clone(), ramp(&[2, 3, 8, 6])]);
    check(&RmsNorm { epsilon: 1e-6 }.into(), &[x.clone(), ramp(&[8])]);
    check(&Mean.into(), std::slice::from_ref(&x));
    check(&Reshape { shape: vec![6, 32] }.into(), std::slice::from_ref(&x));
    check(&TopK { k: 3 }.into(), std::slice::from_ref(&x));
    check(&Scatter.into(), &[x.clone(), ramp(&[2, 3, 8, 6])]);
    check(&Softmax.into(), std::slice::from_ref(&x));
    check(&Gather.into(), &[ramp(&[9, 4]), Tensor::new([1, 3], vec![8.0, 0.0, 3.0])]);
    for kind in [UnaryKind::Logistic, UnaryKind::GeluTanh, UnaryKind::GeluErf] {
        check(&Unary { kind }.into(), std::slice::from_ref(&x));
    }
    for kind in [BinaryKind::Add, BinaryKind::Sub, BinaryKind::Mul] {
        for other in
            [&[2, 3, 4, 8][..], &[8], &[4, 8], &[1, 1, 4, 8], &[2, 3, 4, 1], &[3, 1, 1], &[]]
        {
            check(&Binary { kind }.into(), &[x.clone(), ramp(other)]);
            check(&Binary { kind }.into(), &[ramp(other), x.clone()]);
        }
    }
}

#[test]
fn large_results_are_made_and_finished_in_pieces() {
    let x = ramp(&[9, 30, 1024]);
    let one = std::slice::from_ref(&x);
    check(&Linear.into(), &[x.clone(), ramp(&[700, 1024]), ramp(&[700])]);
    check(&MatMul { transpose_rhs: true }.into(), &[x.clone(), ramp(&[9, 900, 1024])]);
    check(&Binary { kind: BinaryKind::Add }.into(), &[x.clone(), ramp(&[30, 1024])]);
    check(&Binary { kind: BinaryKind::Mul }.into(), &[x.clone(), x.clone()]);
    let means = ramp(&[9, 30, 1]);
    let centred = check(&Binary { kind: BinaryKind::Sub }.into(), &[x.clone(), means.clone()]);
    for (i, out) in centred.data().iter().enumerate() {
        assert_eq!(*out, x.data()[i] - means.data()[i / 1024]);
    }
    check(&Softmax.into(), one);
    check(&RmsNorm { epsilon: 1e-6 }.into(), &[x.clone(), ramp(&[1024])]);
    check(&Unary { kind: UnaryKind::Logistic }.into(), one);
    check(&Transpose { perm: vec![1, 0, 2] }.into(), one);
    check(&Slice { begin: vec![0, 0, 1], size: vec![9, 30, 1000] }.into(), one);
    check(&Concat { axis: 2 }.into(), &[x.clone(), x.clone()]);
}

#[test]
fn misfits_are_refused_with_the_shapes() {
    let refuse = |op: Op, shapes: &[&[usize]]| op.def().shape(shapes).unwrap_err();
    assert_eq!(refuse(Linear.into(), &[&[2, 3], &[5, 4]]), "[2, 3] does not meet weight [5, 4]");
    let add = Binary { kind: BinaryKind::Add };
    assert_eq!(refuse(add.into(), &[&[3, 8], &[3, 7]]), "[3, 8] and [3, 7] do not broadcast");
    let slice = Slice { begin: vec![2], size: vec![3] };
    assert_eq!(refuse(slice.into(), &[&[4]]), "[2] + [3] is no box in [4]");
}

proptest! {
    #[test]
    fn transposing_there_and_back_is_identity(shape in prop::collection::vec(1usize..5, 1..5), seed in any::<u64>()) {
        let mut perm: Vec<usize> = (0..shape.len()).collect();
        for i in (1..perm.len()).rev() {
            perm.swap(i, (seed >> (8 * i)) as usize % (i + 1));
        }
        let mut back = vec![0; perm.len()];
        for (i, &p) in perm.iter().enumerate() {
            back[p] = i;
        }
        let x = ramp(&shape);
        let there = check(&Transpose { perm }.into(), std::slice::from_ref(&x));
        prop_assert_eq!(check(&Transpose { perm: back }.into(), &[there]), x);
    }

    #[test]
    fn slices_joined_are_the_whole(shape in prop::collection::vec(2usize..6, 1..5), axis in any::<prop::sample::Index>(), cut in any::<prop::sample::Index>()) {
        let axis = axis.index(shape.len());
        let cut = 1 + cut.index(shape[axis] - 1);
        let x = ramp(&shape);
        let part = |from: usize, len: usize| {
            let (mut begin, mut size) = (vec![0; shape.len()], shape.clone());
            (begin[axis], size[axis]) = (from, len);
            check(&Slice { begin, size }.into(), std::slice::from_ref(&x))
        };
        let joined = check(&Concat { axis }.into(), &[part(0, cut), part(cut, shape[axis] - cut)]);
        prop_assert_eq!(joined, x);
    }

    #[test]
    fn broadcasting_equals_the_definition(mask in 0u8..8, flip in any::<bool>()) {
        let full = [3usize, 4, 5];
        let other: Vec<usize> = (0..3).map(|i| if mask >> i & 1 == 1 { full[i] } else { 1 }).collect();
        let (a, b) = (ramp(&full), ramp(&other));
        let strides = [other[1] * other[2], other[2], 1];
        let expected: Vec<f32> = (0..60).map(|i| {
            let at = [i / 20, i / 5 % 4, i % 5];
            let j: usize = (0..3).map(|k| if other[k] == 1 { 0 } else { at[k] * strides[k] }).sum();
            let (x, y) = if flip { (b.data()[j], a.data()[i]) } else { (a.data()[i], b.data()[j]) };
            x - y
        }).collect();
        let inputs = if flip { [b, a] } else { [a, b] };
        let out = check(&Binary { kind: BinaryKind::Sub }.into(), &inputs);
        prop_assert_eq!(out.data(), &expected[..]);
    }
}
