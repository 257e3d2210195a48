use super::*;
use crate::checkpoint::Checkpoint;

fn companion() -> Files {
    Files::folder(concat!(env!("CARGO_MANIFEST_DIR"), "/assets/pixie"))
}

fn request(layers: Option<usize>) -> Request {
    Request { like: "qwen3-vl-2b".into(), layers, seed: 1 }
}

#[test]
fn every_size_has_the_shapes_of_its_name() {
    for (size, billions) in models::sizes().zip([2.13, 4.44, 8.77, 31.07]) {
        let raw = serde_json::from_str(size.config).unwrap();
        let tensors = models::tensors(&Config::parse(size.name, raw).unwrap()).unwrap();
        let count: usize = tensors.iter().map(|(_, s)| s.iter().product::<usize>()).sum();
        assert!((count as f64 / 1e9 - billions).abs() < 0.02, "{}: {count}", size.name);
    }
}

#[test]
fn a_synthetic_checkpoint_is_read_like_any_other() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("two");
    let made = synthesize(&request(Some(1)), &companion(), &out, &|_| {}, &|| true).unwrap();
    let checkpoint = Checkpoint::open(&out).unwrap();
    checkpoint.verify(&models::tensors(checkpoint.config()).unwrap()).unwrap();
    assert_eq!(made.tensors, checkpoint.tensor_names().count());
    assert_eq!(made.bytes, 2 * made.parameters);
    let norm = checkpoint.read("model.language_model.norm.weight", &[2048]).unwrap();
    assert!(norm.data().iter().all(|x| (0.0..3.0).contains(x)));
    checkpoint.tokenizer().unwrap();
    checkpoint.chat_template().unwrap();
    let there: Vec<_> = fs::read_dir(folder.path()).unwrap().collect();
    assert_eq!(there.len(), 1, "nothing but the checkpoint is left: {there:?}");
}

#[test]
fn what_cannot_be_made_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let failing = |request: Request, out: &Path| {
        synthesize(&request, &companion(), out, &|_| {}, &|| true).unwrap_err().to_string()
    };
    let new = folder.path().join("new");
    let unknown = Request { like: "qwen3-vl-3b".into(), ..request(None) };
    assert_eq!(
        failing(unknown, &new),
        "--like qwen3-vl-3b: unknown size, known are qwen3-vl-2b, qwen3-vl-4b, qwen3-vl-8b, \
         qwen3-vl-30b-a3b"
    );
    assert_eq!(failing(request(Some(29)), &new), "--layers 29: expected 1 to 28");
    assert!(failing(request(Some(1)), folder.path()).ends_with("exists, expected a new folder"));
    assert!(!new.exists());
}

#[test]
fn a_stop_or_a_failure_leaves_nothing_behind() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("new");
    let left = std::cell::Cell::new(3);
    let step = || left.replace(left.get() - 1) > 1;
    let stopped = synthesize(&request(Some(1)), &companion(), &out, &|_| {}, &step).unwrap_err();
    assert!(stopped.to_string().ends_with("new: stopped, nothing was written"), "{stopped}");
    assert_eq!((left.get(), fs::read_dir(folder.path()).unwrap().count()), (0, 0));
}

#[test]
fn what_a_killed_run_left_beside_the_place_is_gone_after_the_next() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let [dead, living] = [".new.0123456789abcdef.partial", ".new.0123456789abcdee.partial"];
    let theirs = [".new.mine.partial", ".other.0123456789abcdef.partial"];
    for name in [dead, living].into_iter().chain(theirs) {
        fs::create_dir(at(name)).unwrap();
        fs::write(at(name).join("config.json"), "half").unwrap();
    }
    let lock = File::open(at(living)).unwrap();
    let locked = lock.try_lock().is_ok();
    let out = at("new");
    synthesize(&request(Some(1)), &companion(), &out, &|_| {}, &|| false).unwrap_err();
    // Not every system locks folders.
    assert!(!at(dead).exists() || !locked);
    assert!(at(living).exists(), "somebody writes there");
    assert!(theirs.iter().all(|name| at(name).exists()));
}
