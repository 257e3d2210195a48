//! Policies: who wins, what is refused, and that nothing is silently inert.

use crate::quant::*;

fn policy(toml: &str) -> Result<Policy, String> {
    toml::from_str::<Policy>(toml).map_err(|error| error.to_string())
}

fn affine(decision: Decision) -> (DType, Scheme, String) {
    match decision {
        Decision::Affine { dtype, scheme, observer } => (dtype, scheme, observer.to_string()),
        other => panic!("affine expected, found {other:?}"),
    }
}

fn grid(policy: &Policy, name: &str, role: Role) -> (DType, Scheme) {
    let rank = if role == Role::NormWeight { 1 } else { 2 };
    let (dtype, scheme, _) = affine(policy.resolve(name, role, rank).unwrap());
    (dtype, scheme)
}

const LINEAR: &str = "model.layers.0.self_attn.q_proj.weight";
const NORM: &str = "model.layers.0.input_layernorm.weight";
const HEAD: &str = "lm_head.weight";

#[test]
fn the_last_matching_rule_wins_field_by_field() {
    let policy = policy(
        r#"
        [activation]
        dtype = "int16"
        [weight]
        dtype = "uint4"
        observer = "mse"
        [[rules]]
        pattern = "*.q_proj.*"
        set = { dtype = "uint8" }
        [[rules]]
        pattern = "*.layers.0.*"
        set = { observer = "percentile:99.9" }
        [[rules]]
        pattern = "*.layers.1.*"
        set = { axis = "tensor" }
        [[rules]]
        pattern = "*.logits"
        role = "activation"
        set = { observer = "softmax:16" }
        "#,
    )
    .unwrap();
    let weight = |name| affine(policy.resolve(name, Role::Weight, 2).unwrap());
    let rows = Scheme::per_channel_asymm(0);
    assert_eq!(weight(LINEAR), (DType::UINT8, rows, "percentile:99.9".into()));
    let other = "model.layers.1.mlp.up_proj.weight";
    assert_eq!(weight(other), (DType::UINT4, Scheme::PER_TENSOR_ASYMM, "mse".into()));
    let logits = affine(policy.resolve("attn.logits", Role::Activation, 4).unwrap());
    assert_eq!(logits, (DType::INT16, Scheme::PER_TENSOR_SYMM, "softmax:16".into()));
    assert_eq!(weight("attn.logits").2, "mse");
}

#[test]
fn a_signed_weight_override_keeps_its_channels() {
    let rule = r#"
        [[rules]]
        pattern = "*"
        set = { dtype = "int16" }
    "#;
    let policy = policy(rule).unwrap();
    assert_eq!(grid(&policy, LINEAR, Role::Weight).1, Scheme::per_channel_symm(0));
    assert_eq!(grid(&policy, NORM, Role::NormWeight).1, Scheme::PER_TENSOR_SYMM);
}

#[test]
fn changing_the_dtype_takes_a_fitting_symmetry_along() {
    let policy = policy("activation = { dtype = \"int16\" }").unwrap();
    let set = Spec { dtype: Some(DType::UINT8), ..Spec::default() };
    let rule = Rule { pattern: "*.add".into(), role: None, optional: false, set };
    let policy = policy.with_rules([rule]).unwrap();
    let found = grid(&policy, "x.add", Role::Activation);
    assert_eq!(found, (DType::UINT8, Scheme::PER_TENSOR_ASYMM));
}

#[test]
fn mx_and_float_are_decisions_too() {
    let policy = policy(
        r#"
        [[rules]]
        pattern = "a*"
        set = { observer = "mx:fp4" }
        [[rules]]
        pattern = "ab*"
        set = { observer = "identity" }
        [[rules]]
        pattern = "abc*"
        set = { dtype = "int8" }
        "#,
    )
    .unwrap();
    let decide = |name| policy.resolve(name, Role::Activation, 3).unwrap();
    assert_eq!(decide("a"), Decision::Mx { format: MxFormat::Fp4, axis: 2 });
    assert!(decide("a").observer().is_none());
    assert_eq!(
        decide("a").params(&[]),
        Ok(Some(QuantParams::Mx { format: MxFormat::Fp4, axis: 2 }))
    );
    assert_eq!(decide("ab"), Decision::Float);
    assert_eq!(affine(decide("abc")).0, DType::INT8);
    assert!(policy.resolve("a", Role::Activation, 0).is_err());
}

#[test]
fn illegal_policies_name_the_place() {
    let rule =
        |set: &str| policy(&format!("[[rules]]\npattern = \"x*\"\nset = {{ {set} }}")).unwrap_err();
    for (set, expected) in [
        ("dtype = \"uint8\", symmetric = true", "rule `x*`: uint8 cannot be symmetric"),
        ("dtype = \"uint8\", observer = \"identity\"", "rule `x*`: observer identity"),
        ("dtype = \"int32\"", "rule `x*`: int32 is no grid"),
        ("axis = 0, observer = \"softmax:9\"", "rule `x*`: observer softmax:9"),
        ("", "rule `x*`: it sets nothing"),
        ("dtype = \"float8\"", "`float8` is no dtype"),
        ("observer = \"median\"", "`median` is no observer"),
        ("bits = 4", "unknown field `bits`"),
    ] {
        let found = rule(set);
        assert!(found.contains(expected), "{found}");
    }
    let found = policy("[[rules]]\npattern = \"a[\"\nset = { dtype = \"int8\" }").unwrap_err();
    assert!(found.contains("rule `a[`"), "{found}");
    assert!(policy("[activations]\ndtype = \"int8\"").unwrap_err().contains("activations"));
    assert!(policy("[weight]\naxis = \"row\"").is_err());
}

#[test]
fn illegal_outcomes_name_the_tensor_and_the_layers() {
    let policy = policy(
        r#"
        [[rules]]
        pattern = "x*"
        set = { symmetric = true }
        [[rules]]
        pattern = "y*"
        set = { axis = 2 }
        "#,
    )
    .unwrap();
    let error = policy.resolve("x", Role::Weight, 2).unwrap_err().to_string();
    assert!(error.starts_with("tensor `x` (2 axes), decided by weight, then rule `x*`"), "{error}");
    let pair =
        self::policy("activation = { dtype = \"int16\", observer = \"percentile:1:99\" }").unwrap();
    let error = pair.resolve("x", Role::Activation, 2).unwrap_err().to_string();
    assert!(error.contains("observer percentile:1:99 has two ends"), "{error}");
    let error = policy.resolve("y", Role::Weight, 2).unwrap_err().to_string();
    assert!(error.contains("axis 2 is outside its 2 axes"), "{error}");
}

#[test]
fn rules_that_match_nothing_are_reported() {
    let rule = |pattern: &str| Rule {
        pattern: pattern.into(),
        role: Some(Role::Weight),
        optional: false,
        set: Spec { dtype: Some(DType::UINT8), ..Spec::default() },
    };
    let policy = policy("").unwrap();
    let policy =
        policy.with_rules(["*patch_embed*", "*embed_tokens*", "*lm_head*"].map(rule)).unwrap();
    let silent = policy.unmatched([(HEAD, Role::Weight), ("embed_tokens.out", Role::Activation)]);
    let patterns: Vec<&str> = silent.iter().map(|rule| rule.pattern.as_str()).collect();
    assert_eq!(patterns, ["*patch_embed*", "*embed_tokens*"]);
}
