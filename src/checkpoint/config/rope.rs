//! Rotary position embedding: base, scaling, and how three coordinates share the channels.

use super::super::error::{Error, ErrorKind, Result, quoted};
use super::super::fields::{Fields, describe};
use super::limits::{HEAD_DIM_MAX, POSITIONS_MAX};
use crate::layout::{RopeScaling, Rotary};

const KINDS: &str = "one of default, linear, dynamic, llama3, yarn";

/// What the rotary fields are read against.
pub(super) struct Surroundings {
    pub(super) head_dim: usize,
    pub(super) max_position_embeddings: usize,
    /// Base where the file has none.
    pub(super) theta: f64,
    /// Whether tokens have three coordinates.
    pub(super) multimodal: bool,
}

pub(super) fn parse(text: &Fields, around: &Surroundings) -> Result<Rotary> {
    // transformers 5 moved the base inside the object and renamed it; of both it takes the old one
    let (name, scaling) = match text.object("rope_scaling")? {
        Some(fields) => ("rope_scaling", Some(fields)),
        None => ("rope_parameters", text.object("rope_parameters")?),
    };
    if let Some(layer_type) = scaling.as_ref().and_then(Fields::first_object) {
        let expected = "one set of rotary parameters for all layers";
        return Err(text.wrong(ErrorKind::Unsupported, name, expected, quoted(layer_type)));
    }
    // beside the old name, the base inside is nothing that transformers 4 knows
    let mut places = [Some(text), scaling.as_ref()];
    if name == "rope_parameters" {
        places.reverse();
    }
    let mut bases = places.into_iter().flatten().map(|fields| fields.positive("rope_theta"));
    let theta = bases.find_map(Result::transpose).transpose()?.unwrap_or(around.theta);
    for fields in [Some(text), scaling.as_ref()].into_iter().flatten() {
        match fields.real("partial_rotary_factor")? {
            None | Some(1.0) => {}
            Some(part) => {
                let (name, expected) = ("partial_rotary_factor", "1, every channel rotated");
                return Err(fields.wrong(ErrorKind::Unsupported, name, expected, part));
            }
        }
    }
    let stretched = match &scaling {
        // under the new name transformers 5 takes it for the default, and so does anybody without a factor
        Some(fields)
            if name == "rope_scaling"
                && kind_field(fields).is_none()
                && fields.get("factor").is_some() =>
        {
            return Err(fields.wrong(ErrorKind::Missing, "rope_type", KINDS, "nothing"));
        }
        Some(fields) => stretching(fields, around)?,
        None => RopeScaling::Default,
    };
    let fields = scaling.as_ref().unwrap_or(text);
    let attention_scaling = stretched.attention_scaling();
    if !(attention_scaling.is_finite() && attention_scaling > 0.0) {
        let expected = "a weight that leaves a scale above 0";
        return Err(fields.wrong(ErrorKind::OutOfRange, "mscale", expected, attention_scaling));
    }
    let mrope_section = sections(fields, around)?;
    let interleaved =
        scaling.as_ref().map(|fields| fields.flag("mrope_interleaved")).transpose()?.flatten();
    if around.multimodal && interleaved == Some(false) {
        let (name, expected) = ("mrope_interleaved", "true: the family interleaves in any case");
        return Err(fields.wrong(ErrorKind::Unsupported, name, expected, false));
    }
    let rotary = Rotary {
        head_dim: around.head_dim,
        theta,
        scaling: stretched,
        mrope_section,
        interleaved: interleaved.unwrap_or(around.multimodal),
        attention_scaling,
    };
    if rotary.is_finite(around.max_position_embeddings) {
        return Ok(rotary);
    }
    let has_base = |fields: &&Fields| fields.get("rope_theta").is_some();
    let base = places.into_iter().flatten().find(has_base).unwrap_or(text);
    Err(infinite(base, scaling.as_ref(), &rotary, around))
}

/// Blames the number whose usual value would leave finite tables.
fn infinite(
    base: &Fields,
    scaling: Option<&Fields>,
    rotary: &Rotary,
    around: &Surroundings,
) -> Error {
    let is_finite = |rotary: &Rotary| rotary.is_finite(around.max_position_embeddings);
    let wrong = |fields: &Fields, name: &str| {
        let expected = "a number that leaves cosines and sines finite";
        let found = fields.get(name).map(describe).unwrap_or_default();
        fields.wrong(ErrorKind::OutOfRange, name, expected, found)
    };
    let usual = Rotary { theta: around.theta, ..rotary.clone() };
    let Some(fields) = scaling.filter(|_| !is_finite(&usual)) else {
        return wrong(base, "rope_theta");
    };
    let mends = |name: &&str| {
        let mended = fields.with(name, 1.0.into());
        let stretched = Fields::root("", &mended).and_then(|fields| stretching(&fields, around));
        stretched.is_ok_and(|scaling| {
            let attention_scaling = scaling.attention_scaling();
            is_finite(&Rotary { scaling, attention_scaling, ..rotary.clone() })
        })
    };
    wrong(fields, fields.names().find(mends).unwrap_or("factor"))
}

fn sections(fields: &Fields, around: &Surroundings) -> Result<Option<[usize; 3]>> {
    const NAME: &str = "mrope_section";
    const QWEN3_VL: [usize; 3] = [24, 20, 20];
    let section = match fields.sizes(NAME, 0..=HEAD_DIM_MAX, 3)? {
        Some(list) => <[usize; 3]>::try_from(list).map_err(|list| {
            let expected = "three numbers: time, row, column";
            fields.wrong(ErrorKind::Inconsistent, NAME, expected, format_args!("{list:?}"))
        })?,
        None if around.multimodal => QWEN3_VL,
        None => return Ok(None),
    };
    if section.iter().sum::<usize>() != around.head_dim / 2 {
        let expected = format!("a sum of head_dim / 2 = {}", around.head_dim / 2);
        let found = format!("{section:?}");
        return Err(fields.wrong(ErrorKind::Inconsistent, NAME, expected, found));
    }
    Ok(Some(section))
}

/// The field that says how the rotation is stretched.
fn kind_field(fields: &Fields) -> Option<&'static str> {
    ["rope_type", "type"].into_iter().find(|name| fields.get(name).is_some())
}

fn stretching(fields: &Fields, around: &Surroundings) -> Result<RopeScaling> {
    // the first multimodal files called plain frequencies with three coordinates "mrope"
    let kind =
        |name| Ok(fields.text(name)?.map(|kind| if kind == "mrope" { "default" } else { kind }));
    let name = kind_field(fields).unwrap_or("type");
    let (chosen, old) = (kind(name)?, kind("type")?);
    if old.is_some_and(|old| chosen != Some(old)) {
        let expected = format!("{}, which type says", quoted(old.unwrap_or_default()));
        let found = quoted(chosen.unwrap_or_default());
        return Err(fields.wrong(ErrorKind::Inconsistent, name, expected, found));
    }
    let factor = || need(fields, "factor");
    let original = || fields.size("original_max_position_embeddings", 1..=POSITIONS_MAX);
    // where transformers says `or`, zero is nothing
    let beta = |name, usual| match fields.real(name)? {
        Some(0.0) => Ok(usual),
        _ => Ok(fields.positive(name)?.unwrap_or(usual)),
    };
    match chosen.unwrap_or("default") {
        "default" => Ok(RopeScaling::Default),
        // Frequencies change beyond max_position_embeddings, where no sequence gets.
        "dynamic" => factor().map(|_| RopeScaling::Default),
        "linear" => Ok(RopeScaling::Linear { factor: factor()? }),
        "llama3" => {
            let low_freq_factor = need(fields, "low_freq_factor")?;
            let high_freq_factor = need(fields, "high_freq_factor")?;
            if high_freq_factor <= low_freq_factor {
                let expected = format!("more than low_freq_factor {low_freq_factor}");
                let name = "high_freq_factor";
                return Err(fields.wrong(
                    ErrorKind::Inconsistent,
                    name,
                    expected,
                    high_freq_factor,
                ));
            }
            let original_max_position_embeddings = original()?.ok_or_else(|| {
                let name = "original_max_position_embeddings";
                fields.wrong(ErrorKind::Missing, name, "a number of tokens", "nothing")
            })?;
            let factor = factor()?;
            Ok(RopeScaling::Llama3 {
                factor,
                low_freq_factor,
                high_freq_factor,
                original_max_position_embeddings,
            })
        }
        "yarn" => Ok(RopeScaling::Yarn {
            factor: factor()?,
            original_max_position_embeddings: original()?.unwrap_or(around.max_position_embeddings),
            beta_fast: beta("beta_fast", 32.0)?,
            beta_slow: beta("beta_slow", 1.0)?,
            attention_factor: fields.positive("attention_factor")?,
            mscale: fields.real("mscale")?,
            mscale_all_dim: fields.real("mscale_all_dim")?,
            // null is there and is not true
            truncate: fields.flag("truncate")?.unwrap_or(!fields.is_null("truncate")),
        }),
        other => Err(fields.wrong(ErrorKind::Unsupported, name, KINDS, quoted(other))),
    }
}

fn need(fields: &Fields, name: &str) -> Result<f64> {
    let missing = || fields.wrong(ErrorKind::Missing, name, "a number above 0", "nothing");
    fields.positive(name)?.ok_or_else(missing)
}
