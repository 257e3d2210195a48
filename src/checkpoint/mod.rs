//! Disk to named tensors: safetensors, config, tokenizer, pictures, calibration rows.
