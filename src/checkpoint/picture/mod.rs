//! Pictures to patches: the numbers of the reference processor of the Qwen2-VL family, the one that
//! resizes with torch.

mod decode;
mod exif;
mod jpeg;
mod patches;
mod resample;
mod segments;
mod settings;
mod video;

#[cfg(test)]
mod tests;

pub use decode::RgbPicture;
pub use patches::Picture;
pub use settings::{PictureSettings, smart_resize};
pub use video::VideoSettings;
