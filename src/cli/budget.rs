//! Budgets: spent before the job, and what they bought, for people.

use super::args::QuantizeArgs;
use super::terminal::{boxed, shortened};
use crate::checkpoint::Checkpoint;
use crate::dataset::Sample;
use crate::pipeline::{
    self, Bought, Candidate, Choice, Error, Outcome, Progress, Recipe, ValueChoice, Widened,
};
use crate::report::{bytes, counted};
use std::time::Instant;

/// What was bought.
pub(super) struct Spent {
    pub(super) weights: Option<Bought>,
    pub(super) values: Option<Widened>,
    /// How long that took.
    pub(super) seconds: f64,
}

impl Spent {
    /// Spends what `args` allow; `recipe` then says on what.
    pub(super) fn of(
        args: &QuantizeArgs,
        (checkpoint, calib): (&Checkpoint, &[Sample]),
        recipe: &mut Recipe,
        progress: &dyn Progress,
    ) -> Result<Spent, Error> {
        let start = Instant::now();
        let values = args.budget_kl;
        let values =
            values.map(|limit| pipeline::widen(checkpoint, calib, recipe, limit, progress));
        let values = values.transpose()?;
        let weights = args.budget();
        let weights =
            weights.map(|budget| pipeline::fit(checkpoint, calib, recipe, budget, progress));
        let weights = weights.transpose()?;
        Ok(Spent { weights, values, seconds: start.elapsed().as_secs_f64() })
    }

    /// Whether there was a budget.
    pub(super) fn any(&self) -> bool {
        self.weights.is_some() || self.values.is_some()
    }

    pub(super) fn text(&self) -> String {
        let tables = [self.values.as_ref().map(widened), self.weights.as_ref().map(table)];
        tables.into_iter().flatten().map(|table| table + "\n").collect()
    }
}

/// Which kinds of activations got which grid, and what each alone would have cost.
pub(super) fn widened(widened: &Widened) -> String {
    if widened.choices.is_empty() {
        return "  --budget-kl: nothing to widen, no activation has fewer than 16 bits\n".into();
    }
    let name = |choice: &ValueChoice| match &choice.patterns[..] {
        [one] => one.clone(),
        [first, rest @ ..] => format!("{first} and {} more", rest.len()),
        [] => String::new(),
    };
    let width = widened.choices.iter().map(|choice| name(choice).chars().count()).max();
    let width = width.unwrap_or(0).clamp("KL if alone in 8 bits".len(), 41);
    let heads = format!("{:<width$} {:>12}{:>11}", "KL if alone in 8 bits", "got", "as asked");
    let mut lines = vec![format!("{heads}{:>11}", "minmax")];
    lines.extend(widened.choices.iter().map(|choice| {
        let chosen = &choice.candidates[choice.chosen];
        let got = match choice.chosen == 0 || chosen.loss.is_none() {
            true => chosen.dtype.to_string(),
            false => format!("{} {}", chosen.dtype, chosen.observer),
        };
        let loss = |at: usize| {
            let loss = choice.candidates.get(at).and_then(|candidate| candidate.loss);
            loss.map_or_else(|| format!("{:>11}", ""), |loss| format!("{loss:>11.2e}"))
        };
        let name = shortened(&name(choice), width);
        format!("{name:<width$} {got:>12}{}{}", loss(0), loss(1))
    }));
    let wide = widened.choices.iter().filter(|c| c.candidates[c.chosen].loss.is_none());
    lines.push(format!(
        "KL {:.4} of {} allowed, with {} of {} kinds in 16 bits; {:.4} with none",
        widened.loss,
        widened.limit,
        wide.count(),
        widened.choices.len(),
        widened.narrow_loss
    ));
    boxed(&format!("activations, measured on {}", counted(widened.samples, "sample")), &lines)
}

/// Who got which dtype, and the loss of every weight at every dtype: the reason.
fn table(bought: &Bought) -> String {
    let Some(first) = bought.choices.first() else { return String::new() };
    let name = |choice: &Choice| choice.name.chars().count();
    let room = 68_usize.saturating_sub(11 * first.candidates.len());
    let width = bought.choices.iter().map(name).max().unwrap_or(0);
    let width = width.min(room).max("KL if alone at".len());
    let dtypes = first.candidates.iter().map(|c| format!("{:>11}", c.dtype.to_string()));
    let mut lines =
        vec![format!("{:<width$} {:>7}{}", "KL if alone at", "got", dtypes.collect::<String>())];
    lines.extend(bought.choices.iter().map(|choice| {
        let loss = |c: &Candidate| format!("{:>11.2e}", c.loss);
        let losses: String = choice.candidates.iter().map(loss).collect();
        let got = choice.candidates[choice.chosen].dtype.to_string();
        format!("{:<width$} {got:>7}{losses}", shortened(&choice.name, width))
    }));
    lines.push(format!(
        "{:.3} bits a linear weight, {} of weights, sum of KL {:.3e}",
        bought.mean_bits,
        bytes(bought.bytes),
        bought.loss
    ));
    boxed(&format!("budget, measured on {}", counted(bought.samples, "sample")), &lines)
}

/// Mean divergence from float in nats a token, and signal to noise of the outputs in dB, past which a
/// quantized model is not that model any more.
const LOST: (f64, f64) = (0.5, 3.0);

/// Warns of a model that the recipe has lost, and says what might save it.
pub(super) fn warn(recipe: &Recipe, outcome: &Outcome) {
    let kl = outcome.answers.as_ref().map(|[_, quantized]| quantized.kl_all);
    let apart = match (kl, outcome.error.sqnr_db) {
        (Some(kl), _) => (kl > LOST.0).then(|| format!("{kl:.2} nats a token")),
        (None, db) => db.filter(|db| *db < LOST.1).map(|db| format!("a SQNR of {db:.1} dB")),
    };
    let Some(apart) = apart else { return };
    let narrow = recipe.policy.spec().activation.dtype.is_none_or(|dtype| dtype.bits() < 16);
    let way = match narrow {
        true => "--budget-kl 0.1 gives 16 bits to the activations that need them",
        false => "more bits for weights, or a recipe such as w4a16-best, may keep it",
    };
    eprintln!("warning: quantized outputs are {apart} from float's: the model is lost; {way}");
}
