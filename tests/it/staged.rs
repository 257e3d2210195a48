//! The staged set: borders that agree, files that chain to what the whole network says, sets that
//! somebody broke.

use crate::artifact::encircle;
use crate::support::path;
use encircle::checkpoint::{Checkpoint, Config};
use encircle::circle;
use encircle::dataset::Row;
use encircle::graph::{Graph, Source};
use encircle::layout::{Layout, Segment};
use encircle::lower::{Precision, lower};
use encircle::models::{self, Head, Request};
use encircle::pipeline::{Chain, FileEntry, Manifest, PortEntry, Reading, Sampling, SpanEntry};
use encircle::runtime::{Limits, Program};
use encircle::tensor::Tensor;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

/// The demo with its staged set and its report `report.json`; made once.
pub(crate) fn demo() -> &'static Path {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    FOLDER.get_or_init(|| quantize(&["--stages"]))
}

/// The same with the weights of a layer held once.
pub(crate) fn shared() -> &'static Path {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    FOLDER.get_or_init(|| quantize(&["--stages", "--share-weights"]))
}

fn quantize(args: &[&str]) -> PathBuf {
    let folder = tempfile::tempdir().unwrap().keep();
    let out = folder.to_str().unwrap();
    let (code, stdout, stderr) = encircle(&[&["quantize", "-o", out, "--json"], args].concat());
    assert_eq!((code, stderr.as_str()), (0, ""));
    std::fs::write(folder.join("report.json"), stdout).unwrap();
    folder
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

/// The files of the peer's contract: names, and the shapes at their borders.
#[test]
fn names_and_shapes_are_those_of_the_contract() {
    let manifest = manifest();
    let names: Vec<&str> =
        manifest.files.iter().filter(|f| f.quantized).map(|f| f.file.as_str()).collect();
    let layers = |phase: &str| {
        (0..4).map(|i| format!("decoder_layer_{phase}_{i}.q.circle")).collect::<Vec<_>>()
    };
    let mut expected: Vec<String> = layers("prefill");
    for (at, i) in [(1, 0), (3, 1)] {
        expected.insert(at, format!("deepstack_fusion_{i}_t1_h8_w8.q.circle"));
    }
    expected.insert(0, "multimodal_embedding_prefill_t1_h8_w8.q.circle".into());
    expected.insert(0, "vision_prefill_t1_h8_w8.q.circle".into());
    expected.push("token_embedding.q.circle".into());
    expected.extend(layers("decode"));
    expected.push("lm_head.q.circle".into());
    assert_eq!(names, expected);

    let (s, v) = (manifest.seq_len, manifest.spans[0].len);
    let file = |role: &str, layer| manifest.find(role, layer, true).unwrap();
    let shape = |ports: &[PortEntry], role: &str| {
        ports.iter().find(|p| p.role == role).unwrap_or_else(|| panic!("{role}")).shape.clone()
    };
    let vision = file("vision_prefill", None);
    let d = shape(&vision.outputs, "image_embeds")[1];
    for (ports, role) in [
        (&vision.outputs, "image_embeds"),
        (&vision.outputs, "deepstack_0"),
        (&vision.outputs, "deepstack_1"),
        (&file("multimodal_embedding_prefill", None).inputs, "image_embeds"),
        (&file("deepstack_fusion", Some(0)).inputs, "deepstack_0"),
    ] {
        assert_eq!(shape(ports, role), [v, d], "{role}");
    }
    let (layer, step) =
        (file("decoder_layer_prefill", Some(0)), file("decoder_layer_decode", Some(0)));
    let k = shape(&layer.inputs, "cos")[2];
    for (inputs, rows) in [(&layer.inputs, s), (&step.inputs, 1)] {
        assert_eq!(shape(inputs, "hidden"), [1, rows, d]);
        assert_eq!(shape(inputs, "causal_mask"), [1, 1, rows, s]);
        assert_eq!(shape(inputs, "cos"), [1, rows, k]);
        assert_eq!(shape(inputs, "sin"), [1, rows, k]);
    }
    assert_eq!(shape(&file("lm_head", None).inputs, "hidden"), [1, 1, d]);
    let token = file("token_embedding", None);
    assert_eq!(token.inputs[0].shape_signature, Some(vec![1, -1]));
    assert_eq!(token.outputs[0].shape_signature, Some(vec![1, -1, d as i32]));
}

/// A token embedding for seven ids.
fn at_seven(model: circle::Model) -> circle::Model {
    let ids = model.subgraphs[0].inputs[0];
    circle::resized(model, 0, &[(ids, vec![1, 7])]).unwrap()
}

#[test]
fn the_token_embedding_takes_any_number_of_tokens() {
    let entry = demo().join("stages/token_embedding.q.circle");
    let model = circle::read(&std::fs::read(&entry).unwrap()).unwrap();
    let one = Program::new(&model, Limits::default()).unwrap();
    let seven = Program::new(&at_seven(model), Limits::default()).unwrap();
    let ids: Vec<f32> = (0..7).map(|i| (i * 11 + 3) as f32).collect();
    let all = seven.run(&[Tensor::new([1, 7], ids.clone())]).unwrap().remove(0);
    let width = all.shape()[2];
    for (row, id) in all.data().chunks(width).zip(ids) {
        assert_eq!(one.run(&[Tensor::new([1, 1], vec![id])]).unwrap()[0].data(), row);
    }
}

#[test]
fn an_export_of_the_token_embedding_takes_any_number_of_tokens_too() {
    let folder = tempfile::tempdir().unwrap();
    let file = demo().join("stages/token_embedding.q.circle");
    for form in [&["--format", "tflite"][..], &["--qdq"], &["--target", "onert"]] {
        let out = folder.path().join("out");
        let args = ["export", file.to_str().unwrap(), "-o", out.to_str().unwrap()];
        let (code, _, stderr) = encircle(&[&args[..], form].concat());
        assert_eq!((code, stderr.as_str()), (0, ""), "{form:?}");
        let model = circle::read(&std::fs::read(&out).unwrap()).unwrap();
        let seven = Program::new(&at_seven(model), Limits::default()).unwrap();
        let ids = Tensor::new([1, 7], (0..7).map(|i| i as f32).collect());
        assert_eq!(seven.run(&[ids]).unwrap()[0].shape()[1], 7, "{form:?}");
    }
}

#[test]
fn a_shared_file_is_small_and_both_its_graphs_compute_what_the_files_of_their_own_do() {
    let size = |folder: &Path, name: &str| {
        std::fs::metadata(folder.join("stages").join(name)).unwrap().len()
    };
    for tag in ["f32", "q"] {
        for i in 0..4 {
            let whole = size(shared(), &format!("decoder_layer_{i}.{tag}.circle"));
            let parts =
                ["prefill", "decode"].map(|p| format!("decoder_layer_{p}_{i}.{tag}.circle"));
            let sum: u64 = parts.iter().map(|name| size(demo(), name)).sum();
            assert!(whole * 10 < sum * 6, "{tag} {i}: {whole} of {sum} bytes");
            let file = shared().join(format!("stages/decoder_layer_{i}.{tag}.circle"));
            let model = circle::read(&std::fs::read(file).unwrap()).unwrap();
            assert!(circle::verify(&model).is_valid(), "{}", circle::verify(&model));
            for (name, part) in ["prefill", "decode"].into_iter().zip(&parts) {
                let graph = Program::of(&model, Some(name), Limits::default()).unwrap();
                let own = program(&demo().join("stages").join(part));
                assert_eq!(graph.inputs(), own.inputs());
                let inputs: Vec<Tensor> =
                    own.inputs().iter().map(|port| noise(&port.shape)).collect();
                assert_eq!(graph.run(&inputs).unwrap(), own.run(&inputs).unwrap());
                if tag == "q" {
                    let both = [&graph, &own].map(|p| p.run_integers(&inputs).unwrap());
                    assert_eq!(both[0], both[1]);
                }
            }
        }
    }
    let model = shared().join("stages/decoder_layer_0.q.circle");
    let model = circle::read(&std::fs::read(model).unwrap()).unwrap();
    let error = Program::of(&model, Some("other"), Limits::default()).unwrap_err().to_string();
    assert!(error.contains("no graph \"other\", the file has prefill, decode"), "{error}");
}

#[test]
fn a_shared_file_goes_to_tflite_with_both_its_graphs_and_its_weights_once() {
    let folder = tempfile::tempdir().unwrap();
    for (tag, more) in [("f32", &[][..]), ("q", &["--qdq"])] {
        let file = shared().join(format!("stages/decoder_layer_0.{tag}.circle"));
        let (out, file) = (folder.path().join("layer.tflite"), file.to_str().unwrap());
        let export = ["export", file, "--format", "tflite", "-o", out.to_str().unwrap()];
        let (code, _, stderr) = encircle(&[&export[..], more].concat());
        assert_eq!((code, stderr.as_str()), (0, ""));
        let [own, model] =
            [Path::new(file), &out].map(|f| circle::read(&std::fs::read(f).unwrap()).unwrap());
        assert!(circle::verify(&model).is_valid(), "{}", circle::verify(&model));
        let keys: Vec<&str> = model.signature_defs.iter().map(|def| def.key.as_str()).collect();
        assert_eq!(keys, ["prefill", "decode"]);
        let payload = |model: &circle::Model| {
            let bytes = |buffer: &circle::Buffer| buffer.bytes().map_or(0, <[u8]>::len);
            model.buffers.iter().map(bytes).sum::<usize>()
        };
        if tag == "f32" {
            assert!(payload(&model) < payload(&own) + 1000, "weights are there once");
        }
        for name in keys {
            let [own, other] =
                [&own, &model].map(|m| Program::of(m, Some(name), Limits::default()).unwrap());
            let inputs: Vec<Tensor> = own.inputs().iter().map(|p| noise(&p.shape)).collect();
            let [a, b] = [&own, &other].map(|program| program.run(&inputs).unwrap());
            for (a, b) in a.iter().flat_map(Tensor::data).zip(b.iter().flat_map(Tensor::data)) {
                assert!((a - b).abs() < 0.05, "{tag} {name}: {a} {b}");
            }
        }
    }
}

#[test]
fn a_part_is_cut_from_the_graph_that_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let file = shared().join("stages/decoder_layer_0.f32.circle");
    let out = folder.path().join("part.circle");
    let cut = ["extract", file.to_str().unwrap(), "--ops", "0-2", "-o", out.to_str().unwrap()];
    let rows = |graph: &[&str]| {
        let (code, _, stderr) = encircle(&[&cut[..], graph].concat());
        assert_eq!((code, stderr.as_str()), (0, ""));
        program(&out).inputs()[0].shape[1]
    };
    assert_eq!(rows(&[]), manifest().seq_len);
    assert_eq!(rows(&["--graph", "decode"]), 1);
    let (code, _, stderr) = encircle(&[&cut[..], &["--graph", "other"]].concat());
    assert_eq!(code, 2);
    assert!(stderr.contains("no graph \"other\", the file has prefill, decode"), "{stderr}");
}

/// Numbers between -1 and 1 that are the same every time.
fn noise(shape: &[usize]) -> Tensor {
    let count = shape.iter().product::<usize>();
    let number = |i: usize| ((i * 7919 + 13) % 2003) as f32 / 1001.0 - 1.0;
    Tensor::new(shape, (0..count).map(number).collect())
}

#[test]
fn a_recipe_says_what_hides_later_tokens() {
    let folder = quantize(&["--stages", "--set", "policy.mask_fill=-300"]);
    let read = |name: &str| std::fs::read(folder.join(name)).unwrap();
    let manifest: Manifest = serde_json::from_slice(&read("stages/manifest.json")).unwrap();
    assert_eq!(manifest.mask_fill, -300.0);
    assert!(String::from_utf8(read("recipe.toml")).unwrap().contains("mask_fill = -300.0"));
    let model = circle::read(&read("model.circle")).unwrap();
    let mask = |tensor: &&circle::Tensor| tensor.name.ends_with("causal_mask");
    let mask = model.subgraphs[0].tensors.iter().find(mask).unwrap();
    let words = model.payload(mask).unwrap().bytes().unwrap().chunks_exact(4);
    let least = words.map(|w| f32::from_le_bytes(w.try_into().unwrap())).fold(0.0, f32::min);
    assert_eq!(least, -300.0);
    assert_answers(&folder.join("stages"));
    let (code, _, stderr) = encircle(&["quantize", "--set", "policy.mask_fill=0"]);
    let fact = "mask_fill: found 0, expected a finite number below 0";
    assert!(code == 2 && stderr.contains(fact), "{stderr}");
}

#[test]
fn the_command_answers_from_the_quantized_files() {
    assert_answers(&demo().join("stages"));
}

/// That the quantized files answer as the network does, and only with the picture.
fn assert_answers(stages: &Path) {
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
    let words = "found no pictures, the files are for picture 1x8x8 at 4";
    assert!(stderr.contains(words), "{stderr}");
    let (code, _, stderr) = encircle(&[&args[..], &args[2..4]].concat());
    let words = "found picture 1x8x8 at 4, picture 1x8x8 at 22, the files are for picture 1x8x8";
    assert!(code == 2 && stderr.contains(words), "{stderr}");
}

#[test]
fn sets_with_missing_changed_or_mixed_files_are_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    for file in std::fs::read_dir(demo().join("stages")).unwrap() {
        let file = file.unwrap();
        std::fs::copy(file.path(), folder.path().join(file.file_name())).unwrap();
    }
    let refuse = || match Chain::open(folder.path(), Reading::Rounded) {
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
    let chain = Chain::open(folder.path(), Reading::Rounded).unwrap();
    let checkpoint = Checkpoint::open(&path("assets/pixie")).unwrap();
    let picture = path("assets/vqa/test_000.jpg").to_str().unwrap().to_string();
    let row = Row::asking("Where does the digit stand?", &[picture]).unwrap();
    let error = chain
        .generate(&checkpoint, &row, Sampling::default(), 4, &mut |_| {})
        .unwrap_err()
        .to_string();
    assert!(error.contains("lists no quantized file for lm_head"), "{error}");

    std::fs::write(&json, b"{}").unwrap();
    assert!(refuse().contains("manifest.json: missing field"), "{}", refuse());
}

/// What is wrong with the demo's set once its manifest says something else.
#[track_caller]
fn assert_refused(change: impl FnOnce(&mut Manifest), facts: &str) {
    let folder = tempfile::tempdir().unwrap();
    for file in std::fs::read_dir(demo().join("stages")).unwrap() {
        let file = file.unwrap();
        std::fs::copy(file.path(), folder.path().join(file.file_name())).unwrap();
    }
    let mut manifest = manifest();
    change(&mut manifest);
    let json = serde_json::to_vec(&manifest).unwrap();
    std::fs::write(folder.path().join("manifest.json"), json).unwrap();
    let picture = path("assets/vqa/test_000.jpg").to_str().unwrap().to_string();
    let row = Row::asking("Where does the digit stand?", &[picture]).unwrap();
    let checkpoint = Checkpoint::open(&path("assets/pixie")).unwrap();
    let said = Chain::open(folder.path(), Reading::Rounded)
        .and_then(|chain| chain.generate(&checkpoint, &row, Sampling::default(), 4, &mut |_| {}));
    let error = said.unwrap_err().to_string();
    assert!(error.contains("manifest.json: ") && error.contains(facts), "{error}");
}

#[test]
fn a_manifest_whose_numbers_contradict_its_files_is_refused_with_both() {
    let layers = manifest().layers;
    for found in [0, 1, layers - 1, layers + 1, 1_000_000_000_000, 1 << 62] {
        assert_refused(|m| m.layers = found, &format!("layers: found {found}, expected "));
    }
    let last = |file: &FileEntry| file.layer != Some(layers - 1);
    let fewer = |m: &mut Manifest| {
        m.files.retain(last);
        m.layers -= 1;
    };
    let facts = format!("layers: found {}, expected {layers}, as config.json has", layers - 1);
    assert_refused(fewer, &facts);
    let twice = |m: &mut Manifest| {
        m.files.iter_mut().filter(|f| f.layer == Some(1)).for_each(|f| f.layer = Some(0));
    };
    assert_refused(twice, "files: found no quantized one of decoder_layer_prefill 1, expected one");
    let first = |file: &FileEntry| file.role != "deepstack_fusion" || file.layer == Some(0);
    let flat = "files: found none of deepstack_fusion that takes deepstack_1, expected one";
    assert_refused(|m| m.files.retain(first), flat);
    let long = 1_000_000_000_000;
    assert_refused(|m| m.cache = long, &format!("cache: found {long}, expected "));
    let longer = |m: &mut Manifest| (m.seq_len, m.cache) = (long, long - 1);
    assert_refused(longer, &format!("seq_len: found {long}, expected that of input hidden"));
    assert_refused(|m| m.mask_fill = 0.0, "mask_fill: found 0, expected a negative number");
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

#[test]
fn spans_say_which_rows_are_theirs_where_pictures_stand_around_a_video() {
    let text = |tokens| Segment::Text { tokens };
    let image = |h, w| Segment::Image { grid_thw: [1, h, w] };
    let video = Segment::Video { grid_thw: [2, 4, 4], timestamp_tokens: vec![3, 3] };
    let segments = [text(2), image(8, 8), video, image(4, 8), text(5)];
    let spans = SpanEntry::all(&Layout::new(&segments, 2).unwrap());
    let rows = |span: &SpanEntry| (span.kind.clone(), span.patch_offset, span.feature_offset);
    let expected =
        [("picture", 0, 0), ("video frame", 96, 24), ("video frame", 112, 28), ("picture", 64, 16)];
    let expected = expected.map(|(kind, patch, feature)| (String::from(kind), patch, feature));
    assert_eq!(spans.iter().map(rows).collect::<Vec<_>>(), expected);
    assert!(spans.windows(2).all(|pair| pair[0].start < pair[1].start));
    let json = serde_json::to_value(&manifest().spans).unwrap();
    assert_eq!(json[0]["patch_offset"], 0, "{json}");
}
