//! Of the recipes that come along, and of those that people write.

use super::*;
use crate::quant::{DType, Decision, Role, Scheme, Subject};

#[test]
fn every_known_recipe_is_legal_and_survives_writing() {
    for (name, _) in RECIPES {
        let numerics = Numerics::find(name).unwrap();
        let again = Numerics::parse(name, &numerics.text()).unwrap();
        assert_eq!(again.policy.spec(), numerics.policy.spec(), "{name}");
        assert_eq!(again.algo, numerics.algo, "{name}");
    }
}

#[test]
fn presets_mean_what_people_call_them() {
    let (rows, whole) = (Scheme::per_channel_asymm(0), Scheme::PER_TENSOR_ASYMM);
    let (symmetric_rows, symmetric) = (Scheme::per_channel_symm(0), Scheme::PER_TENSOR_SYMM);
    let (uint4, uint8, int16) = (DType::UINT4, DType::UINT8, DType::INT16);
    let head_as_norm = [(uint8, whole), (uint8, rows), (uint8, whole), (uint8, rows)];
    let four = [(int16, symmetric), (uint4, rows), (int16, symmetric), (uint8, rows)];
    let wide = [(int16, symmetric), (int16, symmetric_rows)];
    for (name, grids) in [
        ("w8a8", head_as_norm),
        ("W8A8-minmax", head_as_norm),
        ("A16", [wide[0], wide[1], wide[0], wide[1]]),
        ("w4a16", four),
        ("npu", four),
    ] {
        let policy = Numerics::find(name).unwrap().policy;
        for ((tensor, role, rank), grid) in [
            // the activation beside a sensitive weight is no weight
            ("lm_head.out", Role::Activation, 3),
            ("layers.0.self_attn.q_proj.weight", Role::Weight, 2),
            ("layers.0.input_layernorm.weight", Role::NormWeight, 1),
            ("lm_head.weight", Role::Weight, 2),
        ]
        .into_iter()
        .zip(grids)
        {
            let shape = &[8; 3][..rank];
            let (names, linear, logits) = (&[tensor], true, false);
            let subject = Subject { names, role, shape, linear, logits };
            match policy.resolve(&subject).unwrap() {
                Decision::Affine { dtype, scheme, .. } => {
                    assert_eq!((dtype, scheme), grid, "{name}: {tensor}");
                }
                other => panic!("{name}: {tensor}: {other:?}"),
            }
        }
    }
}

#[test]
fn rules_of_recipes_may_match_nothing() {
    let policy = Numerics::find("w4a16").unwrap().policy;
    assert!(policy.unmatched([("layers.0.mlp.up_proj.weight", Role::Weight)]).is_empty());
}

#[test]
fn unknown_recipes_suggest_the_nearest_and_unknown_keys_are_named() {
    let error = Numerics::find("w4a16-bets").unwrap_err().to_string();
    assert!(error.contains("did you mean `w4a16-best`"), "{error}");
    let error = Numerics::parse("r.toml", "[policy]\nactivatoin = {}").unwrap_err().to_string();
    assert!(error.contains("r.toml") && error.contains("activatoin"), "{error}");
    let start = "[policy]\nactivation = {}\nweight = {}\n";
    for (text, nearest) in [
        ("[policy]\nactivatoin = {}", "activation"),
        ("[policy.weight]\ndtipe = \"uint4\"", "dtype"),
        ("[[policy.rules]]\npatern = \"*\"\nset = {}", "pattern"),
        ("[algo]\nrouding = \"rtn\"", "rounding"),
        ("[algo]\nrounding = \"gptq\"\noptions = { dampp = 1.0 }", "damp"),
        ("[algo]\nrounding = \"gptq\"\noptions = { search = \"wieghted\" }", "weighted"),
    ] {
        let text = if text.starts_with("[policy") { text.into() } else { format!("{start}{text}") };
        let error = Numerics::parse("r.toml", &text).unwrap_err().to_string();
        let expected = format!("did you mean `{nearest}`?");
        assert!(error.contains("r.toml") && error.ends_with(&expected), "{text}: {error}");
    }
    assert!(Numerics::find("nowhere.toml").unwrap_err().to_string().contains("nowhere.toml"));
}

#[test]
fn single_keys_of_the_algorithms_can_be_set_and_wrong_ones_are_named() {
    let mut numerics = Numerics::find("w4a16-fast").unwrap();
    let mut set = |text: &str| numerics.set_key(text).map(|done| done.map_err(|e| e.to_string()));
    assert_eq!(set("*.weight=dtype:uint8"), None);
    for text in ["algo.options.damp=0.05", "algo.rotate.seed=3"] {
        assert_eq!(set(text), Some(Ok(())), "{text}");
    }
    let wrong = [
        ("algo.rounding=rtm", "did you mean `rtn`"),
        ("algo.options.dampp=1", "dampp"),
        ("algo.rotat.seed=1", "rotat"),
        ("algo.options.damp.x=1", "plain value"),
        ("algo.rounding", "algo.KEY=VALUE"),
    ];
    for (text, expected) in wrong {
        let error = set(text).unwrap().unwrap_err();
        assert!(error.contains(expected), "{text}: {error}");
    }
    let wrong = [
        ("policy.prefx=isolate", "did you mean `prefix`"),
        ("policy.prefix=isolat", "expected \"isolate\", \"bake\" or a number"),
        ("policy.activation.dtype.x=1", "plain value"),
        ("policy.modality", "policy.KEY=VALUE"),
    ];
    for (text, expected) in wrong {
        let error = set(text).unwrap().unwrap_err();
        assert!(error.contains(expected), "{text}: {error}");
    }
    for text in ["policy.prefix=4", "policy.modality=equal", "policy.modality={vision=2, text=1}"] {
        assert_eq!(set(text), Some(Ok(())), "{text}");
    }
    // Options of the old rounding would mean nothing to the new one.
    assert_eq!(set("algo.rounding=rtn"), Some(Ok(())));
    assert!(numerics.algo.options.is_empty());
    assert_eq!(numerics.algo.rotate.map(|options| options.seed), Some(3));
}
