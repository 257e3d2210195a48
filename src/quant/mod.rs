//! The vocabulary of quantization: dtypes, qparams, observers, fake quantization, policy.
