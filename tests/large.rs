//! A file past 2 GiB is written, read and verified in little memory. A binary of its own: what it
//! measures is the greatest memory of its whole process.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use encircle::circle::{
    self, Buffer, BuiltinOperator, ErrorKind, Model, Operator, Options, Payloads, SubGraph, Tensor,
    TensorType, WriteOptions,
};
use std::fs::File;
use std::io::{Seek, SeekFrom, Write};
use std::sync::Arc;

const LAYERS: u64 = 5;
const ROWS: i32 = 110_000;
const WIDTH: i32 = 1024;
/// Bytes of one weight: 450 MB.
const WEIGHT: u64 = 4 * ROWS as u64 * WIDTH as u64;
const MEMORY_MAX_MB: u64 = 300;

/// A file with holes where only zeros are written, so that the test needs no disk to speak of.
struct Sparse {
    file: File,
    at: u64,
}

impl Write for Sparse {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        if bytes.iter().any(|&b| b != 0) {
            self.file.seek(SeekFrom::Start(self.at))?;
            self.file.write_all(bytes)?;
        }
        self.at += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.file.set_len(self.at)
    }
}

/// Weights of zeros that end in the number of their layer.
fn layers() -> Model {
    let mut model = Model::new("large");
    let mut graph = SubGraph::new("main");
    let x = graph.add_tensor(Tensor::new("x", TensorType::Float32, [1, WIDTH]));
    graph.inputs = vec![x];
    let code = model.opcode(BuiltinOperator::FullyConnected);
    for layer in 0..LAYERS {
        let buffer = model.add_buffer(Buffer::lazy(WEIGHT, move |out| {
            let zeros = vec![0; 1 << 16];
            let mut left = WEIGHT - 4;
            while left > 0 {
                let some = left.min(zeros.len() as u64);
                out.write_all(&zeros[..usize::try_from(some).unwrap()])?;
                left -= some;
            }
            out.write_all(&(layer as f32 + 1.0).to_le_bytes())
        }));
        let weight = Tensor::new(format!("{layer}.weight"), TensorType::Float32, [ROWS, WIDTH]);
        let weight = graph.add_tensor(weight.with_buffer(buffer));
        let y = graph.add_tensor(Tensor::new(format!("{layer}"), TensorType::Float32, [1, ROWS]));
        let options = Options::of(BuiltinOperator::FullyConnected);
        graph.add_operator(Operator::new(code, vec![x, weight, -1], vec![y], options));
        graph.outputs.push(y);
    }
    model.subgraphs.push(graph);
    model
}

/// The most memory this process ever had, in MB. Linux tells; elsewhere nothing is measured.
fn memory_max() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    Some(line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()? / 1000)
}

#[test]
fn files_past_two_gib_are_written_and_read_in_little_memory() {
    let model = layers();
    let error = circle::write(&model, &mut std::io::sink()).unwrap_err();
    assert!(
        matches!(error.kind(), ErrorKind::TooLarge { needed, limit: 2_147_483_647 }
        if *needed > LAYERS * WEIGHT),
        "{error}"
    );

    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("large.circle");
    let mut out = Sparse { file: File::create(&path).unwrap(), at: 0 };
    let how = WriteOptions { payloads: Payloads::Appended, ..WriteOptions::default() };
    let size = circle::write_with(&model, &how, &mut out).unwrap();
    out.flush().unwrap();
    assert!(size > LAYERS * WEIGHT);
    assert_eq!(std::fs::metadata(&path).unwrap().len(), size);

    let file = File::open(&path).unwrap();
    // SAFETY: nobody else knows the file.
    let map = unsafe { memmap2::Mmap::map(&file) }.unwrap();
    let read = circle::read_shared(Arc::new(map)).unwrap();
    assert!(circle::verify(&read).is_valid(), "{}", circle::verify(&read));
    let last = |tensor: &Tensor| {
        let bytes = read.constant(tensor)?;
        Some(f32::from_le_bytes(*bytes.last_chunk()?))
    };
    let found: Vec<f32> = read.subgraphs[0].tensors.iter().filter_map(last).collect();
    assert_eq!(found, [1.0, 2.0, 3.0, 4.0, 5.0]);
    if let Some(found) = memory_max() {
        assert!(found < MEMORY_MAX_MB, "{found} MB");
    }
}
