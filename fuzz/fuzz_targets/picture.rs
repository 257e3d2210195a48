//! Any bytes as a PNG or JPEG.
#![no_main]

use encircle::checkpoint::RgbPicture;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(picture) = RgbPicture::decode("picture", bytes) {
        assert_eq!(picture.pixels().len(), 3 * picture.width() * picture.height());
    }
});
