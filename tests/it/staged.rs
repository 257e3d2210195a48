//! The staged set: borders that agree, files that chain to what the whole network says, sets that
//! somebody broke.

use crate::artifact::encircle;
use crate::support::path;
use encircle::checkpoint::{Checkpoint, Config};
use encircle::circle;
use encircle::dataset::{Processor, Row};
use encircle::graph::{Graph, Source};
use encircle::layout::Layout;
use encircle::lower::{Precision, lower};
use encircle::models::{self, Head, Request};
use encircle::pipeline::{Chain, FileEntry, Manifest, PortEntry};
use encircle::runtime::{Limits, Program};
use encircle::tensor::Tensor;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

/// The demo with its staged set; made once.
fn demo() -> &'static Path {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    FOLDER.get_or_init(|| {
        let folder = tempfile::tempdir().unwrap().keep();
        let out = folder.to_str().unwrap();
        let (code, _, stderr) = encircle(&["quantize", "--stages", "-o", out, "--json"]);
        assert_eq!((code, stderr.as_str()), (0, ""));
        folder
    })
}

fn manifest() -> Manifest {
    serde_json::from_slice(&std::fs::read(demo().join("stages/manifest.json")).unwrap()).unwrap()
}

fn program(path: &Path) -> Program {
    let model = circle::read(&std::fs::read(path).unwrap()).unwrap();
    assert!(circle::verify(&model).is_valid(), "{}", circle::verify(&model));
    Program::new(&model, Limits::default()).unwrap()
}

/// A port as its file has it; the manifest only says where to look.
fn in_file(entry: &FileEntry, role: &str, input: bool) -> (Vec<usize>, circle::Quantization) {
    let bytes = std::fs::read(demo().join("stages").join(&entry.file)).unwrap();
    let model = circle::read(&bytes).unwrap();
    let graph = &model.subgraphs[0];
    let (entries, indices) = match input {
        true => (&entry.inputs, &graph.inputs),
        false => (&entry.outputs, &graph.outputs),
    };
    let has = |port: &PortEntry| port.role == role;
    let at = entries.iter().position(has).unwrap_or_else(|| panic!("{}: {role}", entry.file));
    let tensor = graph.tensor(indices[at]).unwrap();
    let shape = tensor.shape.iter().map(|&n| usize::try_from(n).unwrap()).collect();
    (shape, tensor.quantization.clone().unwrap())
}

#[test]
fn qparams_agree_on_both_sides_of_every_border() {
    let manifest = manifest();
    let file = |role: &str, layer| manifest.find(role, layer, true);
    let mut borders = 0;
    let mut check = |from: (&FileEntry, &str), to: (&FileEntry, &str), same_shape: bool| {
        let (a, b) = (in_file(from.0, from.1, false), in_file(to.0, to.1, true));
        assert_eq!(a.1, b.1, "{} {} to {} {}", from.0.file, from.1, to.0.file, to.1);
        assert!(!same_shape || a.0 == b.0, "{:?} {:?}", a.0, b.0);
        borders += 1;
    };
    let vision = file("vision_prefill", None).unwrap();
    let embedding = file("multimodal_embedding_prefill", None).unwrap();
    let token = file("token_embedding", None).unwrap();
    check((vision, "image_embeds"), (embedding, "image_embeds"), true);
    let (mut prefill, mut decode) = (embedding, token);
    for i in 0..manifest.layers {
        let layer = file("decoder_layer_prefill", Some(i)).unwrap();
        check((prefill, "hidden"), (layer, "hidden"), true);
        prefill = layer;
        if let Some(fusion) = file("deepstack_fusion", Some(i)) {
            check((layer, "hidden"), (fusion, "hidden"), true);
            let feature = format!("deepstack_{i}");
            check((vision, &feature), (fusion, &feature), true);
            prefill = fusion;
        }
        let step = file("decoder_layer_decode", Some(i)).unwrap();
        check((decode, "hidden"), (step, "hidden"), true);
        decode = step;
        for (new, past) in [("new_k", "past_k"), ("new_v", "past_v")] {
            check((layer, new), (step, past), false);
            check((step, new), (step, past), false);
        }
    }
    check((decode, "hidden"), (file("lm_head", None).unwrap(), "hidden"), true);
    check((prefill, "hidden"), (file("lm_head", None).unwrap(), "hidden"), false);
    assert_eq!(borders, 1 + 4 * 6 + 2 * 2 + 2);
}

#[test]
fn prefill_layers_take_hidden_mask_and_tables_and_give_hidden_keys_and_values() {
    let manifest = manifest();
    let roles = |ports: &[PortEntry]| ports.iter().map(|p| p.role.clone()).collect::<Vec<_>>();
    let shapes = |ports: &[PortEntry]| ports.iter().map(|p| p.shape.clone()).collect::<Vec<_>>();
    let (s, layer) = (manifest.seq_len, manifest.find("decoder_layer_prefill", Some(1), true));
    let layer = layer.unwrap();
    let mut inputs = roles(&layer.inputs);
    assert_eq!(inputs.remove(0), "hidden");
    inputs.sort();
    assert_eq!(inputs, ["causal_mask", "cos", "sin"]);
    assert_eq!(roles(&layer.outputs), ["hidden", "new_k", "new_v"]);
    assert_eq!(shapes(&layer.outputs)[1][2], s);
    let step = manifest.find("decoder_layer_decode", Some(1), true).unwrap();
    assert_eq!(roles(&step.outputs), ["hidden", "new_k", "new_v"]);
    let past = step.inputs.iter().find(|p| p.role == "past_k").unwrap();
    assert_eq!(past.shape[2], s - 1);
}

#[test]
fn greedy_answers_of_the_float_files_are_the_argmax_chain_of_the_whole_network() {
    let checkpoint = Checkpoint::open(&path("assets/pixie")).unwrap();
    let processor = Processor::new(&checkpoint).unwrap();
    let stop = checkpoint.chat_template().unwrap().turn_end().map(String::from);
    let stop = processor.tokenizer().token_id(&stop.unwrap()).unwrap();
    let whole = program(&demo().join("model.circle"));
    let chain = Chain::open(&demo().join("stages"), false).unwrap();
    let seq = whole.inputs()[0].shape[1];
    let text = std::fs::read_to_string(path("assets/vqa/test.jsonl")).unwrap();
    let mut tokens = 0;
    for line in text.lines().take(12) {
        let line: serde_json::Value = serde_json::from_str(line).unwrap();
        let picture = path("assets/vqa").join(line["image"].as_str().unwrap());
        let picture = picture.to_str().unwrap().to_string();
        let row = Row::asking(line["question"].as_str().unwrap(), &[picture]).unwrap();
        let said = chain.generate(&checkpoint, &row, 32, &mut |_, _| {}).unwrap();

        let sample = processor.encode(&row).unwrap();
        let (mut ids, mut expected) = (sample.input_ids.clone(), Vec::new());
        while ids.len() < seq {
            let mut padded: Vec<f32> = ids.iter().map(|&id| id as f32).collect();
            padded.resize(seq, 0.0);
            let inputs = [Tensor::new([1, seq], padded), sample.pixel_values.clone().unwrap()];
            let logits = whole.run(&inputs).unwrap().remove(0);
            let vocab = logits.shape()[2];
            let row = &logits.data()[(ids.len() - 1) * vocab..ids.len() * vocab];
            let best = (0..vocab).max_by(|&a, &b| row[a].total_cmp(&row[b])).unwrap();
            let best = u32::try_from(best).unwrap();
            if best == stop {
                break;
            }
            ids.push(best);
            expected.push(best);
        }
        assert_eq!(said, expected, "{line}");
        tokens += said.len();
    }
    assert!(tokens > 12);
}

#[test]
fn the_command_answers_from_the_quantized_files() {
    let stages = demo().join("stages");
    let picture = path("assets/vqa/test_000.jpg");
    let args = [
        "generate",
        stages.to_str().unwrap(),
        "--image",
        picture.to_str().unwrap(),
        "--prompt",
        "Where does the digit stand?",
    ];
    assert_eq!(encircle(&args), (0, "bottom left\n".into(), String::new()));
    let (code, _, stderr) = encircle(&[&args[..2], &args[4..]].concat());
    assert_eq!(code, 2);
    assert!(stderr.contains("pictures (start, tokens, grid): found []"), "{stderr}");
}

#[test]
fn sets_with_missing_changed_or_mixed_files_are_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    for file in std::fs::read_dir(demo().join("stages")).unwrap() {
        let file = file.unwrap();
        std::fs::copy(file.path(), folder.path().join(file.file_name())).unwrap();
    }
    let refuse = || match Chain::open(folder.path(), true) {
        Err(error) => error.to_string(),
        Ok(_) => panic!("opened"),
    };
    let head = folder.path().join("lm_head.q.circle");
    let original = std::fs::read(&head).unwrap();
    let mut bytes = original.clone();
    *bytes.last_mut().unwrap() ^= 1;
    std::fs::write(&head, &bytes).unwrap();
    assert!(refuse().contains("lm_head.q.circle: hash: found "), "{}", refuse());
    std::fs::remove_file(&head).unwrap();
    assert!(refuse().contains("lm_head.q.circle: cannot read"), "{}", refuse());
    std::fs::write(&head, &original).unwrap();

    let json = folder.path().join("manifest.json");
    let mut manifest = manifest();
    manifest.files.retain(|file| file.role != "lm_head");
    std::fs::write(&json, serde_json::to_vec(&manifest).unwrap()).unwrap();
    let chain = Chain::open(folder.path(), true).unwrap();
    let checkpoint = Checkpoint::open(&path("assets/pixie")).unwrap();
    let picture = path("assets/vqa/test_000.jpg").to_str().unwrap().to_string();
    let row = Row::asking("Where does the digit stand?", &[picture]).unwrap();
    let error = chain.generate(&checkpoint, &row, 4, &mut |_, _| {}).unwrap_err().to_string();
    assert!(error.contains("lists no quantized file for lm_head"), "{error}");

    std::fs::write(&json, b"{}").unwrap();
    assert!(refuse().contains("manifest.json: missing field"), "{}", refuse());
}

/// The peer's own example of a whole model, which it writes with 377 operators.
#[test]
fn the_toy_has_at_most_half_the_operators_of_the_peers_file() {
    let json = std::fs::read_to_string(path("tests/data/toy_config.json")).unwrap();
    let raw = serde_json::from_str(&json).unwrap();
    let config = Config::parse("toy_config.json", raw).unwrap();
    let layout = Layout::single([1, 8, 8], 0, 50, 2).unwrap();
    let request = Request { head: Head::Hidden, ..Request::new(layout) };
    let operators = |graph: &Graph| {
        let constant = |id| match &graph.value(id).source {
            Source::Const(tensor) => tensor.clone(),
            _ => Tensor::full(graph.value(id).shape.clone(), 0.5),
        };
        lower(graph, Precision::Float, &constant).unwrap().subgraphs[0].operators.len()
    };
    let graph = models::build(&config, &request).unwrap();
    let (plain, rewritten) = (operators(&graph), operators(&graph.clone().rewritten()));
    println!("{plain} operators, rewritten {rewritten}, the peer 377");
    assert!(rewritten < plain && rewritten <= 377 / 2, "{plain} {rewritten}");
}
