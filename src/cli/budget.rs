//! What a budget bought, for people.

use super::terminal::{boxed, bytes};
use crate::pipeline::{Bought, Candidate, Choice};

/// Who got which dtype, and the loss of every weight at every dtype: the reason.
pub(super) fn table(bought: &Bought) -> String {
    let Some(first) = bought.choices.first() else { return String::new() };
    let name = |choice: &Choice| choice.name.chars().count();
    let width = bought.choices.iter().map(name).max().unwrap_or(0);
    let dtypes = first.candidates.iter().map(|c| format!("{:>11}", c.dtype.to_string()));
    let mut lines =
        vec![format!("{:<width$} {:>7}{}", "KL if alone at", "got", dtypes.collect::<String>())];
    lines.extend(bought.choices.iter().map(|choice| {
        let loss = |c: &Candidate| format!("{:>11.2e}", c.loss);
        let losses: String = choice.candidates.iter().map(loss).collect();
        let got = choice.candidates[choice.chosen].dtype.to_string();
        format!("{:<width$} {got:>7}{losses}", choice.name)
    }));
    lines.push(format!(
        "{:.3} bits a linear weight, {} of weights, sum of KL {:.3e}",
        bought.mean_bits,
        bytes(bought.bytes),
        bought.loss
    ));
    boxed(&format!("budget, measured on {} samples", bought.samples), &lines)
}
