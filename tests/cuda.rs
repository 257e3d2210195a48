//! Products on a CUDA device. With a device, results are compared with the
//! processor's. Without one, a stand-in for the vendor's libraries (`tests/data/cuda/stand_in.c`)
//! multiplies as cuBLAS is documented to, so that what is asked of it is checked anywhere.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod written;

use encircle::checkpoint::Checkpoint;
use encircle::graph::Graph;
use encircle::models::Head;
use encircle::pipeline::{self, Fixed, Means, Numerics, Recipe, Silent};
use encircle::quant::QuantParams;
use encircle::tensor::{Device, DeviceError, Par, Tensor, device_trouble, use_device};
use std::env;
use std::path::Path;
use std::process::{Command, Output};

/// Set in the process that uses the device.
const TASK: &str = "CUDA_TEST_FOLDER";
/// The test whose second half that process is.
const COMPARING: &str = "a_device_gives_the_products_and_grids_of_the_processor";

/// Runs a test of this binary again, with libraries from `folder` before all others.
fn again(test: &str, folder: &Path, checkpoint: &Path) -> Output {
    let mut process = Command::new(env::current_exe().unwrap());
    process.args(["--exact", test, "--nocapture"]).env(TASK, checkpoint);
    let output = process.env("LD_LIBRARY_PATH", folder).output().unwrap();
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{}{text}", String::from_utf8_lossy(&output.stdout));
    output
}

/// Puts the stand-in under both names; none without a C compiler.
fn stand_in(folder: &Path) -> Option<()> {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/cuda/stand_in.c");
    for name in ["libcuda.so", "libcublas.so"] {
        let mut cc = Command::new("cc");
        cc.args(["-O2", "-shared", "-fPIC", "-o"]).arg(folder.join(name)).arg(&source);
        match cc.status() {
            Ok(status) => assert!(status.success(), "the stand-in compiles"),
            Err(_) => {
                println!("skipped: no C compiler");
                return None;
            }
        }
    }
    Some(())
}

fn sines(n: usize, k: usize, step: f32) -> Tensor {
    Tensor::new([n, k], (0..n * k).map(|i| (i as f32 * step).sin()).collect())
}

/// A weight by some rows, here and there.
fn products() {
    for [m, n, k] in [[64, 512, 520], [1, 4100, 4100], [33, 700, 1023]] {
        let (a, b) = (sines(m, k, 0.37), sines(n, k, 0.73));
        let (mut out, mut expected) = (vec![f32::NAN; m * n], vec![0.0; m * n]);
        for _ in 0..2 {
            b.matmul_nt(&mut out, a.data(), Par::All);
        }
        encircle::tensor::matmul(&mut expected, a.data(), b.packed_nt(), Par::All);
        let most = expected.iter().fold(0.0f32, |most, x| most.max(x.abs()));
        for (x, y) in out.iter().zip(&expected) {
            assert!((x - y).abs() <= 1e-4 * most, "{m} by {n} by {k}: {x} {y}");
        }
    }
}

fn quantized(checkpoint: &Checkpoint) -> Graph {
    let Numerics { policy, algo, products } = Numerics::find("w8a8-minmax").unwrap();
    let (fixed, head, means) = (Fixed::default(), Head::Logits, Means::default());
    let recipe = Recipe { policy, algo, products, seq_len: None, fixed, head, means };
    pipeline::quantize(checkpoint, &written::samples(), &[], &recipe, &Silent).unwrap().graph
}

/// The job on the processor, then on the device: grids agree as sums in another order do.
fn jobs(folder: &Path) {
    let checkpoint = Checkpoint::open(folder).unwrap();
    let here = quantized(&checkpoint);
    use_device(Device::Cuda).unwrap();
    let there = quantized(&checkpoint);
    assert_eq!(device_trouble(), None);
    let mut seen = 0;
    for (a, b) in here.values.iter().zip(&there.values) {
        if let (
            Some(QuantParams::Affine { scale: x, .. }),
            Some(QuantParams::Affine { scale: y, .. }),
        ) = (&a.qparams, &b.qparams)
        {
            for (x, y) in x.iter().zip(y) {
                assert!((x - y).abs() <= 1e-4 * x, "{}: {x} {y}", a.name);
                seen += 1;
            }
        }
    }
    assert!(seen > 1000, "{seen} scales were compared");
}

#[test]
fn a_device_gives_the_products_and_grids_of_the_processor() {
    if let Some(folder) = env::var_os(TASK) {
        jobs(Path::new(&folder));
        products();
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let checkpoint = folder.path().join("one-layer");
    written::checkpoint(&checkpoint, &written::Like::large(1));
    match use_device(Device::Cuda) {
        Ok(()) => {
            again(COMPARING, folder.path(), &checkpoint);
            return;
        }
        Err(DeviceError::NoLibrary { library }) => println!("no device: {library} is missing"),
        Err(error) => println!("no device: {error}"),
    }
    if stand_in(folder.path()).is_none() {
        return;
    }
    let output = again(COMPARING, folder.path(), &checkpoint);
    let text = String::from_utf8(output.stderr).unwrap();
    // Rows of six samples by the largest weight, and the products above: all went to the device.
    for call in ["sgemm 512 64 520", "sgemm 4100 1 4100", "sgemm 700 33 1023"] {
        assert_eq!(text.matches(call).count(), 2, "{call} in {text}");
    }
    assert_eq!(text.matches("held").count(), text.matches("freed").count(), "{text}");
}

#[test]
fn a_device_that_is_not_there_is_one_clear_error() {
    let empty = tempfile::tempdir().unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_encircle"));
    command.args(["quantize", "--device", "cuda", "-o"]).arg(empty.path().join("out"));
    let output = command.env("LD_LIBRARY_PATH", empty.path()).output().unwrap();
    let text = String::from_utf8(output.stderr).unwrap();
    if output.status.success() {
        println!("skipped: there is a device");
        return;
    }
    assert!(text.starts_with("error: device: found cuda, but"), "{text}");
    assert_eq!(text.lines().count(), 1, "{text}");
}
