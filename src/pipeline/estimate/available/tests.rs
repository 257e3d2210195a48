use super::*;

#[test]
fn the_least_room_of_all_control_groups_around_the_process_counts() {
    let root = tempfile::tempdir().unwrap();
    let group = |path: &str, files: &[(&str, &str)]| {
        fs::create_dir_all(root.path().join(path)).unwrap();
        for (name, text) in files {
            fs::write(root.path().join(path).join(name), text).unwrap();
        }
    };
    let own = "1:name=other:/x\n0::/pods/one\n";
    group("pods/one", &[("memory.max", "max\n"), ("memory.current", "9\n")]);
    assert_eq!(groups(root.path(), own), None, "no limit anywhere");
    group("pods", &[("memory.max", "1000\n"), ("memory.current", "700\n")]);
    assert_eq!(groups(root.path(), own), Some(300));
    group("pods", &[("memory.stat", "anon 500\ninactive_file 150\n")]);
    assert_eq!(groups(root.path(), own), Some(450), "cached files are free");
    group("", &[("memory.max", "100"), ("memory.current", "90")]);
    assert_eq!(groups(root.path(), own), Some(10), "a container sees its own limit at the root");
    assert_eq!(groups(root.path(), "2:memory:/x\n"), None);
}
