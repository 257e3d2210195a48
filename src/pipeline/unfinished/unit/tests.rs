use super::*;
use crate::quant::{self, DType, Grain};
use proptest::prelude::*;

fn layer(name: &str, n: usize, k: usize) -> Layer {
    cut(name, [n, k], Grain::Axis(0))
}

fn cut(name: &str, [n, k]: [usize; 2], grain: Grain) -> Layer {
    let count = grain.grids(&[n, k]).unwrap();
    let scale = (0..count).map(|i| 0.01 + 1e-4 * i as f32).collect();
    let zero_point = vec![7; count];
    let grid = QuantParams::Affine { dtype: DType::UINT4, scale, zero_point, grain };
    let mut tensor = Tensor::new([n, k], (0..n * k).map(|i| (i as f32).sin()).collect());
    quant::round(&grid, &mut tensor);
    let few = Note::FewTokens { layer: name.into(), tokens: 7, channels: k };
    let damped = Note::Damped { layer: name.into(), asked: 1e-12, needed: 0.1 };
    (name.into(), tensor, grid, vec![few, damped])
}

#[test]
fn layers_come_back_as_they_were_dense_and_on_demand() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("0.codes");
    // The second is read in several parts, with rows that end within a byte.
    let groups = cut("c", [401, 1501], Grain::Groups(79));
    let layers = [layer("a", 3, 5), layer("b", 401, 1501), groups];
    write(&layers, &path).unwrap();
    let (unit, list) = Unit::open(&path).unwrap().unwrap();
    for ((name, tensor, grid, notes), entry) in layers.iter().zip(&list) {
        assert_eq!((name, grid), (&entry.name, &entry.grid));
        assert_eq!(entry.notes().as_ref(), Some(notes));
        assert_eq!(unit.load(entry).as_ref(), Some(tensor));
        let trouble = Trouble::default();
        assert_eq!(&unit.made(entry, &trouble), tensor);
        trouble.check().unwrap();
    }
}

proptest! {
    #[test]
    fn what_is_cut_or_changed_does_not_count(
        at in any::<prop::sample::Index>(),
        byte in any::<u8>(),
    ) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("0.codes");
        write(&[layer("a", 3, 5)], &path).unwrap();
        let bytes = std::fs::read(&path).unwrap();
        let at = at.index(bytes.len());
        std::fs::write(&path, &bytes[..at]).unwrap();
        prop_assert!(Unit::open(&path).unwrap().is_none());
        let mut changed = bytes.clone();
        changed[at] = byte;
        std::fs::write(&path, &changed).unwrap();
        prop_assert_eq!(Unit::open(&path).unwrap().is_some(), changed == bytes);
    }
}
