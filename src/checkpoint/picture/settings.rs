//! `preprocessor_config.json` and its like: how large pictures become and how their colours are scaled.

use super::super::JSON_MAX;
use super::super::config::{Config, IMAGE_PROCESSOR, VIDEO_PROCESSOR, prepares_as};
use super::super::error::{Error, ErrorKind, Result, quoted};
use super::super::fields::Fields;
use super::super::files::Files;
use super::patches::Table;
use super::video;
use serde_json::Value;

const FILE: &str = "preprocessor_config.json";
const VIDEO_FILE: &str = "video_preprocessor_config.json";
/// Where transformers 5 keeps all settings, one object for each sort.
const SHARED_FILE: &str = "processor_config.json";
/// The most pixels that a resized picture may be asked to have: 8k by 8k, beyond any model's
/// context.
const PIXELS_MAX: usize = 1 << 26;
/// The most pixels of a picture over all frames of its patches: a GiB and a half in f32.
const PATCHED_MAX: usize = 1 << 27;
/// What samples are multiplied by where a file says nothing.
const RESCALE: f64 = 1.0 / 255.0;
/// The only resampling that the family uses; PIL's number for it.
const BICUBIC: usize = 3;
/// The largest ratio of the sides that the reference processor accepts.
pub(super) const RATIO_MAX: usize = 200;

/// How pictures become patches.
#[derive(Clone, Debug, PartialEq)]
pub struct PictureSettings {
    /// Whether pictures are resized at all.
    pub do_resize: bool,
    /// Whether samples are multiplied by `rescale_factor`.
    pub do_rescale: bool,
    /// Whether samples are shifted by `image_mean` and divided by `image_std`.
    pub do_normalize: bool,
    /// Usually 1/255.
    pub rescale_factor: f64,
    /// For red, green, blue.
    pub image_mean: [f64; 3],
    /// For red, green, blue; not zero.
    pub image_std: [f64; 3],
    /// Fewest pixels of a resized picture.
    pub min_pixels: usize,
    /// Most pixels of a resized picture; at least `min_pixels`.
    pub max_pixels: usize,
    /// Pixels along one side of a patch.
    pub patch_size: usize,
    /// Frames in one patch.
    pub temporal_patch_size: usize,
    /// Patches along one side of a merged patch.
    pub merge_size: usize,
}

/// Where settings are, and what the reference assumes where a file says nothing.
pub(super) struct Defaults {
    /// The first of these files counts.
    files: &'static [&'static str],
    /// The object inside of it, if it is there.
    object: &'static str,
    /// Fields that name a processor and the one that prepares as is done here; the first one that is
    /// there counts.
    processors: &'static [(&'static str, &'static str)],
    mean: [f64; 3],
    std: [f64; 3],
    pixels: [usize; 2],
    /// What samples become.
    table: fn(&PictureSettings) -> Table,
    patch_size: usize,
    /// Whether `min_pixels` and `max_pixels`, as files once said, go before the edges of `size`.
    older_names: bool,
}

/// Of pictures.
pub(super) const PICTURES: Defaults = Defaults {
    files: &[FILE, SHARED_FILE],
    object: "image_processor",
    processors: &[("image_processor_type", IMAGE_PROCESSOR)],
    mean: [0.481_454_66, 0.457_827_5, 0.408_210_73],
    std: [0.268_629_54, 0.261_302_58, 0.275_777_11],
    pixels: [56 * 56, 28 * 28 * 1280],
    table: PictureSettings::table,
    patch_size: 14,
    older_names: true,
};

/// Of videos.
pub(super) const VIDEOS: Defaults = Defaults {
    files: &[VIDEO_FILE, FILE, SHARED_FILE],
    object: "video_processor",
    processors: &[
        ("video_processor_type", VIDEO_PROCESSOR),
        ("image_processor_type", IMAGE_PROCESSOR),
    ],
    mean: [0.5; 3],
    std: [0.5; 3],
    pixels: [128 * 32 * 32, 768 * 32 * 32],
    table: video::table,
    patch_size: 16,
    older_names: false,
};

impl PictureSettings {
    pub(in super::super) fn load(files: &Files, config: &Config) -> Result<PictureSettings> {
        PictureSettings::load_from(files, config, &PICTURES)
    }

    /// The settings, which must agree with the vision tower of `config`.
    pub(super) fn load_from(
        files: &Files,
        config: &Config,
        defaults: &Defaults,
    ) -> Result<PictureSettings> {
        let name = files.first(defaults.files)?.ok_or_else(|| {
            let expected = defaults.files.join(" or ");
            Error::new(ErrorKind::Missing, files.describe(""), expected, "none")
        })?;
        let file = files.describe(name);
        let json = files.read_json(name, JSON_MAX)?;
        let root = Fields::root(&file, &json)?;
        let fields = root.object(defaults.object)?.unwrap_or(root);
        let settings = PictureSettings::parse(&fields, defaults)?;
        if let Some(vision) = &config.vision {
            for (name, found, expected) in [
                ("patch_size", settings.patch_size, vision.patch_size),
                ("temporal_patch_size", settings.temporal_patch_size, vision.temporal_patch_size),
                ("merge_size", settings.merge_size, vision.spatial_merge_size),
            ] {
                if found != expected {
                    let expected = format!("{expected} as config.json says");
                    let found = fields.found(name, found);
                    return Err(fields.wrong(ErrorKind::Inconsistent, name, expected, found));
                }
            }
        }
        Ok(settings)
    }

    pub(super) fn parse(fields: &Fields, defaults: &Defaults) -> Result<PictureSettings> {
        // null is there and is not true
        let flag = |name: &str| Ok(fields.flag(name)?.unwrap_or(!fields.is_null(name)));
        let size = fields.object("size")?;
        // with the object and the name of the field that says so
        let pixels = |name: &'static str, edge, default| -> Result<_> {
            let older = fields.size(name, 1..=PIXELS_MAX)?;
            match (older, &size) {
                // the older pair of fields wins where a file has both, as it does in transformers
                (Some(pixels), _) if defaults.older_names => Ok((pixels, fields, name)),
                // a file for pictures that serves for videos may have them alone
                (Some(pixels), Some(size)) if size.get(edge).is_none() => {
                    Ok((pixels, fields, name))
                }
                (_, Some(size)) => Ok((size.required(edge, 1..=PIXELS_MAX)?, size, edge)),
                (_, None) => Ok((default, fields, name)),
            }
        };
        let (min_pixels, least, min) = pixels("min_pixels", "shortest_edge", defaults.pixels[0])?;
        let (max_pixels, most, max) = pixels("max_pixels", "longest_edge", defaults.pixels[1])?;
        if max_pixels < min_pixels {
            let expected = format!("at least {} {min_pixels}", least.path(min));
            let found = most.found(max, max_pixels);
            return Err(most.wrong(ErrorKind::Inconsistent, max, expected, found));
        }
        let sides = |name: &str, default| Ok(fields.size(name, 1..=256)?.unwrap_or(default));
        let settings = PictureSettings {
            do_resize: flag("do_resize")?,
            do_rescale: flag("do_rescale")?,
            do_normalize: flag("do_normalize")?,
            rescale_factor: fields.positive("rescale_factor")?.unwrap_or(RESCALE),
            image_mean: fields.reals("image_mean")?.unwrap_or(defaults.mean),
            image_std: fields.reals("image_std")?.unwrap_or(defaults.std),
            min_pixels,
            max_pixels,
            patch_size: sides("patch_size", defaults.patch_size)?,
            temporal_patch_size: sides("temporal_patch_size", 2)?,
            merge_size: sides("merge_size", 2)?,
        };
        settings.check(fields, defaults)?;
        Ok(settings)
    }

    fn check(&self, fields: &Fields, defaults: &Defaults) -> Result<()> {
        let named = defaults.processors.iter().find(|(name, _)| fields.get(name).is_some());
        if let Some((name, known)) = named
            && let Some(other) = fields.text(name)?.filter(|other| !prepares_as(known, other))
        {
            let kind = ErrorKind::Unsupported;
            return Err(fields.wrong(kind, name, quoted(known), quoted(other)));
        }
        if let Some(resample) = fields.size("resample", 0..=5)?.filter(|&r| r != BICUBIC) {
            let expected = "3, bicubic";
            return Err(fields.wrong(ErrorKind::Unsupported, "resample", expected, resample));
        }
        let is_finite = |settings: &PictureSettings| {
            (defaults.table)(settings).as_flattened().iter().all(|sample| sample.is_finite())
        };
        if is_finite(self) {
            return Ok(());
        }
        // the field whose usual value mends it is to blame
        let usual = [
            ("rescale_factor", PictureSettings { rescale_factor: RESCALE, ..self.clone() }),
            ("image_mean", PictureSettings { image_mean: defaults.mean, ..self.clone() }),
        ];
        let mends = usual.iter().find(|(_, settings)| is_finite(settings));
        let name = mends.map_or("image_std", |(name, _)| name);
        let found = fields.get(name).map(Value::to_string).unwrap_or_default();
        let expected = "numbers that make all of 0 to 255 finite in f32";
        Err(fields.wrong(ErrorKind::OutOfRange, name, expected, found))
    }

    /// Height and width that a picture of this height and width is resized to.
    ///
    /// # Errors
    /// `Unsupported` if it is too elongated, or if resizing is off and patches do not fit.
    pub fn resized(&self, file: &str, height: usize, width: usize) -> Result<(usize, usize)> {
        self.fitted(file, height, width, self.temporal_patch_size, |factor| {
            smart_resize(height, width, factor, self.min_pixels, self.max_pixels)
                .ok_or_else(|| format!("a picture with sides of a ratio of at most {RATIO_MAX}"))
        })
    }

    /// What `fit` makes of the sides, or what it expected of them, within the bounds of memory for
    /// this many `frames`.
    pub(super) fn fitted(
        &self,
        file: &str,
        height: usize,
        width: usize,
        frames: usize,
        fit: impl Fn(usize) -> std::result::Result<(usize, usize), String>,
    ) -> Result<(usize, usize)> {
        let factor = self.patch_size * self.merge_size;
        let fits = match self.do_resize {
            true => fit(factor),
            false if height.is_multiple_of(factor) && width.is_multiple_of(factor) => {
                Ok((height, width))
            }
            false => Err(format!("sides in steps of {factor} pixels, as do_resize is false")),
        };
        let (rows, columns) = fits.map_err(|expected| {
            let found = format!("{height} x {width} pixels");
            Error::new(ErrorKind::Unsupported, file, expected, found)
        })?;
        let pixels = rows.checked_mul(columns).and_then(|p| p.checked_mul(frames));
        // steps of huge patches and elongated pictures leave the bounds that were asked for, and what
        // is not resized has none
        if pixels.is_none_or(|pixels| pixels > PATCHED_MAX) {
            let expected = format!("at most {PATCHED_MAX} pixels to cut into patches");
            let found = format!("{rows} x {columns} in {frames} frames");
            return Err(Error::new(ErrorKind::OutOfRange, file, expected, found));
        }
        Ok((rows, columns))
    }
}

/// Height and width, both multiples of `factor`, with about the same ratio and between `min_pixels`
/// and `max_pixels` pixels. Nothing if a side or `factor` is zero, if one side is more than 200
/// times the other, or if the result would not be a size at all.
///
/// Rounds as Python does, halves to even: every published grid of patches depends on it. As in the
/// reference, a very elongated picture may leave the bounds.
pub fn smart_resize(
    height: usize,
    width: usize,
    factor: usize,
    min_pixels: usize,
    max_pixels: usize,
) -> Option<(usize, usize)> {
    smart_resize_frames([1, 1], height, width, factor, min_pixels, max_pixels)
}

/// The same for frames of a video, whose pixels count together: as many as there are, and as many
/// as patches hold.
pub(super) fn smart_resize_frames(
    [given, held]: [usize; 2],
    height: usize,
    width: usize,
    factor: usize,
    min_pixels: usize,
    max_pixels: usize,
) -> Option<(usize, usize)> {
    let (long, short) = (height.max(width), height.min(width));
    if short == 0 || factor == 0 || long as f64 / short as f64 > RATIO_MAX as f64 {
        return None;
    }
    let (h, w, step) = (height as f64, width as f64, factor as f64);
    let round = |side: f64| (side / step).round_ties_even() as usize;
    let (mut rows, mut columns) = (round(h), round(w));
    let pixels = rows
        .checked_mul(columns)
        .and_then(|steps| steps.checked_mul(factor))
        .and_then(|steps| steps.checked_mul(factor))
        .and_then(|pixels| pixels.checked_mul(held))?;
    let given = given as f64;
    if pixels > max_pixels {
        let shrink = (given * h * w / max_pixels as f64).sqrt();
        rows = ((h / shrink / step).floor() as usize).max(1);
        columns = ((w / shrink / step).floor() as usize).max(1);
    } else if pixels < min_pixels {
        let grow = (min_pixels as f64 / (given * h * w)).sqrt();
        rows = (h * grow / step).ceil() as usize;
        columns = (w * grow / step).ceil() as usize;
    }
    let (rows, columns) = (rows.checked_mul(factor)?, columns.checked_mul(factor)?);
    (rows > 0 && columns > 0).then_some((rows, columns))
}
