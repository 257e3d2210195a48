//! Of files that take their names together, and of names beside them.

#![cfg(unix)]

use super::*;

/// What is in `folder`, by name.
fn listed(folder: &Path) -> Vec<(String, String)> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap());
    let name = |entry: &fs::DirEntry| entry.file_name().into_string().unwrap();
    let mut files: Vec<_> =
        entries.map(|e| (name(&e), fs::read_to_string(e.path()).unwrap())).collect();
    files.sort();
    files
}

#[test]
fn of_several_files_all_are_new_or_none_whichever_cannot_have_its_name() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let olds = [("a", "old"), ("b", "old"), ("d", "old")];
    let news = [("a", "new"), ("b", "new"), ("c", "new"), ("d", "new")];
    let told = |files: &[(&str, &str)]| -> Vec<(String, String)> {
        files.iter().map(|(name, text)| ((*name).into(), (*text).into())).collect()
    };
    for lost in [Some(0), Some(1), Some(2), Some(3), None] {
        olds.iter().for_each(|(name, text)| fs::write(at(name), text).unwrap());
        let new = |(name, text): &(&str, &str)| Partial::of(&at(name), text.as_bytes());
        let pending = Pending(news.iter().map(new).collect::<Result<_, _>>().unwrap());
        if let Some(lost) = lost {
            fs::remove_file(&pending.0[lost].beside.as_ref().unwrap().0).unwrap();
            let error = pending.commit().unwrap_err().to_string();
            assert!(error.contains(&format!("{}: cannot write", at(news[lost].0).display())));
            assert_eq!(listed(folder.path()), told(&olds));
        } else {
            pending.commit().unwrap();
            assert_eq!(listed(folder.path()), told(&news));
        }
    }
    let pending =
        Pending(vec![Partial::of(&at("a"), b"").unwrap(), Partial::of(&at("b"), b"").unwrap()]);
    fs::remove_file(at("b")).unwrap();
    fs::create_dir(at("b")).unwrap();
    assert!(pending.commit().is_err());
    assert_eq!(fs::read_to_string(at("a")).unwrap(), "new");
}

#[test]
fn of_the_set_before_nothing_goes_unless_all_of_the_next_comes() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    for fails in [true, false] {
        let before = ["part", "manifest", "stale", "recipe"];
        before.iter().for_each(|name| fs::write(at(name), "old").unwrap());
        let old = listed(folder.path());
        let new = |name: &str| Partial::of(&at(name), b"new").unwrap();
        let mut pending = Pending::default();
        pending.add(new("part"));
        pending.add_seal(new("manifest"));
        pending.forget(at("stale"));
        pending.add(new("recipe"));
        if fails {
            fs::remove_file(&pending.0[3].beside.as_ref().unwrap().0).unwrap();
            assert!(pending.commit().is_err());
            assert_eq!(listed(folder.path()), old);
        } else {
            pending.commit().unwrap();
            let new = ["manifest", "part", "recipe"].map(|name| (name.into(), "new".into()));
            assert_eq!(listed(folder.path()), new);
        }
    }
}

#[test]
fn names_beside_a_file_never_meet_and_only_what_the_dead_have_left_is_swept() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let (_file, living) = beside(&at("file")).unwrap();
    let [left, kept] = ["file", "other"].map(|name| unique(&at(name)));
    [&left, &kept].iter().for_each(|path| fs::write(path, "half").unwrap());
    assert_ne!(living.0, left);
    let theirs = [".mine.partial", ".file.17.partial", ".0123456789abcdef.partial"].map(at);
    theirs.iter().for_each(|path| fs::write(path, "keep").unwrap());
    fs::write(at("old"), "old").unwrap();
    let put = |old: &Path| fs::rename(at("old"), old);
    let (old, mut names) = (at("old"), BTreeSet::new());
    let aside = keep(&old, (put, true), &mut names).unwrap();
    remove_left(folder.path(), |name| name != "other");
    assert!(!left.exists() && living.0.exists() && kept.exists());
    assert!(aside.old.as_ref().is_some_and(|old| old.0.exists()), "we may have to put it back");
    assert!(theirs.iter().all(|path| path.exists()));
}

#[test]
fn a_link_is_followed_and_what_is_no_file_is_written_to() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let put = |name: &str| {
        let put = |out: &mut BufWriter<File>| -> Result<(), Error> {
            out.write_all(b"new").unwrap();
            Ok(())
        };
        save_with(&at(name), put).unwrap();
    };
    fs::write(at("file"), "old").unwrap();
    std::os::unix::fs::symlink(at("file"), at("link")).unwrap();
    put("link");
    assert_eq!(fs::read(at("file")).unwrap(), b"new");
    assert!(at("link").is_symlink());
    for (link, to) in [("first", "second"), ("second", "comes")] {
        std::os::unix::fs::symlink(to, at(link)).unwrap();
    }
    put("first");
    assert_eq!(fs::read(at("comes")).unwrap(), b"new");
    assert!(at("first").is_symlink() && at("second").is_symlink());
    std::os::unix::fs::symlink("gone/file", at("lost")).unwrap();
    std::os::unix::fs::symlink("round", at("round")).unwrap();
    for (name, fact) in [("lost", "gone/file, expected one into a folder"), ("round", "")] {
        let error = Partial::of(&at(name), b"new").err().unwrap();
        let causes = format!("{error}: {:?}", std::error::Error::source(&error));
        assert!(causes.contains(name) && causes.contains(fact), "{causes}");
        assert!(at(name).is_symlink());
        fs::remove_file(at(name)).unwrap();
    }
    std::os::unix::fs::symlink("/dev/null", at("device")).unwrap();
    put("device");
    assert!(at("device").is_symlink() && !Path::new("/dev/null").is_file());
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 6, "nothing beside");
}

#[test]
fn files_that_wait_for_others_are_nobodys_leftovers() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("in0.npy");
    let [mut one, mut other] = [(); 2].map(|()| Pending::default());
    one.add(Partial::of(&path, b"one").unwrap());
    other.add(Partial::of(&path, b"other").unwrap());
    one.commit().unwrap();
    assert_eq!(fs::read(&path).unwrap(), b"one");
    other.commit().unwrap();
    assert_eq!(fs::read(&path).unwrap(), b"other");
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "nothing beside");
}
