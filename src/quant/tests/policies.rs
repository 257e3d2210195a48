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

fn resolve(
    policy: &Policy,
    name: &str,
    role: Role,
    shape: &[usize],
) -> Result<Decision, PolicyError> {
    let logits = role == Role::Activation && name.ends_with("logits");
    policy.resolve(&Subject { names: &[name], role, shape, linear: role == Role::Weight, logits })
}

fn grid(policy: &Policy, name: &str, role: Role) -> (DType, Scheme) {
    let shape = if role == Role::NormWeight { &[8][..] } else { &[8, 192] };
    let (dtype, scheme, _) = affine(resolve(policy, name, role, shape).unwrap());
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
    let weight = |name| affine(resolve(&policy, name, Role::Weight, &[8; 2]).unwrap());
    let rows = Scheme::per_channel_asymm(0);
    assert_eq!(weight(LINEAR), (DType::UINT8, rows, "percentile:99.9".into()));
    let other = "model.layers.1.mlp.up_proj.weight";
    assert_eq!(weight(other), (DType::UINT4, Scheme::PER_TENSOR_ASYMM, "mse".into()));
    let logits = affine(resolve(&policy, "attn.logits", Role::Activation, &[8; 4]).unwrap());
    assert_eq!(logits, (DType::INT16, Scheme::PER_TENSOR_SYMM, "softmax:16".into()));
    assert_eq!(weight("attn.logits").2, "mse");
}

#[test]
fn a_rule_that_names_any_of_several_names_holds_and_does_not_undo_another() {
    let policy = policy(
        r#"
        [[rules]]
        pattern = "*.merged"
        role = "activation"
        set = { dtype = "int16" }
        [[rules]]
        pattern = "*.out"
        set = { observer = "percentile:99.9" }
        "#,
    )
    .unwrap();
    for names in [&["attn.out", "attn.merged"], &["attn.merged", "attn.out"]] {
        let (role, shape) = (Role::Activation, &[8; 3]);
        let found = policy.resolve(&Subject { names, role, shape, linear: false, logits: false });
        let (dtype, _, observer) = affine(found.unwrap());
        assert_eq!((dtype, &observer[..]), (DType::INT16, "percentile:99.9"));
        assert_eq!(policy.asks(names.iter().copied(), role), "rule `*.merged`");
    }
}

#[test]
fn logits_get_what_a_rule_names_and_else_what_their_softmax_shows() {
    let default = ObserverSpec::of_logits(DType::UINT8).to_string();
    let of = |text: &str, name: &str| {
        let policy = policy(text).unwrap();
        resolve(&policy, name, Role::Activation, &[8; 4]).map(|decision| affine(decision).2)
    };
    let rule = |set: &str| format!("[[rules]]\npattern = \"*\"\nset = {{ {set} }}");
    for observer in ["minmax", "mse", "octav", "percentile:100"] {
        let named = of(&rule(&format!("observer = \"{observer}\"")), "logits");
        assert_eq!(named.unwrap(), observer);
    }
    for text in [
        String::new(),
        "activation = { observer = \"mse\" }".into(),
        "activation = { observer = \"ema:0.9\" }".into(),
        "activation = { observer = \"percentile:99.9\" }".into(),
        rule("dtype = \"uint8\""),
        format!("{}\n{}", rule("observer = \"identity\""), rule("dtype = \"uint8\"")),
    ] {
        assert_eq!(of(&text, "logits").unwrap(), default, "{text}");
    }
    assert_eq!(of("exact_logits = true", "logits").unwrap(), "minmax");
    // elsewhere there are no rows to saturate below
    let layer = "activation = { observer = \"softmax:1\" }";
    assert_eq!(of(layer, "logits").unwrap(), "softmax:1");
    let error = of(layer, "mlp.gated").unwrap_err().to_string();
    let why = "decided by activation: observer softmax:1 is for attention logits, but no softmax";
    assert!(error.contains(why), "{error}");
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
    let decide = |name| resolve(&policy, name, Role::Activation, &[8; 3]).unwrap();
    assert_eq!(decide("a"), Decision::Mx { format: MxFormat::Fp4, axis: 2 });
    assert!(decide("a").observer().is_none());
    assert_eq!(
        decide("a").params(&[]),
        Ok(Some(QuantParams::Mx { format: MxFormat::Fp4, axis: 2 }))
    );
    assert_eq!(decide("ab"), Decision::Float);
    assert_eq!(affine(decide("abc")).0, DType::INT8);
    assert!(resolve(&policy, "a", Role::Activation, &[8; 0]).is_err());
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
fn groups_are_of_linear_weights_and_an_axis_takes_them_back() {
    let policy = policy(
        r#"
        weight = { dtype = "uint4", group = 64 }
        [[rules]]
        pattern = "*.down_proj.*"
        set = { axis = 0 }
        [[rules]]
        pattern = "*.v_proj.*"
        set = { group = 96 }
        [[rules]]
        pattern = "*.mx.*"
        set = { observer = "mx:fp4" }
        [[rules]]
        pattern = "*.wide.*"
        set = { dtype = "uint8" }
        "#,
    )
    .unwrap();
    let groups = |size| Scheme { symmetric: false, grain: Grain::Groups(size) };
    let rows = Scheme::per_channel_asymm(0);
    let weight = |name| grid(&policy, name, Role::Weight);
    assert_eq!(weight(LINEAR), (DType::UINT4, groups(64)));
    assert_eq!(weight("layers.0.wide.weight"), (DType::UINT8, groups(64)));
    assert_eq!(weight("layers.0.down_proj.weight").1, rows);
    assert_eq!(weight("layers.0.v_proj.weight").1, groups(96));
    assert_eq!(grid(&policy, NORM, Role::NormWeight).1, Scheme::PER_TENSOR_ASYMM);
    let mx = resolve(&policy, "layers.0.mx.weight", Role::Weight, &[8, 100]).unwrap();
    assert_eq!(mx, Decision::Mx { format: MxFormat::Fp4, axis: 1 });
    assert_eq!(groups(64).to_string(), "asymmetric in groups of 64");
    // A table keeps a grid a row, unless a rule asks for what it cannot have.
    let table = |name| {
        let (names, role, shape) = (&[name], Role::Weight, &[8, 192]);
        policy.resolve(&Subject { names, role, shape, linear: false, logits: false })
    };
    assert_eq!(affine(table("embed.weight").unwrap()).1, rows);
    let error = table("layers.0.v_proj.weight").unwrap_err().to_string();
    assert!(error.contains("only weights that linear layers read, and nothing else"), "{error}");
    let error = resolve(&policy, LINEAR, Role::Weight, &[8, 100]).unwrap_err().to_string();
    for part in [LINEAR, "decided by weight", "group = 64 does not divide its 100 inputs"] {
        assert!(error.contains(part), "{error}");
    }
}

#[test]
fn illegal_groups_name_the_place() {
    for (text, expected) in [
        ("activation = { group = 32 }", "activation: only weights of linear layers"),
        ("norm = { group = 32 }", "norm: only weights of linear layers"),
        ("weight = { group = 0 }", "weight: group = 0"),
        ("weight = { group = -8 }", "-8"),
        ("weight = { group = 32, axis = 0 }", "weight: axis and group are both set"),
        ("weight = { group = 32, observer = \"mx:fp4\" }", "weight: MX has blocks"),
    ] {
        let found = policy(text).unwrap_err();
        assert!(found.contains(expected), "{found}");
    }
    let rule = "[[rules]]\npattern = \"x\"\nrole = \"activation\"\nset = { group = 8 }";
    assert!(policy(rule).unwrap_err().contains("rule `x`: only weights of linear layers"));
    let silent = policy("[[rules]]\npattern = \"x\"\nset = { group = 8 }").unwrap();
    let error = resolve(&silent, "x", Role::Activation, &[1, 8]).unwrap_err().to_string();
    assert!(error.contains("linear layers"), "{error}");
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
    let error = resolve(&policy, "x", Role::Weight, &[8; 2]).unwrap_err().to_string();
    assert!(error.starts_with("tensor `x` (2 axes), decided by weight, then rule `x*`"), "{error}");
    let pair =
        self::policy("activation = { dtype = \"int16\", observer = \"percentile:1:99\" }").unwrap();
    let error = resolve(&pair, "x", Role::Activation, &[8; 2]).unwrap_err().to_string();
    assert!(error.contains("observer percentile:1:99 has two ends"), "{error}");
    let error = resolve(&policy, "y", Role::Weight, &[8; 2]).unwrap_err().to_string();
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

#[test]
fn an_axis_that_no_kernel_knows_is_refused_with_tensor_rule_and_axis() {
    let error = |set: &str, role: Role| {
        let policy = policy(&format!("[[rules]]\npattern = \"x\"\nset = {{ {set} }}")).unwrap();
        resolve(&policy, "x", role, &[8, 8]).err().map(|error| error.to_string())
    };
    for (axis, role, why) in [
        (0, Role::Activation, "an activation has one grid"),
        (1, Role::Weight, "a grid for each row of a weight or one for all"),
        (0, Role::NormWeight, "one grid for a norm's weight"),
    ] {
        let found = error(&format!("axis = {axis}"), role).unwrap();
        for part in ["tensor `x`", "rule `x`", &format!("axis = {axis}, but"), why] {
            assert!(found.contains(part), "no {part:?} in {found}");
        }
    }
    let blocks = "axis = 0, observer = \"mx:int8\"";
    assert!(error(blocks, Role::Activation).unwrap().contains("MX blocks along its last axis"));
    assert_eq!(error(blocks, Role::Weight), None);
    for role in [Role::Activation, Role::Weight, Role::NormWeight] {
        assert_eq!(error("axis = \"tensor\"", role), None);
        assert_eq!(error("axis = 0, observer = \"identity\"", role), None);
    }
    let all = policy("weight = { axis = 1 }").unwrap();
    let found = resolve(&all, LINEAR, Role::Weight, &[8, 8]).unwrap_err().to_string();
    assert!(found.contains("decided by weight: axis = 1"), "{found}");
}
