use super::*;
use crate::checkpoint::{Error, ErrorKind as Kind};
use crate::layout::RopeScaling;
use serde_json::json;

fn pixie() -> Value {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/assets/pixie/config.json");
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

fn llama() -> Value {
    json!({"model_type": "llama", "architectures": ["LlamaForCausalLM"], "vocab_size": 100,
        "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2,
        "num_attention_heads": 4})
}

fn parse(json: Value) -> Result<Config> {
    Config::parse("m/config.json", json)
}

/// `json` with the value at the pointer `at` replaced, or removed by null.
fn with(mut json: Value, at: &str, value: Value) -> Value {
    let (parent, field) = at.rsplit_once('/').unwrap();
    let parent = json.pointer_mut(parent).unwrap().as_object_mut().unwrap();
    match value {
        Value::Null => parent.remove(field),
        value => parent.insert(field.to_owned(), value),
    };
    json
}

fn refused(json: Value) -> Error {
    parse(json).unwrap_err()
}

#[test]
fn a_multimodal_file_is_read_whole() {
    let config = parse(pixie()).unwrap();
    assert_eq!(config.model_type, "qwen3_vl");
    assert_eq!(config.architectures, ["Qwen3VLForConditionalGeneration"]);
    let text = &config.text;
    assert_eq!((text.vocab_size, text.hidden_size, text.intermediate_size), (512, 128, 384));
    assert_eq!((text.num_attention_heads, text.num_key_value_heads, text.head_dim), (4, 2, 32));
    assert!(text.tie_word_embeddings && !text.attention_bias);
    let rope = &text.rope;
    assert_eq!((rope.theta, rope.mrope_section), (10_000.0, Some([6, 5, 5])));
    assert_eq!((&rope.scaling, rope.attention_scaling), (&RopeScaling::Default, 1.0));
    assert!(rope.interleaved);
    let vision = config.vision.as_ref().unwrap();
    assert_eq!((vision.depth, vision.hidden_size, vision.num_heads), (4, 96, 3));
    assert_eq!(vision.deepstack_visual_indexes, [1, 2]);
    assert_eq!((config.image_token_id, config.vision_start_token_id), (Some(491), Some(489)));
    assert_eq!(config.raw()["dtype"], "bfloat16");
}

#[test]
fn the_spelling_of_transformers_5_means_the_same() {
    let old = parse(pixie()).unwrap();
    let json = pixie();
    let mut rope = json["text_config"]["rope_scaling"].clone();
    rope["rope_theta"] = json["text_config"]["rope_theta"].clone();
    let json = with(json, "/text_config/rope_scaling", Value::Null);
    let json = with(json, "/text_config/rope_theta", Value::Null);
    let new = parse(with(json, "/text_config/rope_parameters", rope)).unwrap();
    assert_eq!(old.text, new.text);
    // Under the old name the old place counts.
    let twice = with(pixie(), "/text_config/rope_scaling/rope_theta", json!(500.0));
    assert_eq!(parse(twice).unwrap().text, old.text);
}

#[test]
fn a_flat_file_gets_the_defaults_of_transformers() {
    let config = parse(llama()).unwrap();
    let text = &config.text;
    assert_eq!((text.num_key_value_heads, text.head_dim), (4, 16));
    assert_eq!((text.rms_norm_eps, text.max_position_embeddings), (1e-6, 2048));
    assert_eq!((text.hidden_act.as_str(), text.tie_word_embeddings), ("silu", false));
    assert_eq!((text.rope.theta, text.rope.mrope_section), (10_000.0, None));
    assert!(config.vision.is_none() && config.image_token_id.is_none());

    let qwen3 = with(llama(), "/model_type", json!("qwen3"));
    let qwen3 = with(qwen3, "/num_key_value_heads", json!(2));
    assert_eq!(parse(qwen3).unwrap().text.head_dim, 128);

    let qwen2 =
        with(with(llama(), "/model_type", json!("qwen2")), "/num_attention_heads", json!(32));
    let yarn = with(qwen2, "/rope_scaling", json!({"rope_type": "yarn", "factor": 4.0}));
    let text = parse(yarn).unwrap().text;
    assert_eq!((text.num_key_value_heads, text.head_dim), (32, 2));
    assert_eq!(text.max_position_embeddings, 32_768);
    let RopeScaling::Yarn { original_max_position_embeddings, .. } = text.rope.scaling else {
        panic!("{:?}", text.rope.scaling)
    };
    assert_eq!(original_max_position_embeddings, 32_768);
}

#[test]
fn tied_embeddings_are_seen_at_either_level() {
    for at in ["/tie_word_embeddings", "/text_config/tie_word_embeddings"] {
        assert!(parse(with(pixie(), at, Value::Null)).unwrap().text.tie_word_embeddings, "{at}");
    }
}

#[test]
fn numbers_that_leave_no_finite_rotation_name_their_field() {
    let yarn = |name: &str, number: f64| {
        with(json!({"rope_type": "yarn", "factor": 4.0}), &format!("/{name}"), json!(number))
    };
    for (theta, scaling, field, found) in [
        (json!(1e-300), json!(null), "rope_theta", "1e-300"),
        (json!(1), yarn("factor", 4.0), "rope_theta", "1"),
        (json!(1e-45), yarn("factor", 4.0), "rope_theta", "1e-45"),
        (json!(1e4), json!({"rope_type": "linear", "factor": 1e-40}), "factor", "1e-40"),
        (json!(1e4), yarn("factor", 1e-300), "factor", "1e-300"),
        (json!(1e4), yarn("attention_factor", 1e39), "attention_factor", "1e+39"),
        (json!(1e4), yarn("beta_fast", 1e-320), "beta_fast", "1e-320"),
    ] {
        let json = with(with(llama(), "/rope_theta", theta), "/rope_scaling", scaling);
        let (error, expected) = (refused(json), "a number that leaves cosines and sines finite");
        let item =
            if field == "rope_theta" { field.into() } else { format!("rope_scaling.{field}") };
        assert_eq!(error.item(), Some(format!("field \"{item}\"").as_str()));
        assert_eq!(
            (error.kind(), error.expected(), error.found()),
            (Kind::OutOfRange, expected, found)
        );
    }
    // some frequencies are 0, as in transformers
    parse(with(llama(), "/rope_theta", json!(1e300))).unwrap();
}

#[test]
fn each_stretching_of_the_rotation_is_read() {
    let rope = |scaling: Value| {
        parse(with(llama(), "/rope_scaling", scaling)).map(|config| config.text.rope)
    };
    let linear = rope(json!({"type": "linear", "factor": 2})).unwrap();
    assert_eq!(linear.scaling, RopeScaling::Linear { factor: 2.0 });
    // as long as a sequence may be, it is the rotation that nothing stretches
    let plain = parse(llama()).unwrap().text.rope;
    assert_eq!(rope(json!({"type": "dynamic", "factor": 2.0})).unwrap(), plain);
    assert_eq!(rope(json!({"rope_type": null})).unwrap(), plain);
    let unnamed = with(llama(), "/rope_parameters", json!({"rope_theta": 10_000.0}));
    assert_eq!(parse(unnamed).unwrap().text.rope, plain);
    let llama3 = rope(json!({"rope_type": "llama3", "factor": 32.0, "low_freq_factor": 1.0,
        "high_freq_factor": 4.0, "original_max_position_embeddings": 8192}));
    let expected = RopeScaling::Llama3 {
        factor: 32.0,
        low_freq_factor: 1.0,
        high_freq_factor: 4.0,
        original_max_position_embeddings: 8192,
    };
    assert_eq!(llama3.unwrap().scaling, expected);
    let yarn = rope(json!({"rope_type": "yarn", "factor": 4.0})).unwrap();
    let expected = RopeScaling::Yarn {
        factor: 4.0,
        original_max_position_embeddings: 2048,
        beta_fast: 32.0,
        beta_slow: 1.0,
        attention_factor: None,
        mscale: None,
        mscale_all_dim: None,
        truncate: true,
    };
    assert_eq!(yarn.scaling, expected);
    assert!((yarn.attention_scaling - 1.138_629_436_111_989).abs() < 1e-12);
    let mscale = json!({"rope_type": "yarn", "factor": 4.0, "mscale": 1.0, "mscale_all_dim": 1.0});
    assert_eq!(rope(mscale).unwrap().attention_scaling, 1.0);

    // what is null or zero counts as in transformers' `modeling_rope_utils`
    let bare = json!({"rope_type": "yarn", "factor": 4.0, "beta_fast": 0, "beta_slow": 0.0,
        "original_max_position_embeddings": null, "attention_factor": null, "mscale": 0,
        "mscale_all_dim": 1.0});
    let bare = rope(bare).unwrap();
    let given = RopeScaling::Yarn {
        factor: 4.0,
        original_max_position_embeddings: 2048,
        beta_fast: 32.0,
        beta_slow: 1.0,
        attention_factor: None,
        mscale: Some(0.0),
        mscale_all_dim: Some(1.0),
        truncate: true,
    };
    assert_eq!((&bare.scaling, bare.attention_scaling), (&given, yarn.attention_scaling));
    let untruncated = rope(json!({"rope_type": "yarn", "factor": 4.0, "truncate": null}));
    assert!(matches!(untruncated.unwrap().scaling, RopeScaling::Yarn { truncate: false, .. }));

    for (scaling, field, kind) in [
        (json!({"rope_type": "linear"}), "factor", Kind::Missing),
        (json!({"rope_type": "linear", "factor": 0}), "factor", Kind::OutOfRange),
        (json!({"rope_type": "longrope"}), "rope_type", Kind::Unsupported),
        (json!({"type": "dynamic"}), "factor", Kind::Missing),
        (json!({"type": "ntk"}), "type", Kind::Unsupported),
        (json!({"factor": 4.0}), "rope_type", Kind::Missing),
        (json!({"rope_type": null, "factor": 2.0}), "rope_type", Kind::Missing),
        (json!({"partial_rotary_factor": 0.5}), "partial_rotary_factor", Kind::Unsupported),
    ] {
        let error = rope(scaling).unwrap_err();
        let item = format!("field \"rope_scaling.{field}\"");
        assert_eq!((error.kind(), error.item()), (kind, Some(item.as_str())));
    }
    let per_layer = rope(json!({"full_attention": {"rope_theta": 1.0}})).unwrap_err();
    assert_eq!(per_layer.kind(), Kind::Unsupported);
}

#[test]
fn of_two_rotations_the_older_field_counts_and_two_kinds_are_refused() {
    let both = with(llama(), "/rope_scaling", json!({"rope_type": "linear", "factor": 2.0}));
    let both = with(both, "/rope_parameters", json!({"rope_type": "linear", "factor": 8.0}));
    assert_eq!(parse(both).unwrap().text.rope.scaling, RopeScaling::Linear { factor: 2.0 });
    let kinds = |old: &str, new: &str| {
        let scaling = json!({"type": old, "rope_type": new, "factor": 2.0});
        parse(with(llama(), "/rope_scaling", scaling)).map(|config| config.text.rope.scaling)
    };
    assert_eq!(kinds("mrope", "default").unwrap(), RopeScaling::Default);
    assert_eq!(
        kinds("linear", "yarn").unwrap_err().to_string(),
        "m/config.json: field \"rope_scaling.rope_type\": expected \"linear\", which type says, \
         found \"yarn\""
    );
}

#[test]
fn sections_that_cannot_be_are_refused_where_the_file_leaves_them_out() {
    let none = with(pixie(), "/text_config/rope_scaling", Value::Null);
    assert_eq!(refused(none).item(), Some("field \"text_config.mrope_section\""));
    let plain = with(pixie(), "/text_config/rope_scaling/mrope_interleaved", json!(false));
    assert_eq!(refused(plain).kind(), Kind::Unsupported);
}

#[test]
fn a_window_is_that_of_the_layers_that_have_one() {
    let window = |model_type: &str, fields: Value| {
        let json = with(llama(), "/model_type", json!(model_type));
        let mut json = with(json, "/num_key_value_heads", json!(4));
        json.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        parse(json).map(|config| config.text.sliding_window)
    };
    let layers = llama()["num_hidden_layers"].as_u64().unwrap();
    let sliding = json!({"use_sliding_window": true, "sliding_window": 4, "max_window_layers": 0});
    let late =
        json!({"use_sliding_window": true, "sliding_window": 4, "max_window_layers": layers});
    let off = json!({"use_sliding_window": false, "sliding_window": 4, "max_window_layers": 0});
    for (model_type, fields, expected) in [
        ("qwen2", &sliding, Some(4)),
        ("qwen3", &sliding, Some(4)),
        ("qwen3", &late, None),
        ("qwen3", &off, None),
        ("llama", &sliding, None),
    ] {
        assert_eq!(window(model_type, fields.clone()).unwrap(), expected, "{model_type} {fields}");
    }
    let kinds = |kind: &str| json!({"layer_types": ["full_attention", kind], "sliding_window": 8});
    assert_eq!(window("qwen3", kinds("sliding_attention")).unwrap(), Some(8));
    assert_eq!(window("qwen3", kinds("full_attention")).unwrap(), None);
    assert_eq!(window("qwen3", kinds("linear_attention")).unwrap_err().kind(), Kind::Unsupported);
}

#[test]
fn every_wrong_field_is_named_with_what_was_found_and_expected() {
    let cases = [
        ("/text_config/hidden_size", Value::Null, Kind::Missing),
        ("/text_config/num_attention_heads", json!(0), Kind::OutOfRange),
        ("/text_config/num_attention_heads", json!(-1), Kind::OutOfRange),
        ("/text_config/num_key_value_heads", json!(3), Kind::Inconsistent),
        ("/text_config/head_dim", json!(33), Kind::Inconsistent),
        ("/text_config/rope_scaling/mrope_section", json!([6, 5, 4]), Kind::Inconsistent),
        ("/text_config/rope_scaling/mrope_section", json!([6, 10]), Kind::Inconsistent),
        ("/text_config/num_hidden_layers", json!(1u64 << 60), Kind::OutOfRange),
        ("/text_config/vocab_size", json!("512"), Kind::WrongType),
        ("/text_config/hidden_size", json!(128.5), Kind::WrongType),
        ("/text_config/rms_norm_eps", json!(2.0), Kind::OutOfRange),
        ("/text_config/rope_theta", json!(-1.0), Kind::OutOfRange),
        ("/text_config/tie_word_embeddings", json!(1), Kind::WrongType),
        ("/vision_config/spatial_merge_size", json!(0), Kind::OutOfRange),
        ("/vision_config/num_heads", json!(5), Kind::Inconsistent),
        ("/vision_config/num_position_embeddings", json!(145), Kind::Inconsistent),
        ("/vision_config/out_hidden_size", json!(64), Kind::Inconsistent),
        ("/vision_config/deepstack_visual_indexes", json!({}), Kind::WrongType),
        ("/vision_config", json!([]), Kind::WrongType),
        ("/vision_config", Value::Null, Kind::Missing),
        ("/image_token_id", json!(512), Kind::Inconsistent),
        ("/model_type", Value::Null, Kind::Missing),
        ("/architectures", json!("Qwen"), Kind::WrongType),
    ];
    for (at, value, kind) in cases {
        let error = refused(with(pixie(), at, value.clone()));
        assert_eq!(error.kind(), kind, "{at} {value}: {error}");
        let blamed = error.item().unwrap();
        // a number of heads that does not divide the width blames the width
        let path = at[1..].replace('/', ".");
        let or = "field \"vision_config.hidden_size\"";
        assert!(blamed == format!("field \"{path}\"") || blamed == or, "{at}: {blamed}");
    }
    let indexes = json!([1, 4]);
    let error = refused(with(pixie(), "/vision_config/deepstack_visual_indexes", indexes));
    assert_eq!(
        error.to_string(),
        "m/config.json: field \"vision_config.deepstack_visual_indexes[1]\": \
         expected a block below depth 4, found 4"
    );
    assert_eq!(refused(json!([1])).kind(), Kind::WrongType);
}

#[test]
fn a_width_that_heads_do_not_divide_needs_an_explicit_head_dim() {
    let odd = with(llama(), "/hidden_size", json!(66));
    let error = refused(odd.clone());
    assert_eq!((error.kind(), error.item()), (Kind::Inconsistent, Some("field \"hidden_size\"")));
    assert_eq!(parse(with(odd, "/head_dim", json!(16))).unwrap().text.head_dim, 16);
}

#[test]
fn another_vision_tower_is_refused_rather_than_guessed() {
    let error = refused(with(pixie(), "/model_type", json!("gemma3")));
    assert_eq!((error.kind(), error.item()), (Kind::Unsupported, Some("field \"model_type\"")));
}

#[test]
fn weights_that_somebody_quantized_are_refused_by_the_way_in_which_they_were() {
    let quantized = |config: Value| with(pixie(), "/quantization_config", config);
    assert_eq!(
        refused(quantized(json!({"quant_method": "awq", "bits": 4}))).to_string(),
        "m/config.json: field \"quantization_config.quant_method\": expected none: the original \
         checkpoint, before anybody quantized it, found \"awq\""
    );
    for config in [json!({"load_in_4bit": true}), json!("fp8"), json!([])] {
        let error = refused(quantized(config));
        assert_eq!(error.item(), Some("field \"quantization_config\""));
        assert_eq!(error.kind(), Kind::Unsupported);
    }
    let mut silent = pixie();
    silent["quantization_config"] = Value::Null;
    parse(silent).unwrap();
}

#[test]
fn experts_are_read_where_the_model_type_has_them() {
    let text = |key: &str| format!("/text_config/{key}");
    let mut moe = with(pixie(), "/model_type", json!("qwen3_vl_moe"));
    assert_eq!(refused(moe.clone()).item(), Some("field \"text_config.num_experts\""));
    let fields = [("num_experts", 6), ("num_experts_per_tok", 2), ("moe_intermediate_size", 24)];
    for (key, value) in fields {
        moe = with(moe, &text(key), json!(value));
    }
    moe = with(moe, &text("mlp_only_layers"), json!([3]));
    moe = with(moe, &text("decoder_sparse_step"), json!(2));
    let experts = parse(moe.clone()).unwrap().text.experts.unwrap();
    let layers: Vec<usize> = (0..6).filter(|&i| experts.in_layer(i)).collect();
    assert_eq!((layers, experts.norm_topk_prob), (vec![1, 5], true));
    let error = refused(with(moe, &text("num_experts_per_tok"), json!(7)));
    assert_eq!(
        error.to_string(),
        "m/config.json: field \"text_config.num_experts_per_tok\": \
         expected at most num_experts 6, found 7"
    );
    assert!(parse(pixie()).unwrap().text.experts.is_none());
}

#[test]
fn fields_that_are_large_together_are_refused_by_name_before_anything_is_built() {
    let mut moe = with(llama(), "/model_type", json!("qwen3_moe"));
    for (key, value) in [
        ("num_hidden_layers", 32),
        ("num_experts", 2048),
        ("num_experts_per_tok", 2),
        ("num_key_value_heads", 4),
        ("moe_intermediate_size", 24),
    ] {
        moe[key] = json!(value);
    }
    assert_eq!(parse(moe.clone()).unwrap().text.experts.unwrap().num_experts, 2048);
    assert_eq!(
        refused(with(moe, "/num_hidden_layers", json!(33))).to_string(),
        "m/config.json: field \"num_experts\": expected at most 65536 as num_experts 2048 * \
         num_hidden_layers 33, found 67584"
    );
    let wide = with(llama(), "/head_dim", json!(1 << 14));
    assert!(parse(wide.clone()).is_ok());
    let error = refused(with(wide, "/num_attention_heads", json!(128)));
    assert_eq!((error.kind(), error.item()), (Kind::OutOfRange, Some("field \"head_dim\"")));
    for (key, accepted, refusable) in [("patch_size", 256, 0), ("spatial_merge_size", 64, 256)] {
        let at = format!("/vision_config/{key}");
        assert!(parse(with(pixie(), &at, json!(accepted))).is_ok(), "{key} {accepted}");
        let json = match refusable {
            0 => with(with(pixie(), &at, json!(accepted)), "/vision_config/in_channels", json!(9)),
            value => with(pixie(), &at, json!(value)),
        };
        let error = refused(json);
        let item = format!("field \"vision_config.{key}\"");
        assert_eq!((error.kind(), error.item()), (Kind::OutOfRange, Some(&item[..])), "{error}");
    }
}
