//! Pictures and videos of a row: their patches, and their tokens in its prompt.

use super::encode::unless_absent;
use super::rows::{ImageRef, Row, VideoRef};
use crate::checkpoint::{
    Checkpoint, Error, ErrorKind, Picture, PictureSettings, Result, RgbPicture, Tokenizer,
    VideoSettings,
};
use crate::tensor::Tensor;

/// How a checkpoint shows things to its vision tower, or what it lacks to do so.
pub(super) struct Visuals {
    pictures: std::result::Result<Shows<PictureSettings>, String>,
    videos: std::result::Result<Shows<VideoSettings>, String>,
    /// The tokens around one frame.
    around: [String; 2],
}

struct Shows<S> {
    settings: S,
    /// The token that the template writes for one of them.
    placeholder: String,
}

/// What a row shows, in the order in which the tower reads it.
#[derive(Default)]
pub(super) struct Shown {
    pub(super) patches: Vec<Tensor>,
    pub(super) grids: Vec<[usize; 3]>,
    pub(super) video_grids: Vec<[usize; 3]>,
}

impl Visuals {
    pub(super) fn load(checkpoint: &Checkpoint, tokenizer: &Tokenizer) -> Result<Visuals> {
        let config = checkpoint.config();
        let seeing = |id: Option<u32>| id.filter(|_| config.vision.is_some());
        let tower = || "a vision tower".to_owned();
        let pictures = match seeing(config.image_token_id) {
            None => Err(tower()),
            Some(id) => {
                let placeholder = tokenizer.token(id).ok_or_else(|| {
                    let expected = format!("token {id}, the image_token_id of config.json");
                    Error::new(ErrorKind::Inconsistent, tokenizer.file(), expected, "none")
                })?;
                unless_absent(checkpoint.picture_settings())?
                    .map(|settings| Shows { settings, placeholder })
            }
        };
        // checkpoints that only see pictures may lack the tokens of videos
        let token = |id: Option<u32>| seeing(id).and_then(|id| tokenizer.token(id));
        let tokens =
            [config.video_token_id, config.vision_start_token_id, config.vision_end_token_id];
        let (videos, around) = match tokens.map(token) {
            [Some(placeholder), Some(start), Some(end)] => {
                let settings = unless_absent(checkpoint.video_settings())?;
                (settings.map(|settings| Shows { settings, placeholder }), [start, end])
            }
            _ if config.vision.is_none() => (Err(tower()), Default::default()),
            _ => (Err(format!("the tokens of videos in {}", tokenizer.file())), Default::default()),
        };
        Ok(Visuals { pictures, videos, around })
    }

    /// Prepares what the row shows and stretches each placeholder of its prompt to one token for
    /// each merged patch.
    pub(super) fn show(&self, row: &Row, prompt: String) -> Result<(String, Shown)> {
        let mut shown = Shown::default();
        let prompt = match &self.pictures {
            Ok(pictures) => self.show_pictures(pictures, row, &prompt, &mut shown)?,
            Err(lack) => none_shown(row, row.images.len(), "image", lack).map(|()| prompt)?,
        };
        let prompt = match &self.videos {
            Ok(videos) => self.show_videos(videos, row, &prompt, &mut shown)?,
            Err(lack) => none_shown(row, row.videos.len(), "video", lack).map(|()| prompt)?,
        };
        Ok((prompt, shown))
    }

    fn show_pictures(
        &self,
        Shows { settings, placeholder }: &Shows<PictureSettings>,
        row: &Row,
        prompt: &str,
        shown: &mut Shown,
    ) -> Result<String> {
        let mut texts = Vec::with_capacity(row.images.len());
        let merge = settings.merge_size;
        filled(row, "image", "pictures", placeholder, prompt, row.images.len())?;
        for image in &row.images {
            let path = image.path();
            let prepared = image.read().and_then(|bytes| settings.prepare(&path, &bytes));
            let Picture { pixel_values, grid_thw } =
                prepared.map_err(|error| error.led_to_from(&row.place).field("image"))?;
            texts.push(placeholder.repeat(grid_thw.iter().product::<usize>() / (merge * merge)));
            shown.grids.push(grid_thw);
            shown.patches.push(pixel_values);
        }
        Ok(replaced(prompt, placeholder, &texts))
    }

    fn show_videos(
        &self,
        Shows { settings, placeholder }: &Shows<VideoSettings>,
        row: &Row,
        prompt: &str,
        shown: &mut Shown,
    ) -> Result<String> {
        let [start, end] = &self.around;
        filled(row, "video", "videos", placeholder, prompt, row.videos.len())?;
        let merge = settings.merge_size();
        let mut texts = Vec::with_capacity(row.videos.len());
        for video in &row.videos {
            let Picture { pixel_values, grid_thw } = prepared(settings, row, video)?;
            let [_, height, width] = grid_thw;
            let tokens = placeholder.repeat(height * width / (merge * merge));
            let frame = |seconds: f64| format!("<{seconds:.1} seconds>{start}{tokens}{end}");
            texts.push(settings.timestamps(&video.timestamps).into_iter().map(frame).collect());
            shown.video_grids.push(grid_thw);
            shown.patches.push(pixel_values);
        }
        // the template opens and closes a video as it does a picture, but its frames do so themselves
        let wrapped = format!("{start}{placeholder}{end}");
        Ok(replaced(&prompt.replace(&wrapped, placeholder), placeholder, &texts))
    }
}

fn prepared(settings: &VideoSettings, row: &Row, video: &VideoRef) -> Result<Picture> {
    let of_row = |error: Error| error.led_to_from(&row.place).field("video");
    let decode = |frame: &ImageRef| {
        frame.read().and_then(|bytes| RgbPicture::decode(&frame.path(), &bytes)).map_err(of_row)
    };
    let path = video.frames.first().map(ImageRef::path).unwrap_or_default();
    let file = format!("the video from {path} on");
    let mut frames = Vec::new();
    for frame in &video.frames {
        frames.push(decode(frame)?);
        // so many frames that they are refused are not decoded
        if let [first] = &frames[..] {
            settings.resized(&file, video.frames.len(), first).map_err(of_row)?;
        }
    }
    settings.preprocess(&file, &frames).map_err(of_row)
}

/// Refuses to show what the checkpoint cannot see, as it lacks something.
fn none_shown(row: &Row, found: usize, field: &str, lack: &str) -> Result<()> {
    if found == 0 {
        return Ok(());
    }
    let expected = format!("no {field}, as the checkpoint lacks {lack}");
    Err(Error::new(ErrorKind::Unsupported, &row.place, expected, found).field(field))
}

/// Refuses a prompt with more or fewer placeholders than the row has things to show.
fn filled(
    row: &Row,
    field: &str,
    what: &str,
    placeholder: &str,
    prompt: &str,
    found: usize,
) -> Result<()> {
    let places = prompt.matches(placeholder).count();
    if places == found {
        return Ok(());
    }
    let expected = format!("{places} {what}, one for each {placeholder} of the prompt");
    Err(Error::new(ErrorKind::Inconsistent, &row.place, expected, found).field(field))
}

/// `prompt` with each placeholder replaced by its text.
fn replaced(prompt: &str, placeholder: &str, texts: &[String]) -> String {
    let mut pieces = prompt.split(placeholder);
    let mut out = pieces.next().unwrap_or_default().to_owned();
    for (text, piece) in texts.iter().zip(pieces) {
        out.push_str(text);
        out.push_str(piece);
    }
    out
}
