//! Any bytes as a Circle file to execute, in float and on integers.
#![no_main]

use encircle::circle;
use encircle::runtime::{Limits, Program};
use encircle::tensor::Tensor;
use libfuzzer_sys::fuzz_target;

/// Little enough that no file takes long.
const LIMITS: Limits = Limits { elements: 1 << 16 };

fuzz_target!(|bytes: &[u8]| {
    let Ok(model) = circle::read(bytes) else { return };
    let Ok(program) = Program::new(&model, LIMITS) else { return };
    let inputs: Vec<Tensor> =
        program.inputs().iter().map(|port| Tensor::full(port.shape.clone(), 0.75)).collect();
    let _ = program.run(&inputs);
    let _ = program.run_integers(&inputs);
    let _ = program.audit(&inputs);
});
