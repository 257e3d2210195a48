//! What a folder that lacks a file of every checkpoint holds instead, for the error to say.

use super::JSON_MAX;
use super::error::{Result, quoted};
use super::fields::Fields;
use super::files::Files;

const ADAPTER: &str = "adapter_config.json";
const PICKLES: [&str; 3] =
    ["pytorch_model.bin", "pytorch_model.bin.index.json", "consolidated.00.pth"];

/// `none`, and what is there.
pub(super) fn instead(files: &Files, none: &str) -> Result<String> {
    let there = if files.contains(ADAPTER)? {
        let (file, json) = (files.describe(ADAPTER), files.read_json(ADAPTER, JSON_MAX)?);
        let fields = Fields::root(&file, &json)?;
        let base = fields.text("base_model_name_or_path")?.map_or("its base".into(), quoted);
        let kind = if fields.text("peft_type")? == Some("LORA") { "a LoRA" } else { "an" };
        format!("{kind} adapter, which must be merged into {base} first")
    } else if let Some(name) = files.first(&PICKLES)? {
        format!("{name}, which holds pickled objects")
    } else if let Some(name) = files.ending(".gguf") {
        format!("{}, which is not made of safetensors", quoted(&name))
    } else {
        return Ok(none.into());
    };
    Ok(format!("{none}, but {there}"))
}
