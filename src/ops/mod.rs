//! Operators: everything encircle knows about each of them, one file an operator or small family.
//!
//! An operator is told shapes and handed tensors; it must not know graphs, so none can depend on
//! its neighbours. Adding one is adding a file and a name in the list below.

mod binary;
mod concat;
mod gather;
mod linear;
mod matmul;
mod mean;
mod movement;
mod rms_norm;
mod softmax;
mod top_k;
mod unary;

pub use binary::{Binary, BinaryKind};
pub use concat::Concat;
pub use gather::Gather;
pub use linear::Linear;
pub use matmul::{MatMul, Scatter};
pub use mean::Mean;
pub use movement::{Reshape, Slice, Transpose};
pub use rms_norm::RmsNorm;
pub use softmax::Softmax;
pub use top_k::TopK;
pub use unary::{Unary, UnaryKind};

use crate::circle::{BuiltinOperator, Options};
use crate::tensor::{Run, Tensor};

/// What is known of an operator's output before any data is seen.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum OutputRule {
    /// The range of the output is learned in calibration.
    Observe,
    /// Learned, together with that of one operand: the two share one `QuantParams`.
    ObserveLike {
        /// The operand's position.
        operand: usize,
    },
    /// The operator moves values without changing them: output and inputs share one `QuantParams`.
    SameAsInputs,
    /// The output counts: whole numbers that need no grid.
    Indices,
    /// The output lies in `[min, max]` whatever the data.
    Pinned {
        /// Least value.
        min: f32,
        /// Greatest value.
        max: f32,
    },
}

/// What an operator uses one of its operands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operand {
    /// Data, or a constant that meets data elementwise.
    Activation,
    /// A matrix with one output channel a row, quantized per channel.
    Weight,
    /// A gain applied to every row, quantized per tensor.
    Gain,
    /// Added to an accumulator, so its scale is that of input times weight (operands 0 and 1).
    Bias,
    /// Integers by nature.
    Index,
}

/// An operator in Circle's terms.
#[derive(Clone, Debug, PartialEq)]
pub struct Encoding {
    /// The operator.
    pub builtin: BuiltinOperator,
    /// Its option table.
    pub options: Options,
    /// INT32 vectors that follow the operands: shapes, orders, axes.
    pub constants: Vec<Vec<i32>>,
    /// Operands the runtime expects; absent ones are written as -1.
    pub arity: usize,
    /// Shape of a result before ours that nobody reads, of the type of the first operand.
    pub spare: Option<Vec<usize>>,
}

impl Encoding {
    fn new(builtin: BuiltinOperator, options: Options) -> Encoding {
        Encoding { builtin, options, constants: Vec::new(), arity: 0, spare: None }
    }

    fn with(mut self, constant: impl IntoIterator<Item = usize>) -> Encoding {
        let constant = constant.into_iter().map(|x| i32::try_from(x).unwrap_or(i32::MAX));
        self.constants.push(constant.collect());
        self
    }
}

/// The contract of an operator.
pub trait OpDef {
    /// Shape of the output, or why the input shapes do not fit (lower case, no full stop).
    fn shape(&self, inputs: &[&[usize]]) -> Result<Vec<usize>, String>;
    /// The float kernel. Shapes were checked by [`OpDef::shape`] when the graph was built. Every
    /// element of the result is finished as `run` says, once.
    fn eval(&self, inputs: &[&Tensor], run: Run<'_>) -> Tensor;
    /// Whether a piece of the result depends on the same piece of the first operand alone, so that
    /// the result can take its place in memory.
    fn in_place(&self, inputs: &[&[usize]]) -> bool {
        let _ = inputs;
        false
    }
    /// As [`OpDef::eval`], of a first operand that nobody needs any more.
    fn eval_over(&self, first: Tensor, rest: &[&Tensor], run: Run<'_>) -> Tensor {
        let all: Vec<&Tensor> = std::iter::once(&first).chain(rest.iter().copied()).collect();
        self.eval(&all, run)
    }
    /// The operator in the Circle format, given the shapes of its operands.
    fn encode(&self, inputs: &[&[usize]]) -> Encoding;
    /// What the operand at `position` is used for.
    fn operand(&self, position: usize) -> Operand {
        let _ = position;
        Operand::Activation
    }
    /// Which statistics the output needs.
    fn rule(&self) -> OutputRule {
        OutputRule::Observe
    }
}

macro_rules! ops {
    ($($name:ident),* $(,)?) => {
        /// The closed set of operators.
        #[derive(Clone, Debug, PartialEq)]
        #[allow(missing_docs, reason = "each variant carries the documented type of its name")]
        pub enum Op { $($name($name)),* }

        impl Op {
            /// The operator's contract.
            pub fn def(&self) -> &dyn OpDef {
                match self { $(Op::$name(op) => op),* }
            }
            /// The operator's name.
            pub fn name(&self) -> &'static str {
                match self { $(Op::$name(_) => stringify!($name)),* }
            }
        }
        $(impl From<$name> for Op { fn from(op: $name) -> Op { Op::$name(op) } })*
    };
}

ops![
    Binary, Concat, Gather, Linear, MatMul, Mean, Reshape, RmsNorm, Scatter, Slice, Softmax, TopK,
    Transpose, Unary,
];

/// `Ok` if `condition` holds, else the message.
fn ensure(condition: bool, message: impl FnOnce() -> String) -> Result<(), String> {
    if condition { Ok(()) } else { Err(message()) }
}

#[cfg(test)]
mod tests;
