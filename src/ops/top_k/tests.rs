use super::*;
use crate::tensor::Par;

#[test]
fn the_greatest_come_first_and_of_equals_the_first() {
    let x = Tensor::new([2, 4], vec![1.0, 3.0, 3.0, 2.0, 0.0, -0.5, 0.0, 0.0]);
    let out = TopK { k: 3 }.eval(&[&x], Par::Seq.into());
    assert_eq!((out.shape(), out.data()), (&[2, 3][..], &[1.0, 2.0, 3.0, 0.0, 2.0, 3.0][..]));
}

#[test]
fn more_than_a_row_has_cannot_be_chosen() {
    let error = TopK { k: 5 }.shape(&[&[2, 4]]).unwrap_err();
    assert_eq!(error, "5 of the 4 in a row");
}
