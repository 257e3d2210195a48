use super::super::error::ErrorKind;
use super::super::fields::Fields;
use super::super::safetensors::Store;
use super::resample::resize;
use super::settings::{PICTURES, VIDEOS, smart_resize_frames};
use super::*;
use crate::checkpoint::Files;
use proptest::prelude::*;
use serde_json::json;

/// A data folder of the tests.
fn data(folder: &str) -> Files {
    Files::folder(format!("{}/tests/data/{folder}", env!("CARGO_MANIFEST_DIR")))
}

fn bytes(folder: &str, name: &str) -> Vec<u8> {
    data(folder).read(name, 1 << 24).unwrap().into_owned()
}

/// What PIL, torch and the reference processor made.
fn expected() -> Store {
    Store::open_single(&data("pictures"), "expected.safetensors").unwrap()
}

fn rgb(store: &Store, name: &str) -> RgbPicture {
    let shape = store.info(name).unwrap().shape.clone();
    RgbPicture::new(shape[1], shape[0], store.raw(name).unwrap().0.to_vec()).unwrap()
}

fn settings(json: serde_json::Value) -> crate::checkpoint::Result<PictureSettings> {
    PictureSettings::parse(&Fields::root("p", &json).unwrap(), &PICTURES)
}

fn small() -> PictureSettings {
    settings(json!({"min_pixels": 1024, "max_pixels": 1536, "patch_size": 4})).unwrap()
}

fn largest_difference(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
}

#[test]
fn resizing_equals_torch_to_the_bit() {
    let store = expected();
    for k in 0..16 {
        let source = rgb(&store, &format!("resize.{k}.source"));
        let target = rgb(&store, &format!("resize.{k}.target"));
        let ours = resize(&source, target.width(), target.height());
        assert!(ours == target, "case {k}: {source:?} to {target:?}");
    }
}

#[test]
fn colour_modes_become_rgb_as_in_pil() {
    let store = expected();
    for mode in [
        "grey",
        "grey_alpha",
        "rgba",
        "bits",
        "palette",
        "grey16",
        "grey16_clear",
        "rgb16",
        "rgba16",
        "grey_alpha16",
    ] {
        let picture = RgbPicture::decode(mode, &bytes("pictures", &format!("{mode}.png"))).unwrap();
        let theirs = rgb(&store, &format!("mode.{mode}"));
        assert_eq!(picture.pixels(), theirs.pixels(), "{mode}");
    }
}

#[test]
fn jpeg_equals_pil_to_the_bit() {
    let store = expected();
    for (folder, name) in [("vqa", "train_000"), ("pictures", "odd")] {
        let ours = RgbPicture::decode(name, &bytes(folder, &format!("{name}.jpg"))).unwrap();
        assert!(ours == rgb(&store, &format!("jpeg.{name}")), "{name}");
    }
    for kind in [
        "full",
        "half",
        "quarter",
        "fine",
        "coarse",
        "progressive",
        "restarts",
        "grey",
        "cmyk",
        "colours",
    ] {
        let [ours, theirs] = ["jpg", "png"].map(|extension| {
            let name = format!("jpeg/{kind}.{extension}");
            RgbPicture::decode(&name, &bytes("pictures", &name)).unwrap()
        });
        assert!(ours == theirs, "{kind}");
    }
}

#[test]
fn a_jpeg_that_is_refused_says_why() {
    let whole = bytes("pictures", "jpeg/quarter.jpg");
    let why = |jpeg: &[u8]| {
        let error = RgbPicture::decode("p.jpg", jpeg).unwrap_err();
        std::error::Error::source(&error).unwrap().to_string()
    };
    let marker = |kind: u8| whole.windows(2).position(|pair| pair == [0xff, kind]).unwrap();
    let changed = |at: usize, byte: u8| {
        let mut jpeg = whole.clone();
        jpeg[marker(0xc0) + at] = byte;
        why(&jpeg)
    };
    assert!(changed(4, 12).contains("precision"), "{}", changed(4, 12));
    assert!(changed(1, 0xc3).contains("0xc3"), "{}", changed(1, 0xc3));
    let (head, rest) = whole.split_at(marker(0xda));
    let (scan, end) = rest.split_at(rest.len() - 2);
    assert_eq!(why(&[head, &scan.repeat(501), end].concat()), "501 scans are too many");
}

#[test]
fn the_whole_processor_equals_the_reference() {
    let store = expected();
    for k in 0..3 {
        let name = |part: &str| format!("process.{k}.{part}");
        let picture = small().preprocess("p", &rgb(&store, &name("source"))).unwrap();
        let theirs = store
            .read(&name("pixel_values"), &store.info(&name("pixel_values")).unwrap().shape)
            .unwrap();
        assert_eq!(picture.pixel_values.shape(), theirs.shape(), "{k}");
        assert!(largest_difference(picture.pixel_values.data(), theirs.data()) < 1e-6, "{k}");
    }
}

#[test]
fn frames_fill_their_patches_and_the_last_one_repeats() {
    let store = expected();
    let (raw, _) = store.raw("video.frames").unwrap();
    let frames: Vec<RgbPicture> = raw
        .chunks_exact(20 * 30 * 3)
        .map(|frame| RgbPicture::new(30, 20, frame.to_vec()).unwrap())
        .collect();
    let size = small().resized("v", 20, 30).unwrap();
    let video = small().patched(&frames, size, &small().table());
    assert_eq!(video.grid_thw[0], 2);
    let theirs =
        store.read("video.pixel_values", &store.info("video.pixel_values").unwrap().shape).unwrap();
    assert!(largest_difference(video.pixel_values.data(), theirs.data()) < 1e-6);
}

#[test]
fn sizes_equal_the_reference() {
    /// Height, width, factor, fewest and most pixels; then height and width.
    type Case = (usize, usize, usize, usize, usize, Option<(usize, usize)>);
    let cases: Vec<Case> = serde_json::from_slice(&bytes("pictures", "smart_resize.json")).unwrap();
    assert_eq!(cases.len(), 300);
    for (h, w, factor, min, max, theirs) in cases {
        assert_eq!(smart_resize(h, w, factor, min, max), theirs, "{h} {w} {factor} {min} {max}");
    }
}

#[test]
fn sizes_of_frames_equal_the_reference() {
    /// Frames, height, width, frames of a patch, factor, fewest and most pixels; height and width.
    type Case = (usize, usize, usize, usize, usize, usize, usize, Option<(usize, usize)>);
    let file: serde_json::Value = serde_json::from_slice(&bytes("video", "cases.json")).unwrap();
    let cases: Vec<Case> = serde_json::from_value(file["smart_resize"].clone()).unwrap();
    assert_eq!(cases.len(), 120);
    for (frames, h, w, deep, factor, min, max, theirs) in cases {
        let count = (frames as f64 / deep as f64).round_ties_even() as usize * deep;
        let ours = smart_resize_frames([frames, count], h, w, factor, min, max);
        assert_eq!(ours.filter(|_| h >= factor && w >= factor), theirs, "{frames} of {h} x {w}");
    }
}

#[test]
fn no_picture_is_an_error_that_names_the_file() {
    for (content, found) in [
        (&b"hello"[..], "other bytes"),
        (b"", "other bytes"),
        (b"\x89PNG\r\n\x1a\n and then nothing", "a broken one"),
        (b"\xff\xd8\xff\xe0 and then nothing", "a broken one"),
    ] {
        let error = RgbPicture::decode("a/b.png", content).unwrap_err();
        let text = format!("a/b.png: expected a picture (PNG or JPEG), found {found}");
        assert_eq!((error.kind(), error.to_string()), (ErrorKind::Malformed, text));
    }
}

#[test]
fn a_jpeg_ends_where_its_markers_end() {
    let odd = bytes("pictures", "odd.jpg");
    // as cameras have it: a thumbnail, with an end of its own
    let thumbnail = [b"Exif\0\0", &*bytes("pictures", "grey.jpg")].concat();
    let length = u16::try_from(thumbnail.len() + 2).unwrap().to_be_bytes();
    let exif = [&odd[..2], b"\xff\xe1", &length, &thumbnail, &odd[2..]].concat();
    for whole in [exif, bytes("pictures", "progressive.jpg")] {
        for end in 0..whole.len() {
            assert!(RgbPicture::decode("cut", &whole[..end]).is_err(), "{end}");
        }
        let followed = [&whole, &b"\xff\xd8 and something else \xff"[..]].concat();
        let [whole, followed] = [whole, followed].map(|jpeg| RgbPicture::decode("p", &jpeg));
        assert_eq!(whole.unwrap(), followed.unwrap());
    }
}

/// How many zeros in place of its end PIL 13.0 needs to take a file: as many as its decoder reads ahead.
#[test]
fn a_jpeg_without_its_end_is_read_where_pil_reads_it() {
    for (folder, name, needed) in [
        ("pictures", "odd.jpg", Some(1)),
        ("pictures", "progressive.jpg", None),
        ("pictures/jpeg", "cmyk.jpg", Some(5)),
        ("pictures/jpeg", "coarse.jpg", Some(7)),
        ("pictures/jpeg", "full.jpg", Some(6)),
        ("pictures/jpeg", "grey.jpg", Some(7)),
        ("pictures/jpeg", "restarts.jpg", Some(2)),
        ("vqa", "train_000.jpg", Some(3)),
        ("../../assets/vqa", "train_014.jpg", Some(0)),
    ] {
        let jpeg = bytes(folder, name);
        let whole = RgbPicture::decode(name, &jpeg).unwrap();
        for zeros in 0..12 {
            let endless = [&jpeg[..jpeg.len() - 2], &vec![0; zeros]].concat();
            let read = needed.filter(|needed| zeros >= *needed).map(|_| &whole);
            assert_eq!(RgbPicture::decode(name, &endless).ok().as_ref(), read, "{name} {zeros}");
        }
        let cut = RgbPicture::decode(name, &jpeg[..jpeg.len() - 3]);
        assert_eq!(cut.unwrap_err().found(), "a broken one");
    }
}

#[test]
fn settings_are_read_in_both_spellings() {
    let old = settings(json!({"min_pixels": 4, "max_pixels": 9, "patch_size": 16})).unwrap();
    let new = settings(
        json!({"size": {"shortest_edge": 4, "longest_edge": 9}, "patch_size": 16, "resample": 3}),
    );
    assert_eq!(old, new.unwrap());
    let both = json!({"min_pixels": 4, "max_pixels": 9, "patch_size": 16,
        "size": {"min_pixels": 1, "max_pixels": 2}});
    assert_eq!(old, settings(both.clone()).unwrap());
    let videos = PictureSettings::parse(&Fields::root("p", &both).unwrap(), &VIDEOS).unwrap();
    assert_eq!((videos.min_pixels, videos.max_pixels), (4, 9));
    let defaults = settings(json!({})).unwrap();
    assert_eq!((defaults.min_pixels, defaults.max_pixels), (3136, 1_003_520));
    assert_eq!((defaults.patch_size, defaults.merge_size), (14, 2));
}

#[test]
fn a_switch_that_is_null_is_off() {
    let on = |value: serde_json::Value| {
        let json = json!({"do_resize": value, "do_rescale": value, "do_normalize": value});
        let settings = settings(json).unwrap();
        [settings.do_resize, settings.do_rescale, settings.do_normalize]
    };
    assert_eq!((on(json!(null)), on(json!(true))), ([false; 3], [true; 3]));
}

#[test]
fn wrong_settings_name_their_field() {
    for (json, field, kind) in [
        (json!({"resample": 2}), "resample", ErrorKind::Unsupported),
        (
            json!({"image_processor_type": "CLIPImageProcessor"}),
            "image_processor_type",
            ErrorKind::Unsupported,
        ),
        (json!({"merge_size": 0}), "merge_size", ErrorKind::OutOfRange),
        (json!({"patch_size": "16"}), "patch_size", ErrorKind::WrongType),
        (json!({"image_std": [1, 0, 1]}), "image_std", ErrorKind::OutOfRange),
        (json!({"image_mean": [1, 0]}), "image_mean", ErrorKind::WrongType),
        (json!({"size": {"height": 3}}), "size.shortest_edge", ErrorKind::Missing),
        (json!({"min_pixels": 9, "max_pixels": 4}), "max_pixels", ErrorKind::Inconsistent),
    ] {
        let error = settings(json).unwrap_err();
        assert_eq!(error.item(), Some(format!("field \"{field}\"").as_str()));
        assert_eq!(error.kind(), kind, "{field}");
    }
}

#[test]
fn numbers_that_leave_no_finite_samples_name_their_field() {
    for (json, field) in [
        (json!({"rescale_factor": 1e300}), "rescale_factor"),
        (json!({"image_mean": [0, 1e300, 0]}), "image_mean"),
        (json!({"image_mean": 3e38}), "image_mean"),
        (json!({"image_std": [1, 1e-50, 1]}), "image_std"),
        (json!({"image_std": 0}), "image_std"),
    ] {
        for defaults in [&PICTURES, &VIDEOS] {
            let parsed = PictureSettings::parse(&Fields::root("p", &json).unwrap(), defaults);
            let (error, found) = (parsed.unwrap_err(), &json[field]);
            let text = format!(
                "p: field \"{field}\": expected numbers that make all of 0 to 255 \
                finite in f32, found {found}"
            );
            assert_eq!((error.kind(), error.to_string()), (ErrorKind::OutOfRange, text));
        }
    }
    settings(json!({"image_std": 0, "do_normalize": false})).unwrap();
}

#[test]
fn bounds_that_contradict_each_other_are_named_as_the_file_has_them() {
    for (json, text) in [
        (
            json!({"size": {"shortest_edge": 9, "longest_edge": 4}}),
            "\"size.longest_edge\": expected at least size.shortest_edge 9, found 4",
        ),
        (
            json!({"max_pixels": 4, "size": {"shortest_edge": 9, "longest_edge": 10}}),
            "\"max_pixels\": expected at least size.shortest_edge 9, found 4",
        ),
        (
            json!({"min_pixels": 2_000_000}),
            "\"max_pixels\": expected at least min_pixels 2000000, found nothing, which stands for \
            1003520",
        ),
    ] {
        assert_eq!(settings(json).unwrap_err().to_string(), format!("p: field {text}"));
    }
}

#[test]
fn videos_are_prepared_as_one_video_processor_does() {
    let videos = |json: serde_json::Value| {
        PictureSettings::parse(&Fields::root("p", &json).unwrap(), &VIDEOS)
    };
    let image = "image_processor_type";
    // what a file for pictures calls its own processor counts where it serves for videos
    for json in [
        json!({"video_processor_type": "Qwen3VLVideoProcessor"}),
        json!({"video_processor_type": "Qwen3VLVideoProcessor", image: "CLIPImageProcessor"}),
        json!({image: "Qwen2VLImageProcessorFast"}),
    ] {
        videos(json).unwrap();
    }
    let error = videos(json!({"video_processor_type": "Qwen2VLVideoProcessor"})).unwrap_err();
    let text = "p: field \"video_processor_type\": expected \"Qwen3VLVideoProcessor\", found \
        \"Qwen2VLVideoProcessor\"";
    assert_eq!((error.kind(), error.to_string()), (ErrorKind::Unsupported, text.to_owned()));
    assert!(videos(json!({image: "CLIPImageProcessor"})).is_err());
    settings(json!({"video_processor_type": "Qwen2VLVideoProcessor"})).unwrap();
}

#[test]
fn pictures_that_cannot_be_patched_are_refused() {
    let elongated = RgbPicture::new(201, 1, vec![0; 603]).unwrap();
    let error = small().preprocess("e.png", &elongated).unwrap_err();
    let text =
        "e.png: expected a picture with sides of a ratio of at most 200, found 1 x 201 pixels";
    assert_eq!((error.kind(), error.to_string()), (ErrorKind::Unsupported, text.to_owned()));

    let as_is = settings(json!({"do_resize": false, "patch_size": 4})).unwrap();
    assert_eq!(as_is.preprocess("e", &elongated).unwrap_err().kind(), ErrorKind::Unsupported);
    let fits = RgbPicture::new(16, 8, vec![7; 384]).unwrap();
    assert_eq!(as_is.preprocess("e", &fits).unwrap().grid_thw, [1, 2, 4]);
    let large = as_is.resized("e", 8192, 8200).unwrap_err();
    let text =
        "e: expected at most 134217728 pixels to cut into patches, found 8192 x 8200 in 2 frames";
    assert_eq!((large.kind(), large.to_string()), (ErrorKind::OutOfRange, text.to_owned()));

    let huge = settings(json!({"patch_size": 256, "merge_size": 256})).unwrap();
    assert_eq!(huge.preprocess("e", &fits).unwrap_err().kind(), ErrorKind::OutOfRange);
    assert_eq!(RgbPicture::new(0, 4, vec![]), None);
    assert_eq!(RgbPicture::new(usize::MAX, 4, vec![]), None);
}

proptest! {
    #[test]
    fn resized_sides_are_steps_and_keep_the_bounds(
        h in 1usize..5000, w in 1usize..5000, factor in 1usize..70,
        min in 1usize..1_000_000, more in 0usize..4_000_000,
    ) {
        let max = min + more;
        let Some((rows, columns)) = smart_resize(h, w, factor, min, max) else {
            prop_assert!(h.max(w) > 200 * h.min(w));
            return Ok(());
        };
        prop_assert!(rows > 0 && columns > 0);
        prop_assert!(rows % factor == 0 && columns % factor == 0);
        // growing stops above the minimum, but the next step may lie above the maximum
        let pixels = rows * columns;
        prop_assert!(pixels >= min || rows == factor || columns == factor || max < min * 4 || h * w > max);
    }

    #[test]
    fn any_size_is_no_panic(h: usize, w: usize, factor: usize, min: usize, max: usize) {
        let _ = smart_resize(h, w, factor, min, max);
    }

    #[test]
    fn random_bytes_are_no_picture_and_no_panic(
        magic in 0usize..3, rest in proptest::collection::vec(any::<u8>(), 0..100)
    ) {
        let mut bytes = [&b""[..], b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", b"\xff\xd8\xff"][magic].to_vec();
        bytes.extend(rest);
        prop_assert!(RgbPicture::decode("p", &bytes).is_err());
    }
}

/// An EXIF block that notes an orientation, in either order of bytes.
fn block(little: bool, orientation: u16) -> Vec<u8> {
    let short = |x: u16| if little { x.to_le_bytes() } else { x.to_be_bytes() };
    let long = |x: u16| if little { [short(x), [0; 2]] } else { [[0; 2], short(x)] }.concat();
    let entries = [(0x010f, 2, 7), (0x0112, 3, orientation)];
    let mut bytes =
        [if little { b"II" } else { b"MM" }.to_vec(), short(42).to_vec(), long(8)].concat();
    bytes.extend(short(2));
    for (tag, kind, value) in entries {
        bytes.extend([&short(tag)[..], &short(kind), &long(1), &short(value), &[0; 2]].concat());
    }
    bytes
}

/// What PIL's `transpose` makes of the rows 0 1 2 and 3 4 5.
#[test]
fn a_picture_is_turned_as_its_camera_was_held() {
    let numbers: Vec<u8> = (0..6).flat_map(|n| [n; 3]).collect();
    let picture = RgbPicture::new(3, 2, numbers).unwrap();
    for (orientation, width, expected) in [
        (1, 3, [0, 1, 2, 3, 4, 5]),
        (2, 3, [2, 1, 0, 5, 4, 3]),
        (3, 3, [5, 4, 3, 2, 1, 0]),
        (4, 3, [3, 4, 5, 0, 1, 2]),
        (5, 2, [0, 3, 1, 4, 2, 5]),
        (6, 2, [3, 0, 4, 1, 5, 2]),
        (7, 2, [5, 2, 4, 1, 3, 0]),
        (8, 2, [2, 5, 1, 4, 0, 3]),
        (9, 3, [0, 1, 2, 3, 4, 5]),
    ] {
        let turned = exif::upright(picture.clone(), orientation);
        let found: Vec<u8> = turned.pixels().iter().step_by(3).copied().collect();
        assert_eq!((turned.width(), &found[..]), (width, &expected[..]), "{orientation}");
    }
}

/// The JPEG file with a segment APP1 of this content.
fn with_segment(jpeg: &[u8], content: &[u8]) -> Vec<u8> {
    let len = u16::try_from(content.len() + 2).unwrap().to_be_bytes();
    [&jpeg[..2], &[0xff, 0xe1], &len, content, &jpeg[2..]].concat()
}

/// The PNG file with a chunk behind its header or before its end.
fn with_chunk(png: &[u8], kind: &[u8; 4], content: &[u8], behind: bool) -> Vec<u8> {
    let len = u32::try_from(content.len()).unwrap().to_be_bytes();
    let checked = [&kind[..], content].concat();
    let crc = checked.iter().fold(u32::MAX, |crc, byte| {
        let shift = |crc: u32| crc >> 1 ^ if crc & 1 == 1 { 0xedb8_8320 } else { 0 };
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| shift(crc))
    });
    // the header: 8 bytes of the file, 25 of the chunk; the end: 12 bytes
    let (before, after) = png.split_at(if behind { png.len() - 12 } else { 33 });
    [before, &len, &checked, &(!crc).to_be_bytes(), after].concat()
}

#[test]
fn the_orientation_is_read_from_exif_of_jpeg_and_png_in_either_order_of_bytes() {
    let jpeg = bytes("pictures", "odd.jpg");
    let png = bytes("pictures", "grey.png");
    let decoded = |file: &[u8]| RgbPicture::decode("p", file).unwrap();
    for little in [true, false] {
        for long in [false, true] {
            let mut block = block(little, 6);
            if long {
                // kind and value of the second entry, which begins at 22
                block[if little { 24 } else { 25 }] = 4;
                let value = if little { 6_u32.to_le_bytes() } else { 6_u32.to_be_bytes() };
                block[30..34].copy_from_slice(&value);
            }
            let noted = with_segment(&jpeg, &[&b"Exif\0\0"[..], &block].concat());
            assert_eq!(decoded(&noted), exif::upright(decoded(&jpeg), 6), "{little} {long}");
            for cut in 0..noted.len().min(200) {
                let _ = exif::in_jpeg(&noted[..cut]);
            }
            for spoiled in
                [&block[..block.len() - 1], &[&block[..2], &[0; 2], &block[4..]].concat()]
            {
                let noted = with_segment(&jpeg, &[&b"Exif\0\0"[..], spoiled].concat());
                assert_eq!(exif::in_jpeg(&noted), 1);
            }
            let digits: String = block.iter().map(|byte| format!("{byte:02x}")).collect();
            let raw = format!("Raw profile type exif\0\nexif\n    {}\n{digits}\n", block.len());
            for (kind, content) in [(b"eXIf", &block[..]), (b"tEXt", raw.as_bytes())] {
                for behind in [false, true] {
                    let noted = with_chunk(&png, kind, content, behind);
                    assert_eq!(decoded(&noted), exif::upright(decoded(&png), 6), "{behind}");
                }
            }
        }
    }
}

#[test]
fn the_orientation_of_xmp_counts_where_exif_has_none() {
    let jpeg = bytes("pictures", "odd.jpg");
    let png = bytes("pictures", "grey.png");
    let decoded = |file: &[u8]| RgbPicture::decode("p", file).unwrap();
    for xmp in ["<a tiff:Orientation=\"8\"/>", "<tiff:Orientation>8</tiff:Orientation>"] {
        let noted = with_segment(&jpeg, format!("http://ns.adobe.com/xap/1.0/\0{xmp}").as_bytes());
        assert_eq!(decoded(&noted), exif::upright(decoded(&jpeg), 8));
        let exif = [&b"Exif\0\0"[..], &block(true, 3)].concat();
        assert_eq!(decoded(&with_segment(&noted, &exif)), exif::upright(decoded(&jpeg), 3));
        let text = format!("XML:com.adobe.xmp\0\0\0\0\0{xmp}");
        let noted = with_chunk(&png, b"iTXt", text.as_bytes(), false);
        assert_eq!(decoded(&noted), exif::upright(decoded(&png), 8));
    }
}
