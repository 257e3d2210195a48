//! Why a file cannot be executed, or not on these inputs.

/// A file that cannot be executed, or inputs that do not fit it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The verifier objects.
    #[error("the file is invalid: {0}")]
    Invalid(String),
    /// A graph that is not there, or not handled beside others.
    #[error("{0}")]
    Graph(String),
    /// A form that the runtime it is for does not read.
    #[error("{0}")]
    Form(String),
    /// An operator that is not executed here, or not in this form.
    #[error("operators[{index}] {operator}: {message}")]
    Operator {
        /// Its position in the graph.
        index: usize,
        /// Its name.
        operator: String,
        /// What is not supported, with the numbers.
        message: String,
    },
    /// A tensor that is not executed here, or not in this form.
    #[error("tensor \"{name}\": {message}")]
    Tensor {
        /// Its name.
        name: String,
        /// Found and expected.
        message: String,
    },
    /// An input that does not fit.
    #[error("input \"{name}\": {message}")]
    Input {
        /// The name of the port.
        name: String,
        /// Found and expected.
        message: String,
    },
    /// The file asks for more memory or work than allowed.
    #[error("running the file takes {needed} elements, the limit is {limit}")]
    TooLarge {
        /// Elements of all tensors and products together.
        needed: u64,
        /// What [`Limits`](super::Limits) allow.
        limit: u64,
    },
}

impl Error {
    pub(super) fn tensor(name: &str, message: impl Into<String>) -> Error {
        Error::Tensor { name: name.escape_debug().to_string(), message: message.into() }
    }

    pub(super) fn input(name: &str, message: impl Into<String>) -> Error {
        Error::Input { name: name.escape_debug().to_string(), message: message.into() }
    }
}
