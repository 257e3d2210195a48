//! Any text as a chat template, and behind a zero byte any JSON as the messages that it is given.
#![no_main]

use encircle::checkpoint::{ChatTemplate, Message};
use libfuzzer_sys::fuzz_target;
use std::collections::BTreeMap;

fuzz_target!(|bytes: &[u8]| {
    let mut parts = bytes.splitn(2, |&byte| byte == 0);
    let Ok(text) = std::str::from_utf8(parts.next().unwrap_or_default()) else { return };
    let token = ("eos_token".to_owned(), "</s>".into());
    let Ok(template) = ChatTemplate::parse("template", text, BTreeMap::from([token])) else {
        return;
    };
    let messages = parts.next().and_then(|json| serde_json::from_slice(json).ok());
    let messages = messages.unwrap_or_else(|| vec![Message::text("user", "Which digit?")]);
    let _ = template.render(&messages, true);
    let _ = template.turn_end();
});
