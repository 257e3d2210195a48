use super::*;

#[test]
fn a_character_of_several_tokens_is_said_when_it_is_whole() {
    let mut spoken = Spoken::default();
    let mut said = Vec::new();
    for text in ["a", "a\u{fffd}", "a\u{fffd}\u{fffd}", "a\u{1f600}", "a\u{1f600}!"] {
        said.push(spoken.more(text.trim_end_matches(char::REPLACEMENT_CHARACTER)));
    }
    assert_eq!(said, ["a", "", "", "\u{1f600}", "!"]);
    assert_eq!(spoken.more("a\u{1f600}!\u{fffd}"), "\u{fffd}", "an end that never comes");
}

#[test]
fn a_cache_takes_only_what_fits_it() {
    let mut cache = Tensor::full([1, 2, 3, 2], 0.0);
    put_row(&mut cache, &Tensor::new([1, 2, 1, 2], vec![1.0, 2.0, 3.0, 4.0]), 2).unwrap();
    assert_eq!(cache.data(), [0., 0., 0., 0., 1., 2., 0., 0., 0., 0., 3., 4.]);
    for (shape, at) in [([1, 2, 1, 2], 3), ([1, 2, 1, 1], 0), ([1, 1, 1, 2], 0), ([1, 2, 3, 2], 0)]
    {
        assert_eq!(put_row(&mut cache, &Tensor::full(shape, 1.0), at), None, "{shape:?} at {at}");
    }
    assert_eq!(
        put_row(&mut Tensor::full([1, 2, 3], 0.0), &Tensor::full([1, 2, 1, 2], 1.0), 0),
        None
    );
    assert_eq!(first(&Tensor::full([1, 2, 0, 2], 0.0), 2).shape(), [1, 2, 0, 2]);
}
