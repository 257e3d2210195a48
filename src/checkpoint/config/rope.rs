//! Rotary position embedding: base, scaling, and how three coordinates share the channels.

use super::super::error::{ErrorKind, Result, quoted};
use super::super::fields::Fields;
use super::limits::{HEAD_DIM_MAX, POSITIONS_MAX};

/// How angles grow with the position.
#[derive(Clone, Debug, PartialEq)]
pub struct RopeConfig {
    /// Base of the geometric series of wavelengths; above 0.
    pub theta: f64,
    /// How the frequencies are stretched for long contexts.
    pub rope_type: RopeType,
    /// Frequencies that turn with time, row and column; they sum to `head_dim / 2`.
    pub mrope_section: Option<[usize; 3]>,
    /// Whether the three coordinates alternate over the frequencies rather than lie in blocks.
    pub mrope_interleaved: bool,
    /// Multiplies both cosine and sine; 1 for everything but yarn.
    pub attention_scaling: f64,
}

/// The stretching of rotary frequencies, with the parameters of each kind.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum RopeType {
    /// None.
    Default,
    /// Every frequency divided by `factor`.
    Linear {
        /// Above 0.
        factor: f64,
    },
    /// Long wavelengths divided by `factor`, short ones kept, those between interpolated.
    Llama3 {
        /// Above 0.
        factor: f64,
        /// Wavelengths above `original_max_position_embeddings / low_freq_factor` are long.
        low_freq_factor: f64,
        /// Wavelengths below `original_max_position_embeddings / high_freq_factor` are short.
        high_freq_factor: f64,
        /// Longest sequence before stretching, in tokens.
        original_max_position_embeddings: usize,
    },
    /// A ramp over the channels between kept and divided frequencies.
    Yarn {
        /// Above 0.
        factor: f64,
        /// Longest sequence before stretching, in tokens.
        original_max_position_embeddings: usize,
        /// Rotations over the original context from which a frequency is kept.
        beta_fast: f64,
        /// Rotations over the original context below which a frequency is divided.
        beta_slow: f64,
        /// Whether the ends of the ramp are rounded to whole channels.
        truncate: bool,
    },
}

/// What the rotary fields are read against.
pub(super) struct Surroundings {
    pub(super) head_dim: usize,
    pub(super) max_position_embeddings: usize,
    /// Base where the file has none.
    pub(super) theta: f64,
    /// Whether tokens have three coordinates.
    pub(super) multimodal: bool,
}

pub(super) fn parse(text: &Fields, around: &Surroundings) -> Result<RopeConfig> {
    // transformers 5 moved the base inside the object and renamed it
    let (name, scaling) = match text.object("rope_parameters")? {
        Some(fields) => ("rope_parameters", Some(fields)),
        None => ("rope_scaling", text.object("rope_scaling")?),
    };
    if let Some(layer_type) = scaling.as_ref().and_then(Fields::first_object) {
        let expected = "one set of rotary parameters for all layers";
        return Err(text.wrong(ErrorKind::Unsupported, name, expected, quoted(layer_type)));
    }
    let inside = scaling.as_ref().map(|fields| fields.positive("rope_theta")).transpose()?;
    let theta = match inside.flatten() {
        Some(theta) => theta,
        None => text.positive("rope_theta")?.unwrap_or(around.theta),
    };
    for fields in [Some(text), scaling.as_ref()].into_iter().flatten() {
        match fields.real("partial_rotary_factor")? {
            None | Some(1.0) => {}
            Some(part) => {
                let (name, expected) = ("partial_rotary_factor", "1, every channel rotated");
                return Err(fields.wrong(ErrorKind::Unsupported, name, expected, part));
            }
        }
    }
    let (rope_type, attention_scaling) = match &scaling {
        Some(fields) => stretching(fields, around)?,
        None => (RopeType::Default, 1.0),
    };
    let mrope_section = sections(scaling.as_ref(), around)?;
    let interleaved =
        scaling.as_ref().map(|fields| fields.flag("mrope_interleaved")).transpose()?;
    Ok(RopeConfig {
        theta,
        rope_type,
        mrope_section,
        mrope_interleaved: interleaved.flatten().unwrap_or(around.multimodal),
        attention_scaling,
    })
}

fn sections(scaling: Option<&Fields>, around: &Surroundings) -> Result<Option<[usize; 3]>> {
    const NAME: &str = "mrope_section";
    const QWEN3_VL: [usize; 3] = [24, 20, 20];
    let Some(fields) = scaling else {
        return Ok(around.multimodal.then_some(QWEN3_VL));
    };
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

fn stretching(fields: &Fields, around: &Surroundings) -> Result<(RopeType, f64)> {
    let name = if fields.get("rope_type").is_some() { "rope_type" } else { "type" };
    let factor = || need(fields, "factor");
    let original = || fields.size("original_max_position_embeddings", 1..=POSITIONS_MAX);
    match fields.text(name)?.unwrap_or("default") {
        // the first multimodal files called plain frequencies with three coordinates "mrope"
        "default" | "mrope" => Ok((RopeType::Default, 1.0)),
        "linear" => Ok((RopeType::Linear { factor: factor()? }, 1.0)),
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
            let rope = RopeType::Llama3 {
                factor,
                low_freq_factor,
                high_freq_factor,
                original_max_position_embeddings,
            };
            Ok((rope, 1.0))
        }
        "yarn" => {
            let factor = factor()?;
            let rope = RopeType::Yarn {
                factor,
                original_max_position_embeddings: original()?
                    .unwrap_or(around.max_position_embeddings),
                beta_fast: fields.positive("beta_fast")?.unwrap_or(32.0),
                beta_slow: fields.positive("beta_slow")?.unwrap_or(1.0),
                truncate: fields.flag("truncate")?.unwrap_or(true),
            };
            Ok((rope, yarn_scaling(fields, factor)?))
        }
        other => {
            let expected = "one of default, linear, llama3, yarn";
            Err(fields.wrong(ErrorKind::Unsupported, name, expected, quoted(other)))
        }
    }
}

/// The factor on cosine and sine that yarn derives from how far the context is stretched.
fn yarn_scaling(fields: &Fields, factor: f64) -> Result<f64> {
    if let Some(given) = fields.positive("attention_factor")? {
        return Ok(given);
    }
    let scale = |weight: f64| if factor <= 1.0 { 1.0 } else { 0.1 * weight * factor.ln() + 1.0 };
    let nonzero = |real: &f64| *real != 0.0;
    let mscale = fields.real("mscale")?.filter(nonzero);
    let scaling = match (mscale, fields.real("mscale_all_dim")?.filter(nonzero)) {
        (Some(one), Some(all)) => scale(one) / scale(all),
        _ => scale(1.0),
    };
    if scaling.is_finite() && scaling > 0.0 {
        return Ok(scaling);
    }
    let expected = "a weight that leaves a scale above 0";
    Err(fields.wrong(ErrorKind::OutOfRange, "mscale", expected, scaling))
}

fn need(fields: &Fields, name: &str) -> Result<f64> {
    let missing = || fields.wrong(ErrorKind::Missing, name, "a number above 0", "nothing");
    fields.positive(name)?.ok_or_else(missing)
}
