use super::*;
use crate::quant::{DType, MergeableObserver, Observer, ObserverSpec, Scheme};
use proptest::prelude::*;

fn origin() -> Origin {
    let text = String::from;
    Origin {
        version: text("1"),
        checkpoint: text("c"),
        recipe: text("[policy]\na = 1\n"),
        layout: text("8 tokens"),
        calibration: text("r"),
    }
}

fn fresh() -> Vec<MergeableObserver> {
    let specs = ["minmax", "percentile:99", "mse", "octav", "softmax:8"];
    let grid = (DType::INT8, Scheme::PER_TENSOR_SYMM);
    let build = |spec: &str| spec.parse::<ObserverSpec>().unwrap().build(grid.0, grid.1).unwrap();
    let mut observers: Vec<_> =
        specs.into_iter().map(|spec| build(spec).into_mergeable().unwrap()).collect();
    let by_row = ObserverSpec::Mse.build(grid.0, Scheme::per_channel_symm(0)).unwrap();
    observers.push(by_row.into_mergeable().unwrap());
    observers
}

/// What a process that takes `range` of `samples` has in the end.
fn collect(samples: &[Vec<f32>], range: std::ops::Range<usize>) -> Collected {
    let mut observers = fresh();
    for sample in &samples[range.clone()] {
        observers.iter_mut().for_each(|observer| observer.observe(sample, &[2, 4]));
    }
    let classes = observers.into_iter().enumerate();
    let classes = classes.map(|(i, observer)| (format!("class {i}"), Some(observer)));
    let classes = classes.chain([(String::from("index"), None)]).collect();
    Collected { origin: origin(), rows: Rows::new(range, samples.len()), classes }
}

/// Ranges between neighbouring cuts.
fn split(len: usize, cuts: &[usize]) -> Vec<std::ops::Range<usize>> {
    let mut ends: Vec<usize> = cuts.iter().map(|cut| cut % (len + 1)).chain([0, len]).collect();
    ends.sort_unstable();
    ends.windows(2).map(|pair| pair[0]..pair[1]).collect()
}

proptest! {
    #[test]
    fn any_split_merged_in_any_order_has_the_bytes_of_one_run(
        samples in prop::collection::vec(prop::collection::vec(-1e3_f32..1e3, 8), 1..12),
        cuts in prop::collection::vec(any::<usize>(), 0..6),
        order in prop::collection::vec(any::<(usize, usize)>(), 8),
    ) {
        let whole = collect(&samples, 0..samples.len());
        let mut parts: Vec<Collected> =
            split(samples.len(), &cuts).into_iter().map(|range| collect(&samples, range)).collect();
        // a tree of merges: any two, until one is left
        for (one, other) in order.into_iter().cycle() {
            if parts.len() == 1 {
                break;
            }
            let taken = parts.swap_remove(one % parts.len());
            let into = other % parts.len();
            let through_a_file = Collected::from_bytes(&taken.to_bytes()).unwrap();
            parts[into].merge(&through_a_file).unwrap();
        }
        prop_assert_eq!(parts[0].to_bytes(), whole.to_bytes());
        prop_assert!(parts[0].rows().complete().is_ok());
    }

    #[test]
    fn a_run_of_a_fifteenth_of_a_tensor_never_goes_unseen(
        len in 1_usize..1 << 24,
        at in any::<prop::sample::Index>(),
    ) {
        let parts = fingerprint::parts(len);
        let (first, last) = (&parts[0], &parts[parts.len() - 1]);
        prop_assert_eq!((first.start, last.end), (0, len));
        let run = at.index(len - len / 15);
        let seen = |part: &std::ops::Range<usize>| part.start < run + len / 15 + 1 && run < part.end;
        prop_assert!(parts.iter().any(seen));
        prop_assert!(parts.iter().map(ExactSizeIterator::len).sum::<usize>() <= len.min(1 << 16));
    }

    #[test]
    fn shares_are_neighbours_that_cover_all_rows(total in 1_usize..500, of in 1_usize..40) {
        let mut at = 0;
        for index in 1..=of {
            let share = Share::new(index, of).unwrap();
            prop_assert_eq!(share.to_string().parse::<Share>().unwrap(), share);
            match share.rows(total) {
                Ok(rows) => {
                    prop_assert_eq!(rows.start, at);
                    prop_assert!(rows.len() == total / of || rows.len() == total / of + 1);
                    at = rows.end;
                }
                Err(error) => {
                    prop_assert!(total < of, "{}", error);
                    at = total;
                }
            }
        }
        prop_assert_eq!(at, total);
    }

    #[test]
    fn damaged_files_are_refused_and_never_panic(
        at in any::<prop::sample::Index>(),
        byte in any::<u8>(),
        sealed in any::<bool>(),
    ) {
        let good = collect(&[vec![1.5; 8]], 0..1);
        let mut bytes = good.to_bytes();
        let at = at.index(bytes.len());
        prop_assert!(Collected::from_bytes(&bytes[..at]).is_err());
        prop_assume!(bytes[at] != byte);
        bytes[at] = byte;
        if sealed {
            // as somebody would who damages on purpose
            let end = bytes.len() - 8;
            let mut hash = Fnv::default();
            hash.add(&bytes[..end]);
            bytes[end..].copy_from_slice(&hash.0.to_le_bytes());
            if let Ok(strange) = Collected::from_bytes(&bytes) {
                let _ = good.clone().merge(&strange);
                let _ = strange.clone().merge(&good);
                let observers = strange.classes.iter().filter_map(|(_, observer)| observer.as_ref());
                observers.for_each(|observer| drop(observer.ranges()));
            }
        } else {
            prop_assert!(Collected::from_bytes(&bytes).is_err());
        }
    }
}

#[test]
fn other_jobs_are_refused_with_the_field() {
    let samples = vec![vec![1.0; 8]; 4];
    let mut mine = collect(&samples, 0..2);
    let mut refused = |edit: &dyn Fn(&mut Collected)| {
        let mut other = collect(&samples, 2..4);
        edit(&mut other);
        mine.merge(&other).unwrap_err().to_string()
    };
    let error = refused(&|other| other.origin.recipe = "[policy]\na = 2\n".into());
    assert!(error.contains("recipe: found `[policy] a = 2`, expected `[policy] a = 1`"), "{error}");
    let error = refused(&|other| other.origin.recipe = "[policy]\na = 1\n\n[algo]\nb = 2\n".into());
    assert!(error.contains("recipe: found `[algo]`, expected nothing"), "{error}");
    let error = refused(&|other| other.origin.checkpoint = "d".into());
    assert!(error.contains("checkpoint: found `d`, expected `c`"), "{error}");
    let error = refused(&|other| other.origin.version = "2".into());
    assert!(error.contains("version"), "{error}");
    let error = refused(&|other| other.rows = Rows::new(2..4, 9));
    assert!(error.contains("number of rows: found 9, expected 4"), "{error}");
}

#[test]
fn overlapping_and_missing_rows_are_named_as_people_count() {
    let samples = vec![vec![1.0; 8]; 9];
    let mut mine = collect(&samples, 0..4);
    let before = mine.clone();
    let error = mine.merge(&collect(&samples, 2..6)).unwrap_err().to_string();
    assert!(error.contains("rows 3-4 are in both"), "{error}");
    mine.merge(&collect(&samples, 5..8)).unwrap();
    let error = mine.rows().complete().unwrap_err().to_string();
    assert!(error.contains("rows 5, 9 of 9"), "{error}");
    // the same shard twice
    let error = mine.merge(&before).unwrap_err().to_string();
    assert!(error.contains("rows 1-4"), "{error}");
}

#[test]
fn texts_that_are_no_share_are_refused() {
    for text in ["0/4", "5/4", "1", "1/0", "a/b", "-1/2", "1/2/3", ""] {
        let error = text.parse::<Share>().unwrap_err().to_string();
        assert!(error.contains(&format!("`{text}`")) && error.contains("I/N"), "{error}");
    }
    let error = Share::new(1, 4).unwrap().rows(3).unwrap_err().to_string();
    assert!(error.contains("1/4") && error.contains("found 3"), "{error}");
}

#[test]
fn extremes_upside_down_are_refused() {
    let upside_down = |low: f32, high: f32| {
        let mut good = collect(&[vec![1.5, 2.5, 2.5, 2.5, 1.5, 1.5, 1.5, 1.5]], 0..1).to_bytes();
        let ends = [1.5_f32, 2.5].map(f32::to_le_bytes);
        for (at, end) in [(0, low), (1, high)] {
            let found = good.windows(4).position(|four| four == ends[at]).unwrap();
            good[found..found + 4].copy_from_slice(&end.to_le_bytes());
        }
        let end = good.len() - 8;
        let mut hash = Fnv::default();
        hash.add(&good[..end]);
        good[end..].copy_from_slice(&hash.0.to_le_bytes());
        Collected::from_bytes(&good).map(drop)
    };
    assert!(upside_down(1.25, 2.75).is_ok());
    for (low, high) in [(3.0, 2.5), (f32::NAN, 2.5), (1.5, f32::NAN)] {
        let error = upside_down(low, high).unwrap_err().to_string();
        assert!(error.contains("body"), "{low}..{high}: {error}");
    }
}
