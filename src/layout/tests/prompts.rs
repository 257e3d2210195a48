//! Laws and refusals of layouts.

use proptest::prelude::*;

use crate::layout::*;

fn message<T: std::fmt::Debug, E: std::fmt::Display>(result: Result<T, E>) -> String {
    result.unwrap_err().to_string()
}

fn image(grid_thw: [usize; 3]) -> Segment {
    Segment::Image { grid_thw }
}

#[test]
fn impossible_grids_name_the_number() {
    let new = |grid| message(Layout::new(&[image(grid)], 2));
    assert_eq!(
        new([1, 7, 8]),
        "picture 0: height 7 of grid [1, 7, 8] is no multiple of the merge size 2"
    );
    assert_eq!(
        new([1, 8, 1]),
        "picture 0: width 1 of grid [1, 8, 1] is no multiple of the merge size 2"
    );
    assert_eq!(new([0, 8, 8]), "picture 0: frames of grid [0, 8, 8] is 0: expected at least 1");
    assert_eq!(
        new([1, 1 << 20, 1 << 20]),
        "picture 0 of grid [1, 1048576, 1048576] is too large: found 274877906944 tokens, \
         expected at most 16777216"
    );
    assert!(new([usize::MAX, usize::MAX - 1, 4]).contains("too large: found 18446744073709551615"));
    assert_eq!(Layout::new(&[image([1, 8, 8])], 0), Err(LayoutError::Merge));
}

#[test]
fn impossible_prompts_name_the_number() {
    let video = Segment::Video { grid_thw: [3, 4, 4], timestamp_tokens: vec![5, 5] };
    assert_eq!(
        message(Layout::new(&[video], 2)),
        "video 0: expected timestamp lengths for 3 frames, found 2"
    );
    assert_eq!(Layout::text(0), Err(LayoutError::Empty));
    assert_eq!(Layout::new(&[], 2), Err(LayoutError::Empty));
    assert_eq!(
        message(Layout::text(16_777_217)),
        "the prompt is too large: found 16777217 tokens, expected at most 16777216"
    );
    let twice = [Segment::Text { tokens: usize::MAX }, Segment::Text { tokens: usize::MAX }];
    assert!(Layout::new(&twice, 2).is_err());
    assert!(message(Layout::single([1, 8, 8], 30, 40, 2)).contains("30..46"));
    assert!(Layout::single([1, 8, 8], usize::MAX, 40, 2).is_err());
}

#[test]
fn trailing_text_stretches_and_visual_tokens_do_not() {
    let layout = Layout::new(&[image([1, 4, 4]), Segment::Text { tokens: 3 }], 2).unwrap();
    assert_eq!(layout.seq_len(), 9);
    let longer = layout.clone().with_seq_len(20).unwrap();
    assert_eq!(longer.position_ids()[0][..9], layout.position_ids()[0]);
    assert_eq!(longer.rope_delta(), layout.rope_delta());
    assert!(layout.clone().with_seq_len(5).is_ok());
    assert!(layout.with_seq_len(4).is_err());
}

#[test]
fn ids_that_do_not_fit_their_grids_are_refused() {
    let tokens = SpecialTokens { image: 9, video: 8, vision_start: Some(7) };
    let parse = |ids: &[u32], images: &[[usize; 3]], videos: &[[usize; 3]]| {
        message(Layout::from_input_ids(ids, images, videos, &tokens, 2))
    };
    assert_eq!(
        parse(&[1, 7, 9, 9, 9], &[[1, 4, 4]], &[]),
        "picture 0: grid [1, 4, 4] makes 4 tokens, found 3 from token 2 on"
    );
    assert_eq!(
        parse(&[1, 9, 9, 9, 9], &[[1, 4, 4]], &[]),
        "picture 0: expected vision start token 7 before token 1, found token 1"
    );
    assert!(parse(&[9], &[[1, 2, 2]], &[]).ends_with("found the start of the prompt"));
    let two = [7, 9, 1, 7, 9];
    assert!(parse(&two, &[[1, 2, 2]], &[]).contains("found 2 runs of image placeholders"));
    assert!(parse(&two, &[[1, 2, 2]; 3], &[]).contains("image grids make 3"));
    assert!(parse(&[7, 8], &[], &[[2, 2, 2]]).contains("video grids make 2"));
    assert!(parse(&[7, 8], &[], &[[1 << 23, 2, 2]]).contains("1 runs of video"));
    assert!(parse(&[], &[], &[]).contains("empty"));
    let free = SpecialTokens { vision_start: None, ..tokens };
    let bare = Layout::from_input_ids(&[9, 1], &[[1, 2, 2]], &[], &free, 2).unwrap();
    assert_eq!(bare, Layout::single([1, 2, 2], 0, 2, 2).unwrap());
}

#[test]
fn unknown_fields_of_segments_are_refused() {
    for text in [
        r#"{"kind":"text","tokens":5,"length":5}"#,
        r#"{"kind":"image","grid":[1,8,8]}"#,
        r#"{"kind":"sound","tokens":5}"#,
        r#"{"kind":"image","grid_thw":[1,8]}"#,
        r#"{"kind":"text","tokens":-1}"#,
    ] {
        assert!(serde_json::from_str::<Segment>(text).is_err(), "{text}");
    }
}

#[test]
fn rotary_configurations_are_checked() {
    let rotary = |dim| Rotary::new(dim, 1e4, RopeScaling::Default);
    assert!(rotary(0).is_err() && rotary(7).is_err());
    assert!(Rotary::new(8, f64::NAN, RopeScaling::Default).is_err());
    assert!(Rotary::new(8, 1e4, RopeScaling::Linear { factor: 0.0 }).is_err());
    assert!(message(rotary(32).unwrap().with_mrope([6, 5, 4], true)).contains("adds up to 15"));
    assert!(rotary(32).unwrap().with_mrope([0, 8, 8], true).is_err());
    assert!(rotary(32).unwrap().with_mrope([0, 8, 8], false).is_ok());
    // 24/20/20 is Qwen3-VL's own
    assert!(rotary(128).unwrap().with_mrope([24, 20, 20], true).is_ok());
}

#[test]
fn vision_tables_refuse_what_they_cannot_cover() {
    let table = crate::tensor::Tensor::full([24, 3], 1.0);
    assert!(vision::position_embedding(&[[1, 2, 2]], 2, &table).is_err());
    assert!(vision::rotary_tables(&[[1, 3, 2]], 2, 8, 1e4).is_err());
    assert!(vision::rotary_tables(&[[1, 2, 2]], 0, 8, 1e4).is_err());
}

fn segments() -> impl Strategy<Value = Vec<Segment>> {
    let grid = || (1..4_usize, 1..5_usize, 1..5_usize).prop_map(|(t, h, w)| [t, h * 2, w * 2]);
    let segment = prop_oneof![
        (0..20_usize).prop_map(|tokens| Segment::Text { tokens }),
        grid().prop_map(|[_, h, w]| Segment::Image { grid_thw: [1, h, w] }),
        (grid(), 0..9_usize).prop_map(|(grid_thw, n)| Segment::Video {
            grid_thw,
            timestamp_tokens: vec![n; grid_thw[0]],
        }),
    ];
    prop::collection::vec(segment, 1..8)
}

proptest! {
    #[test]
    fn positions_cover_the_prompt_and_features_cover_the_spans(segments in segments()) {
        let Ok(layout) = Layout::new(&segments, 2) else { return Ok(()) };
        let ids = layout.position_ids();
        prop_assert!(ids.iter().all(|axis| axis.len() == layout.seq_len()));
        let largest = ids.iter().flatten().max().copied().unwrap();
        prop_assert_eq!(layout.rope_delta(), largest + 1 - layout.seq_len() as i64);
        let mut spans = layout.spans().to_vec();
        prop_assert!(spans.windows(2).all(|s| s[0].start + s[0].len <= s[1].start));
        spans.sort_by_key(|span| span.feature_offset);
        let mut rows = 0;
        for span in &spans {
            prop_assert_eq!(span.feature_offset, rows);
            rows += span.len;
        }
        prop_assert_eq!(rows, layout.visual_len());
        let patches: usize = layout.grids().iter().map(|g| g.iter().product::<usize>()).sum();
        prop_assert_eq!(patches, rows * 4);
        prop_assert_eq!(vision::chunk_lengths(&layout.grids()).iter().sum::<usize>(), patches);
    }

    #[test]
    fn splitting_text_changes_nothing(segments in segments(), tokens in 1..20_usize) {
        let mut whole = segments.clone();
        whole.push(Segment::Text { tokens });
        let mut split = segments;
        split.extend((0..tokens).map(|_| Segment::Text { tokens: 1 }));
        prop_assert_eq!(Layout::new(&whole, 2), Layout::new(&split, 2));
    }
}
