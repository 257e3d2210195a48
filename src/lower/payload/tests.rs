use super::*;
use proptest::prelude::*;

fn digest(pieces: &[&[u8]]) -> u128 {
    let mut digest = Digest::default();
    pieces.iter().for_each(|piece| digest.write_all(piece).unwrap());
    digest.finish()
}

proptest! {
    #[test]
    fn a_digest_depends_on_every_byte_and_not_on_the_pieces(
        bytes in proptest::collection::vec(any::<u8>(), 1..200),
        cuts in proptest::collection::vec(any::<prop::sample::Index>(), 2),
        place in any::<prop::sample::Index>(),
        flip in 1u8..,
    ) {
        let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(bytes.len())).collect();
        cuts.sort_unstable();
        let whole = digest(&[&bytes]);
        let pieces = [&bytes[..cuts[0]], &bytes[cuts[0]..cuts[1]], &bytes[cuts[1]..]];
        prop_assert_eq!(digest(&pieces), whole);
        let mut other = bytes.clone();
        other[place.index(bytes.len())] ^= flip;
        prop_assert_ne!(digest(&[&other]), whole);
        other.clone_from(&bytes);
        other.push(0);
        prop_assert_ne!(digest(&[&other]), whole, "zeros at the end count");
    }
}
