//! With room and without.

use super::*;

fn stream(i: usize) -> Stream {
    let tensor = Tensor::new([2, 3], (0..6).map(|x| (10 * i + x) as f32).collect());
    Stream { live: vec![None, Some(tensor), None] }
}

/// Starts ten items, adds one to every number in a second pass, and gives the numbers.
fn two_passes(limit: Option<u64>, gait: Gait) -> (Vec<f32>, u64) {
    let folder = tempfile::tempdir().unwrap();
    let room = Room::new(limit, &folder.path().join("made/when/needed"));
    let mut spool = Spool::new(10, Arc::clone(&room));
    let start = |i, item: &mut Vec<Stream>, _| {
        item.push(stream(i));
        Ok::<_, SpoolError>(())
    };
    spool.pass(gait, start, &mut |_, _| ()).unwrap();
    let spilled = spool.spilled_bytes();
    let more = |_, item: &mut Vec<Stream>, _| {
        let tensor = item[0].live[1].as_mut().unwrap();
        tensor.data_mut().iter_mut().for_each(|x| *x += 1.0);
        Ok::<_, SpoolError>(())
    };
    spool.pass(gait, more, &mut |_, _| ()).unwrap();
    let mut seen = Vec::new();
    let look = |_, _: &mut Vec<Stream>, _| Ok::<_, SpoolError>(());
    spool
        .pass(gait, look, &mut |first, items| {
            assert_eq!(first, seen.len() / 6);
            items.iter().for_each(|item| {
                seen.extend_from_slice(item[0].live[1].as_ref().unwrap().data());
            });
        })
        .unwrap();
    drop(spool);
    assert_eq!(room.used.load(Ordering::Relaxed), 0, "room is given back");
    let left = std::fs::read_dir(folder.path().join("made/when/needed"));
    assert_eq!(left.map_or(0, Iterator::count), 0, "nothing is left on disk");
    (seen, spilled)
}

#[test]
fn streams_come_back_as_they_went_whether_spilled_or_not() {
    let expected: Vec<f32> =
        (0..10).flat_map(|i| (0..6).map(move |x| (10 * i + x + 1) as f32)).collect();
    for gait in [Gait::OneByOne, Gait::SideBySide] {
        assert_eq!(two_passes(None, gait), (expected.clone(), 0));
        // Three items of 24 bytes stay, seven go.
        assert_eq!(two_passes(Some(80), gait), (expected.clone(), 7 * 24));
        assert_eq!(two_passes(Some(0), gait), (expected.clone(), 10 * 24));
    }
}

#[test]
fn streams_written_down_come_back_whether_spilled_or_not() {
    let folder = tempfile::tempdir().unwrap();
    for limit in [None, Some(80), Some(0)] {
        let mut spool = Spool::new(10, Room::new(limit, folder.path()));
        let start = |i, item: &mut Vec<Stream>, _| {
            item.push(stream(i));
            Ok::<_, SpoolError>(())
        };
        spool.pass(Gait::OneByOne, start, &mut |_, _| ()).unwrap();
        let path = folder.path().join("written");
        let mut file = File::create(&path).unwrap();
        file.write_all(b"before").unwrap();
        assert_eq!(spool.write_to(&mut file).unwrap(), 10 * 24);
        let (file, room) = (File::open(&path).unwrap(), Room::new(limit, folder.path()));
        let mut again = Spool::restored(file, 6, spool.outlines(), room);
        let look = |i, item: &mut Vec<Stream>, _| {
            Ok::<_, SpoolError>(item.len() == 1 && item[0].live == stream(i).live)
        };
        for _ in 0..2 {
            let seen = again.pass(Gait::SideBySide, look, &mut |_, _| ()).unwrap();
            assert_eq!(seen, [true; 10]);
        }
    }
}

#[test]
fn a_folder_that_cannot_be_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    std::fs::write(&file, "").unwrap();
    let mut spool = Spool::new(1, Room::new(Some(0), &file));
    let start = |i, item: &mut Vec<Stream>, _| {
        item.push(stream(i));
        Ok::<_, SpoolError>(())
    };
    let error = spool.pass(Gait::OneByOne, start, &mut |_, _| ()).unwrap_err().to_string();
    assert!(error.contains("file"), "{error}");
}
