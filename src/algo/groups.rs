//! What an error costs within one group of inputs: for the choice of its grid.
//!
//! GPTQ (Frantar et al., 2023, section 4) takes a group's grid from its columns as they stand when
//! its first one is rounded. Where inputs go by energy, columns of a group are scattered, so that their
//! grids are chosen from the weight beforehand (its "static groups"): a file must not need the order.

use super::factor::Factor;
use super::rows::Form;

/// The form of one group, alone.
pub(super) struct Local {
    factor: Factor,
    /// H of the group's inputs.
    hessian: Vec<f64>,
}

impl Local {
    /// Of every group of a form. In the order of the inputs, later groups make up for what a group
    /// loses: that is its block of M. By energy, the group is on its own; a group whose inputs have no
    /// factor alone has none here either.
    pub(super) fn of(form: &Form<'_>, by_energy: bool) -> Vec<Option<Local>> {
        let (k, size) = (form.width(), form.group);
        let block = |of: &[f64], start: usize| -> Vec<f64> {
            (start..start + size)
                .flat_map(|i| of[i * k + start..][..size].iter().copied())
                .collect()
        };
        let local = |group: usize| {
            let hessian = block(form.hessian, group * size);
            let factor = match by_energy {
                false => form.factor.part(block(&form.factor.upper, group * size)),
                true => form.factor.alone(&hessian)?,
            };
            Some(Local { factor, hessian })
        };
        (0..form.groups()).map(local).collect()
    }

    /// The form, with one grid.
    pub(super) fn form(&self) -> Form<'_> {
        let group = self.factor.order.len();
        Form { factor: &self.factor, hessian: &self.hessian, group }
    }
}
