//! Observers: what they keep, and that shards add up.

use proptest::prelude::*;

use crate::quant::*;

fn minmax(grain: Grain, data: &[f32], shape: &[usize]) -> MinMax {
    let mut observer = MinMax::new(grain);
    observer.observe(data, shape);
    observer
}

#[test]
fn min_max_reduces_every_other_axis() {
    let data = [1.0, -2.0, 3.0, 4.0, 5.0, -6.0];
    let r = |a, b| Range::new(a, b);
    assert_eq!(minmax(Grain::Tensor, &data, &[2, 3]).ranges(), Ok(vec![r(-6.0, 5.0)]));
    assert_eq!(
        minmax(Grain::Axis(0), &data, &[2, 3]).ranges(),
        Ok(vec![r(-2.0, 3.0), r(-6.0, 5.0)])
    );
    let columns = vec![r(1.0, 4.0), r(-2.0, 5.0), r(-6.0, 3.0)];
    assert_eq!(minmax(Grain::Axis(1), &data, &[2, 3]).ranges(), Ok(columns));
    assert_eq!(minmax(Grain::Axis(1), &data, &[2, 3]).range(), Ok(r(-6.0, 5.0)));
}

#[test]
fn moving_average_starts_at_the_first_batch_and_takes_each_as_a_whole() {
    let mut ema = Ema::new(0.9).unwrap();
    assert_eq!(ema.ranges(), Err(NoRange::Unseen));
    ema.begin(Some(0));
    ema.observe(&[-1.0, 0.5], &[2]);
    ema.observe(&[0.0, 1.0], &[2]);
    assert_eq!(ema.range(), Ok(Range::new(-1.0, 1.0)));
    // the third is not reached
    ema.begin(Some(3));
    ema.observe(&[-3.0, 2.0], &[2]);
    // whatever comes late of an earlier one
    ema.begin(Some(1));
    let range = ema.range().unwrap();
    assert!((range.min + 1.2).abs() < 1e-6 && (range.max - 1.1).abs() < 1e-6, "{range:?}");
    ema.begin(None);
    ema.observe(&[0.0, 7.0], &[2]);
    assert_eq!(ema.range(), Ok(Range::new(range.min, 7.0)));
    assert!(Ema::new(1.0).is_none());
}

#[test]
fn percentile_drops_tails_by_sign() {
    let data: Vec<f32> = (0..=1000).map(|i| i as f32).collect();
    let keep = |data: &[f32], symmetric, p| {
        let mut observer = Percentile::new(Share::Middle(p), symmetric, Grain::Tensor).unwrap();
        observer.observe(data, &[data.len()]);
        observer.range().unwrap()
    };
    let near = |found: f32, expected: f32| (found - expected).abs() <= expected.abs() / 128.0;
    let upper = keep(&data, false, 90.0);
    assert!(upper.min == 0.0 && near(upper.max, 900.0), "{upper:?}");
    let negative: Vec<f32> = data.iter().map(|x| -x).collect();
    let lower = keep(&negative, false, 90.0);
    assert!(lower.max == 0.0 && near(lower.min, -900.0), "{lower:?}");
    let centred: Vec<f32> = data.iter().map(|x| x - 500.0).collect();
    let both = keep(&centred, false, 90.0);
    assert!(near(both.min, -450.0) && near(both.max, 450.0), "{both:?}");
    let symmetric = keep(&centred, true, 90.0);
    assert!(near(symmetric.max, 450.0) && symmetric.min == -symmetric.max, "{symmetric:?}");
    assert_eq!(keep(&centred, false, 100.0), Range::new(-500.0, 500.0));
}

fn gaussian(n: usize) -> Vec<f32> {
    let mut state = 1_u64;
    let mut uniform = move || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (state >> 40) as f32 / 16_777_216.0
    };
    (0..n).map(|_| (0..12).map(|_| uniform()).sum::<f32>() - 6.0).collect()
}

fn squared_error(dtype: DType, scheme: Scheme, range: Range, data: &[f32]) -> f64 {
    let params = QuantParams::from_range(dtype, scheme, range).unwrap();
    let mut snapped = data.to_vec();
    fake_quant(&params, &[data.len()], &mut snapped);
    data.iter().zip(snapped).map(|(x, y)| f64::from(x - y).powi(2)).sum()
}

#[test]
fn mse_beats_min_max_where_there_are_outliers_and_is_never_much_worse() {
    let mut data = gaussian(20_000);
    data.push(40.0);
    for (dtype, scheme) in [
        (DType::UINT4, Scheme::PER_TENSOR_ASYMM),
        (DType::INT4, Scheme::PER_TENSOR_SYMM),
        (DType::UINT8, Scheme::PER_TENSOR_ASYMM),
        (DType::INT16, Scheme::PER_TENSOR_SYMM),
    ] {
        let mut observer = Mse::new(dtype, scheme);
        observer.observe(&data, &[data.len()]);
        let found = observer.range().unwrap();
        let exact = minmax(Grain::Tensor, &data, &[data.len()]).range().unwrap();
        let clipped = squared_error(dtype, scheme, found, &data);
        let full = squared_error(dtype, scheme, exact, &data);
        let bound = if dtype.bits() == 4 { 0.5 } else { 1.001 };
        assert!(clipped <= bound * full, "{dtype}: {found:?} {clipped} against {full}");
        // brute force on the data itself finds nothing clearly better
        let best = (1..200)
            .map(|i| i as f32 / 200.0)
            .map(|s| Range::new(exact.min * s.max(0.0), exact.max * s))
            .map(|range| squared_error(dtype, scheme, range, &data))
            .fold(full, f64::min);
        assert!(clipped <= best * 1.02, "{dtype}: {clipped} against brute force {best}");
    }
}

#[test]
fn mse_searches_the_short_end_of_a_range_by_itself_where_zero_points_are_few() {
    let data: Vec<f32> = gaussian(20_000).iter().map(|x| x / (1.0 + (-2.0 * x).exp())).collect();
    let scheme = Scheme::PER_TENSOR_ASYMM;
    let mut observer = Mse::new(DType::UINT4, scheme);
    observer.observe(&data, &[data.len()]);
    let found = squared_error(DType::UINT4, scheme, observer.range().unwrap(), &data);
    let exact = minmax(Grain::Tensor, &data, &[data.len()]).range().unwrap();
    let shares = || (0..40).map(|i| i as f32 / 40.0);
    let best = shares()
        .flat_map(|low| shares().map(move |high| (low, high + 1.0 / 40.0)))
        .map(|(low, high)| Range::new(exact.min * low, exact.max * high))
        .map(|range| squared_error(DType::UINT4, scheme, range, &data))
        .fold(f64::INFINITY, f64::min);
    assert!(found <= best * 1.02, "{found} against brute force {best}");
}

/// Sakr et al. 2022: the bound is a fixed point of equal noise inside and clipping error outside.
#[test]
fn octav_finds_the_fixed_point_of_the_paper_and_beats_min_max_where_there_are_outliers() {
    let mut data = gaussian(20_000);
    data.push(40.0);
    let scheme = Scheme::PER_TENSOR_SYMM;
    let mut observer = Octav::new(DType::INT4, scheme);
    observer.observe(&data, &[data.len()]);
    let s = f64::from(observer.range().unwrap().max);
    let outside = data.iter().map(|x| f64::from(x.abs())).filter(|x| *x > s);
    let (count, sum) = outside.fold((0.0, 0.0), |(n, sum), x| (n + 1.0, sum + x));
    let inside = data.len() as f64 - count;
    let expected = sum / (0.25f64.powi(4) / 3.0 * inside + count);
    assert!((s - expected).abs() < 0.01 * s, "{s} maps to {expected}");
    // 2.55 standard deviations are optimal for a Gaussian at 4 bits; the outlier pulls a little
    assert!((2.4..2.8).contains(&s), "{s}");
    let error = |range| squared_error(DType::INT4, scheme, range, &data);
    assert!(error(observer.range().unwrap()) < 0.5 * error(Range::new(-40.0, 40.0)));
}

#[test]
fn octav_serves_grids_with_a_zero_point_and_loses_nothing_at_16_bits() {
    let shifted: Vec<f32> = gaussian(20_000).iter().map(|x| x + 2.0).chain([60.0]).collect();
    let range = |dtype, scheme, data: &[f32]| {
        let mut observer = Octav::new(dtype, scheme);
        observer.observe(data, &[data.len()]);
        observer.range().unwrap()
    };
    let found = range(DType::UINT4, Scheme::PER_TENSOR_ASYMM, &shifted);
    let (low, high) = (f64::from(found.min), f64::from(found.max));
    assert!(low < 0.0 && high < 20.0, "{found:?}");
    let tail = |beyond: &dyn Fn(f64) -> bool| {
        let tail = shifted.iter().map(|x| f64::from(*x)).filter(|x| beyond(*x));
        tail.fold((0.0, 0.0), |(n, sum), x| (n + 1.0, sum + x))
    };
    let ((above, up), (below, down)) = (tail(&|x| x > high), tail(&|x| x < low));
    let c = 0.25f64.powi(4) / 12.0 * (shifted.len() as f64 - above - below);
    let expected = [(down + c * high) / (below + c), (up + c * low) / (above + c)];
    let near = |a: f64, b: f64| (a - b).abs() < 0.01 * (high - low);
    assert!(near(expected[0], low) && near(expected[1], high), "{found:?} {expected:?}");
    let magnitudes: Vec<f32> = gaussian(5_000).iter().map(|x| x.abs()).collect();
    assert_eq!(range(DType::UINT8, Scheme::PER_TENSOR_ASYMM, &magnitudes).min, 0.0);
    let mut wide = gaussian(5_000);
    let top = wide.iter().fold(0.0f32, |m, x| m.max(x.abs()));
    assert!(range(DType::INT16, Scheme::PER_TENSOR_SYMM, &wide).max > 0.99 * top);
    wide.fill(0.0);
    assert_eq!(range(DType::INT8, Scheme::PER_TENSOR_SYMM, &wide), Range::new(0.0, 0.0));
}

#[test]
fn per_channel_statistics_equal_those_of_each_row() {
    let data = gaussian(4 * 500);
    let mut all = Mse::new(DType::UINT4, Scheme::per_channel_asymm(0));
    all.observe(&data, &[4, 500]);
    let rows = all.ranges().unwrap();
    for (row, found) in data.chunks(500).zip(rows) {
        let mut one = Mse::new(DType::UINT4, Scheme::PER_TENSOR_ASYMM);
        one.observe(row, &[500]);
        assert_eq!(one.range(), Ok(found));
    }
}

#[test]
fn percentiles_named_one_by_one_hold_at_either_end() {
    let data: Vec<f32> = (-50..=150).map(|i| i as f32).collect();
    let range = |lower, upper| {
        let mut observer =
            Percentile::new(Share::Between(lower, upper), false, Grain::Tensor).unwrap();
        observer.observe(&data, &[data.len()]);
        observer.range().unwrap()
    };
    assert_eq!(range(0.0, 100.0), Range::new(-50.0, 150.0));
    let one_sided = range(0.0, 90.0);
    assert_eq!(one_sided.min, -50.0);
    assert!((one_sided.max / 130.0 - 1.0).abs() < 0.01, "{one_sided:?}");
    let inner = range(10.0, 90.0);
    assert!((inner.min / -30.0 - 1.0).abs() < 0.01 && inner.max == one_sided.max, "{inner:?}");
    // an end on the far side of zero is widened to it
    assert_eq!(range(50.0, 90.0).min, 0.0);
    assert!(Percentile::new(Share::Between(1.0, 99.0), true, Grain::Tensor).is_none());
}

#[test]
fn a_quantile_between_two_values_lies_between_them() {
    let find = |data: &[f32], share: &str, symmetric| {
        let scheme = Scheme { symmetric, grain: Grain::Tensor };
        let spec: ObserverSpec = share.parse().unwrap();
        let mut observer = spec.build(DType::INT8, scheme).unwrap();
        observer.observe(data, &[data.len()]);
        observer.range().unwrap()
    };
    // as numpy.quantile: rank 99.9 of 0..=100, the value of which is 1, after ninety-nine to 0.125
    let row: Vec<f32> = (0..100).map(|i| i as f32 / 792.0).chain([1.0]).collect();
    let negative: Vec<f32> = row.iter().map(|x| -x).collect();
    let expected = 0.125 + 0.9 * 0.875;
    for (data, symmetric) in [(&row, false), (&row, true), (&negative, true)] {
        let found = find(data, "percentile:99.9", symmetric);
        assert!((found.max - expected).abs() < 0.002, "{found:?}");
    }
    assert!((find(&negative, "percentile:99.9", false).min + expected).abs() < 0.002);
    assert!((find(&[0.5, 1.5, 9.0], "percentile:25:75", false).max - 5.25).abs() < 0.01);
    assert_eq!(find(&[-3.0], "percentile:50", true), Range::new(-3.0, 3.0));
}

#[test]
fn masked_logits_do_not_widen_the_grid() {
    let mut observer = SoftmaxLogits::new(16.0).unwrap();
    observer.observe(&[3.0, -120.0, -120.0, 1.0, 2.0, -119.0], &[2, 3]);
    assert_eq!(observer.range(), Ok(Range::new(2.0 - 16.0, 3.0)));
}

#[test]
fn one_non_finite_value_refuses_the_range() {
    let specs = ["minmax", "ema:0.5", "percentile:99", "percentile:1:99", "mse", "softmax:16"];
    for spec in specs.map(|text| text.parse::<ObserverSpec>().unwrap()) {
        let mut observer = spec.build(DType::UINT8, Scheme::PER_TENSOR_ASYMM).unwrap();
        assert_eq!(observer.ranges(), Err(NoRange::Unseen), "{spec}");
        observer.observe(&[1.0, f32::NAN], &[2]);
        observer.observe(&[1.0, 2.0], &[2]);
        assert_eq!(observer.ranges(), Err(NoRange::NonFinite), "{spec}");
    }
}

#[test]
fn counts_of_what_is_not_finite_are_refused_in_a_file() {
    let mut seen = Histograms::new(Grain::Tensor);
    seen.observe(&[1.0, -2.0], &[2], 1);
    let json = serde_json::to_value(&seen).unwrap();
    assert_eq!(serde_json::from_value::<Histograms>(json.clone()).unwrap(), seen);
    for page in [255, 511] {
        let mut json = json.clone();
        json["channels"][0]["pages"][page] = serde_json::json!([1; 128].to_vec());
        assert!(serde_json::from_value::<Histograms>(json).is_err(), "page {page}");
    }
}

#[test]
fn observers_are_named_in_text() {
    for text in [
        "minmax",
        "ema:0.9",
        "percentile:99.99",
        "percentile:0.1:99.5",
        "mse",
        "octav",
        "softmax:16",
        "mx:fp4",
        "identity",
    ] {
        assert_eq!(text.parse::<ObserverSpec>().unwrap().to_string(), text);
    }
    for text in ["", "min", "ema:1", "ema:x", "percentile:0", "percentile:101", "mse:3", "mx:fp5"]
        .into_iter()
        .chain(["percentile:5:5", "percentile:-1:9", "percentile:0:101", "percentile:1:2:3"])
    {
        assert!(text.parse::<ObserverSpec>().is_err(), "{text}");
    }
    assert!(!"ema".parse::<ObserverSpec>().unwrap().mergeable());
}

#[test]
fn different_sites_do_not_merge() {
    let mut rows = minmax(Grain::Axis(0), &[1.0, 2.0], &[2, 1]);
    assert!(rows.merge(&minmax(Grain::Tensor, &[1.0], &[1])).is_err());
    assert!(rows.merge(&minmax(Grain::Axis(0), &[1.0], &[1, 1])).is_err());
    let build = |text: &str| {
        let spec = text.parse::<ObserverSpec>().unwrap();
        spec.build(DType::UINT8, Scheme::PER_TENSOR_ASYMM).unwrap().into_mergeable()
    };
    assert!(build("mse").unwrap().merge(&build("minmax").unwrap()).is_err());
    assert!(build("ema:0.9").is_err());
}

fn batches() -> impl Strategy<Value = Vec<Vec<f32>>> {
    prop::collection::vec(prop::collection::vec(-100.0..100.0_f32, 12), 1..8)
}

proptest! {
    #[test]
    fn shards_in_any_order_equal_one_pass(batches in batches(), cut in 0..8_usize, turn in 0..8_usize) {
        for text in ["minmax", "percentile:90", "percentile:5:99", "mse", "octav", "softmax:16"] {
            for grain in [Grain::Tensor, Grain::Axis(0), Grain::Axis(1)] {
                let scheme = Scheme { symmetric: false, grain };
                let spec: ObserverSpec = text.parse().unwrap();
                let new = || spec.build(DType::UINT4, scheme).unwrap().into_mergeable().unwrap();
                let mut whole = new();
                batches.iter().for_each(|b| whole.observe(b, &[3, 4]));
                let mut turned = batches.clone();
                turned.rotate_left(turn % batches.len());
                let (left, right) = turned.split_at(cut.min(batches.len()));
                let (mut a, mut b) = (new(), new());
                left.iter().for_each(|x| a.observe(x, &[3, 4]));
                right.iter().for_each(|x| b.observe(x, &[3, 4]));
                a.merge(&b).unwrap();
                prop_assert_eq!(a.ranges(), whole.ranges(), "{} {}", text, grain);
            }
        }
    }

    #[test]
    fn pieces_in_any_order_equal_the_whole(batches in batches(), cut in 1..8_usize, odd in any::<bool>()) {
        let mut whole = MinMax::new(Grain::Tensor);
        let mut pieces = MinMax::new(Grain::Tensor);
        for (i, batch) in batches.iter().enumerate() {
            let mut batch = batch.clone();
            if odd && i == 1 {
                batch[0] = f32::NAN;
            }
            whole.observe(&batch, &[batch.len()]);
            let see = pieces.piecewise().unwrap();
            let (a, b): (Vec<_>, Vec<_>) = batch.chunks(cut).enumerate().partition(|(i, _)| i % 2 == 1);
            std::thread::scope(|threads| {
                for part in [a, b] {
                    let see = &see;
                    threads.spawn(move || part.into_iter().for_each(|(_, piece)| see(piece)));
                }
            });
        }
        prop_assert_eq!(pieces, whole);
        prop_assert!(MinMax::new(Grain::Axis(0)).piecewise().is_none());
    }

    #[test]
    fn values_that_count_several_times_came_several_times(batches in batches(), times in 1..5_u64) {
        for text in ["minmax", "percentile:90", "percentile:5:99", "mse", "octav", "softmax:16"] {
            for grain in [Grain::Tensor, Grain::Axis(1)] {
                let spec: ObserverSpec = text.parse().unwrap();
                let new = || spec.build(DType::UINT4, Scheme { symmetric: false, grain }).unwrap();
                let (mut counted, mut came) = (new(), new());
                for batch in &batches {
                    counted.observe_times(batch, &[3, 4], times);
                    (0..times).for_each(|_| came.observe(batch, &[3, 4]));
                }
                prop_assert_eq!(counted, came, "{} {}", text, grain);
            }
        }
    }

    #[test]
    fn a_weight_seen_once_needs_no_statistics(batches in batches()) {
        for text in ["minmax", "percentile:90", "percentile:5:99", "mse", "octav"] {
            for grain in [Grain::Tensor, Grain::Axis(0), Grain::Axis(1), Grain::Groups(2)] {
                let spec: ObserverSpec = text.parse().unwrap();
                let new = || spec.build(DType::UINT4, Scheme { symmetric: false, grain }).unwrap();
                let mut kept = new();
                kept.observe(&batches[0], &[3, 4]);
                prop_assert_eq!(new().once(&batches[0], &[3, 4]), kept.ranges(), "{} {}", text, grain);
            }
        }
    }

    #[test]
    fn merge_is_associative(batches in prop::collection::vec(prop::collection::vec(-9.0..9.0_f32, 4), 3)) {
        for text in ["minmax", "percentile:90", "percentile:5:99", "mse", "octav", "softmax:16"] {
            let spec: ObserverSpec = text.parse().unwrap();
            let [a, b, c]: [MergeableObserver; 3] = batches.iter().map(|batch| {
                let mut o = spec.build(DType::UINT8, Scheme::PER_TENSOR_ASYMM).unwrap()
                    .into_mergeable().unwrap();
                o.observe(batch, &[4]);
                o
            }).collect::<Vec<_>>().try_into().unwrap();
            let join = |x: &MergeableObserver, y: &MergeableObserver| {
                let mut joined = x.clone();
                joined.merge(y).unwrap();
                joined
            };
            prop_assert_eq!(join(&join(&a, &b), &c), join(&a, &join(&b, &c)));
        }
    }
}
