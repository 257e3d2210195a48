//! The recipe that the arguments ask for.

use super::args::QuantizeArgs;
use crate::models::Head;
use crate::pipeline::{Durable, Fixed, Means, Numerics, Recipe, explained, with_nearest};
use crate::quant::Rule;
use serde_json::Value;
use std::error::Error;
use std::time::Duration;

/// All that the arguments say of the job, data apart.
pub(super) fn recipe(args: &QuantizeArgs) -> Result<Recipe, Box<dyn Error>> {
    let numerics = numerics(args)?;
    Ok(Recipe {
        policy: numerics.policy,
        algo: numerics.algo,
        products: numerics.products,
        seq_len: args.seq_len,
        fixed: Fixed { grid: args.grid, visual_start: args.visual_start, prefix: Vec::new() },
        head: Head::Logits,
        means: means(args),
    })
}

/// What the job may use, and what it leaves for a rerun.
fn means(args: &QuantizeArgs) -> Means {
    let every = Duration::from_secs_f64(args.save_every);
    let durable = Some(Durable { every, fresh: args.fresh });
    Means { memory: args.memory, folder: Some(args.out.clone()), durable }
}

/// The recipe, with `--algo` in place of its algorithms and `--set` after both.
fn numerics(args: &QuantizeArgs) -> Result<Numerics, Box<dyn Error>> {
    let mut numerics = Numerics::find(args.recipe_name())?;
    if let Some(text) = &args.algo {
        numerics.algo = toml::from_str(text).map_err(|e| format!("--algo: {}", explained(&e)))?;
    }
    numerics.products = args.products.unwrap_or(numerics.products);
    let mut rest = Vec::new();
    for text in &args.overrides {
        match numerics.set_key(text) {
            Some(done) => done?,
            None => rest.push(&text[..]),
        }
    }
    numerics.policy = numerics.policy.with_rules(rules(&rest)?)?;
    Ok(numerics)
}

/// `--set GLOB=field:value,...`
fn rules(overrides: &[&str]) -> Result<Vec<Rule>, Box<dyn Error>> {
    let mut rules = Vec::new();
    for &text in overrides {
        let expected = "expected GLOB=FIELD:VALUE[,FIELD:VALUE...] with fields dtype, symmetric, axis, group, observer";
        let (pattern, fields) =
            text.split_once('=').ok_or_else(|| format!("--set {text}: {expected}"))?;
        let mut set = serde_json::Map::new();
        for field in fields.split(',') {
            let (name, value) =
                field.split_once(':').ok_or_else(|| format!("--set {text}: {expected}"))?;
            let value = serde_json::from_str(value).unwrap_or_else(|_| Value::String(value.into()));
            if let Some(other) = set.insert(name.into(), value) {
                return Err(format!("--set {text}: {name} is set twice, first to {other}").into());
            }
        }
        let set = serde_json::from_value(Value::Object(set))
            .map_err(|e| format!("--set {text}: {}", with_nearest(&e.to_string())))?;
        rules.push(Rule { pattern: pattern.into(), role: None, set, optional: false });
    }
    Ok(rules)
}
