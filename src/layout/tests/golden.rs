//! Position ids and tables equal Hugging Face's (vectors under `tests/data/golden`).

use serde_json::Value;

use crate::layout::*;
use crate::tensor::Tensor;

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}

fn floats(value: &Value) -> Vec<f32> {
    match value {
        Value::Array(items) => items.iter().flat_map(floats).collect(),
        number => vec![number.as_f64().unwrap() as f32],
    }
}

fn grids(value: &Value) -> Vec<[usize; 3]> {
    serde_json::from_value(value.clone()).unwrap()
}

/// Shape and data of a tensor of `tables.safetensors`.
fn table(name: &str) -> Tensor {
    let bytes = include_bytes!("../../../tests/data/golden/tables.safetensors");
    let length = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let header: Value = serde_json::from_slice(&bytes[8..8 + length]).unwrap();
    let entry = &header[name];
    let shape: Vec<usize> = serde_json::from_value(entry["shape"].clone()).unwrap();
    let at: [usize; 2] = serde_json::from_value(entry["data_offsets"].clone()).unwrap();
    let words = bytes[8 + length..][at[0]..at[1]].chunks(4).map(|w| w.try_into().unwrap());
    let data = match entry["dtype"].as_str().unwrap() {
        "F32" => words.map(f32::from_le_bytes).collect(),
        _ => words.map(|w| i32::from_le_bytes(w) as f32).collect(),
    };
    Tensor::new(shape, data)
}

fn close(what: &str, found: &[f32], expected: &[f32], tolerance: f32) {
    assert_eq!(found.len(), expected.len(), "{what}");
    let worst = found.iter().zip(expected).map(|(f, e)| (f - e).abs()).fold(0.0, f32::max);
    assert!(worst <= tolerance, "{what}: off by {worst:e}");
}

#[test]
fn segments_and_ids_give_the_reference_position_ids() {
    let cases = json(include_str!("../../../tests/data/golden/layouts.json"));
    assert_eq!(cases.as_array().unwrap().len(), 13);
    let tokens = SpecialTokens { image: 491, video: 492, vision_start: Some(489) };
    for case in cases.as_array().unwrap() {
        let segments: Vec<Segment> = serde_json::from_value(case["segments"].clone()).unwrap();
        let by_segments = Layout::new(&segments, 2).unwrap();
        let ids: Vec<u32> = serde_json::from_value(case["input_ids"].clone()).unwrap();
        let (images, videos) = (grids(&case["image_grid_thw"]), grids(&case["video_grid_thw"]));
        let by_ids = Layout::from_input_ids(&ids, &images, &videos, &tokens, 2).unwrap();
        assert_eq!(by_ids.with_seq_len(by_segments.seq_len()), Ok(by_segments.clone()), "{case}");
        let expected: [Vec<i64>; 3] = serde_json::from_value(case["position_ids"].clone()).unwrap();
        assert_eq!(by_segments.position_ids(), expected, "{}", case["name"]);
        assert_eq!(by_segments.rope_delta(), case["rope_delta"].as_i64().unwrap());
        assert_eq!(by_segments.seq_len(), ids.len());
        assert_eq!(by_segments.grids(), [images, videos].concat());
        for span in by_segments.spans() {
            let placeholder = if span.kind == VisualKind::Image { 491 } else { 492 };
            assert!(ids[span.start..span.start + span.len].iter().all(|id| *id == placeholder));
        }
    }
}

#[test]
fn single_picture_matches_the_sample() {
    let layout = Layout::single([1, 8, 8], 4, 40, 2).unwrap();
    let ids: Vec<f32> = layout.position_ids().concat().iter().map(|id| *id as f32).collect();
    assert_eq!(ids, table("position_ids").data());
    assert_eq!((layout.rope_delta(), layout.visual_len()), (-12, 16));
    assert_eq!((layout.position_at(39), layout.position_at(40)), (27, 28));
    let rotary = Rotary::new(32, 10000.0, RopeScaling::Default).unwrap();
    let rotary = rotary.with_mrope([6, 5, 5], true).unwrap();
    let (cos, sin) = rotary.tables(&layout.position_ids());
    assert_eq!(cos.shape(), [40, 32]);
    close("cos", cos.data(), table("cos").data(), 1e-6);
    close("sin", sin.data(), table("sin").data(), 1e-6);
}

#[test]
fn vision_tables_match_the_sample() {
    let grid = [[1, 8, 8]];
    let angles = vision::rotary_angles(&grid, 2, 32, 10000.0).unwrap();
    assert_eq!(angles.shape(), table("angles").shape());
    close("angles", angles.data(), table("angles").data(), 1e-6);
    let embedding = vision::position_embedding(&grid, 2, &table("table")).unwrap();
    close("embedding", embedding.data(), table("pos_embed").data(), 1e-6);
    let (cos, sin) = vision::rotary_tables(&grid, 2, 32, 10000.0).unwrap();
    assert_eq!(cos.shape(), [64, 32]);
    let squares = cos.data().iter().zip(sin.data()).map(|(c, s)| c * c + s * s);
    close("unit circle", &squares.collect::<Vec<_>>(), &[1.0; 64 * 32], 1e-6);
}

#[test]
fn vision_tables_match_the_reference_on_several_grids() {
    let golden = &json(include_str!("../../../tests/data/golden/rotary.json"))["vision"];
    let grids = grids(&golden["grids"]);
    let angles = vision::rotary_angles(&grids, 2, 8, 10000.0).unwrap();
    close("angles", angles.data(), &floats(&golden["angles"]), 1e-6);
    let table = (0..25 * 16).map(|i| (i * 37 % 101) as f32 / 64.0).collect();
    let embedding = vision::position_embedding(&grids, 2, &Tensor::new([25, 16], table)).unwrap();
    let two: Vec<f32> = embedding.data().chunks(16).flat_map(|row| [row[0], row[1]]).collect();
    close("embedding", &two, &floats(&golden["pos_embed"]), 1e-6);
    assert_eq!(vision::chunk_lengths(&grids), [24, 16, 16, 16, 4]);
}

fn scaling(value: &Value) -> RopeScaling {
    let number = |name: &str| value[name].as_f64();
    let factor = number("factor").unwrap_or(1.0);
    let original_max_position_embeddings =
        value["original_max_position_embeddings"].as_u64().unwrap_or(0) as usize;
    match value["rope_type"].as_str() {
        Some("linear") => RopeScaling::Linear { factor },
        Some("llama3") => RopeScaling::Llama3 {
            factor,
            low_freq_factor: number("low_freq_factor").unwrap(),
            high_freq_factor: number("high_freq_factor").unwrap(),
            original_max_position_embeddings,
        },
        Some("yarn") => RopeScaling::Yarn {
            factor,
            original_max_position_embeddings,
            beta_fast: 32.0,
            beta_slow: 1.0,
            attention_factor: None,
            mscale: number("mscale"),
            mscale_all_dim: number("mscale_all_dim"),
            truncate: value["truncate"].as_bool().unwrap_or(true),
        },
        _ => RopeScaling::Default,
    }
}

#[test]
fn stretched_frequencies_are_those_of_torch_to_the_bit() {
    let scaling = RopeScaling::Llama3 {
        factor: 8.0,
        low_freq_factor: 1.0,
        high_freq_factor: 4.0,
        original_max_position_embeddings: 8192,
    };
    let frequencies = Rotary::new(64, 10_000.0, scaling).unwrap().inverse_frequencies();
    assert_eq!(frequencies[22..24], [0.000_906_152_77, 0.000_453_980_17]);
}

#[test]
fn scaled_tables_match_the_reference_at_far_positions() {
    let golden = json(include_str!("../../../tests/data/golden/rotary.json"));
    for case in golden["rotary"].as_array().unwrap() {
        let name = case["name"].as_str().unwrap();
        let head_dim = case["head_dim"].as_u64().unwrap() as usize;
        let theta = case["theta"].as_f64().unwrap();
        let rotary = Rotary::new(head_dim, theta, scaling(&case["scaling"])).unwrap();
        let frequencies = rotary.inverse_frequencies();
        let reference = floats(&case["inv_freq"]);
        let positions: Vec<i64> = serde_json::from_value(case["positions"].clone()).unwrap();
        let (cos, sin) = rotary.tables(&[positions.clone(), positions.clone(), positions.clone()]);
        for (found, expected) in [(cos, floats(&case["cos"])), (sin, floats(&case["sin"]))] {
            for (row, position) in positions.iter().enumerate() {
                for (i, (own, theirs)) in frequencies.iter().zip(&reference).enumerate() {
                    // torch's vectorised pow is one unit off the nearest float now and then, which
                    // far positions magnify; wherever it is not, the angle is the same to the bit
                    assert!((own / theirs - 1.0).abs() <= 2.5e-7, "{name}: {own}, {theirs}");
                    let drift = *position as f32 * (own - theirs).abs() * 2.5;
                    let off = found.data()[row * head_dim + i] - expected[row * head_dim / 2 + i];
                    assert!(off.abs() <= 1e-6 + drift, "{name}: {off:e} at {position}, {i}");
                }
            }
        }
    }
}
