use super::*;
use std::error::Error as _;

fn render(template: &str, messages: &[Message]) -> Result<String> {
    let tokens = BTreeMap::from([("bos_token".to_owned(), "<s>".to_owned())]);
    ChatTemplate::parse("t", template, tokens)?.render(messages, true)
}

fn conversation() -> Vec<Message> {
    let parts = vec![Part::Image, Part::Text { text: "<what> is \"it\"?".to_owned() }];
    vec![
        Message::text("system", " Be brief.\n"),
        Message { role: "user".to_owned(), content: Content::Parts(parts) },
    ]
}

#[test]
fn blocks_are_trimmed_and_variables_are_those_of_transformers() {
    let template = "{{ bos_token }}\n  {% for m in messages %}\n{{ m.role }};\n  {% endfor %}\n\
        {{ tools is none }} {{ documents is none }} {{ eos_token is defined }} \
        {{ add_generation_prompt }} [{{ nothing }}]\n";
    assert_eq!(
        render(template, &conversation()).unwrap(),
        "<s>\nsystem;\nuser;\nTrue True False True []"
    );
}

#[test]
fn parts_are_told_by_their_type_as_templates_ask() {
    let template = "{% for m in messages %}{% if m.content is string %}{{ m['content'].strip() }}\
        {% else %}{% for c in m.content %}{% if c.type == 'image' or 'image' in c %}<img>\
        {% elif 'text' in c %}{{ c.text }}{% endif %}{% endfor %}{% endif %}{% endfor %}";
    assert_eq!(render(template, &conversation()).unwrap(), "Be brief.<img><what> is \"it\"?");
}

#[test]
fn json_is_written_as_python_does() {
    let template = "{{ messages[1]['content'] | tojson }} {{ {'a': [1, true, none]} | tojson }}";
    assert_eq!(
        render(template, &conversation()).unwrap(),
        r#"[{"type": "image"}, {"type": "text", "text": "<what> is \"it\"?"}] {"a": [1, true, null]}"#
    );
    let template = "{{ {'a': [1]} | tojson(indent=2) }}";
    assert_eq!(render(template, &[]).unwrap(), "{\n  \"a\": [\n    1\n  ]\n}");
}

#[test]
fn what_real_templates_use_is_there() {
    let template = "{%- set ns = namespace(last=-1) %}{%- for m in messages[::-1] %}\
        {%- if loop.first %}{% set ns.last = messages|length - 1 - loop.index0 %}{% endif %}\
        {%- if m.role == 'tool' %}{% continue %}{% endif %}{%- endfor %}{{ ns.last }} \
        {{- 'a</think>b'.split('</think>')[-1].lstrip('\\n') }} {{ ' x '|trim }} \
        {{- 'abc'.startswith('ab') }} {{ strftime_now('%d %b %Y') }} \
        {%- generation -%} y {%- endgeneration %}";
    assert_eq!(render(template, &conversation()).unwrap(), "1b xTrue 26 Jul 2024y");
}

#[test]
fn an_exception_of_the_template_is_the_cause() {
    let error = render("{{ raise_exception('roles must alternate') }}", &[]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    assert!(error.source().unwrap().to_string().contains("roles must alternate"));
    assert_eq!(error.to_string(), "t: expected messages that the template accepts, found others");
}

#[test]
fn no_jinja_and_endless_loops_are_errors() {
    assert_eq!(render("{% for %}", &[]).unwrap_err().kind(), ErrorKind::Malformed);
    let endless = "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}";
    assert_eq!(render(endless, &[]).unwrap_err().kind(), ErrorKind::Unsupported);
    assert_eq!(render("{{ a.b }}", &[]).unwrap_err().kind(), ErrorKind::Unsupported);
}

#[test]
fn generation_marks_vanish_and_nothing_else() {
    for text in ["{%", "a {%- generation", "{% generationx %}", "{{ '{%' }}", "{% if a %}{%"] {
        assert_eq!(without_generation_marks(text), text);
    }
    assert_eq!(
        without_generation_marks("{%- generation +%}x{% endgeneration -%}"),
        "{%- if true +%}x{% endif -%}"
    );
}

#[test]
fn the_template_is_found_in_each_of_its_places() {
    let turn = "{{ messages[0].role }}";
    let json = serde_json::json!({ "chat_template": turn }).to_string();
    let named = serde_json::json!({"chat_template": [
        {"name": "tool_use", "template": "no"}, {"name": "default", "template": turn}],
        "eos_token": {"content": "</s>", "lstrip": false}})
    .to_string();
    for (name, content) in [
        ("chat_template.jinja", turn),
        ("chat_template.json", json.as_str()),
        ("tokenizer_config.json", json.as_str()),
        ("tokenizer_config.json", named.as_str()),
    ] {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join(name), content).unwrap();
        let template = ChatTemplate::load(&Files::folder(dir.path())).unwrap();
        assert_eq!(template.render(&conversation(), false).unwrap(), "system", "{name}");
        assert_eq!(template.turn_end(), (content == named).then_some("</s>"));
    }
    let dir = tempfile::tempdir().unwrap();
    let error = ChatTemplate::load(&Files::folder(dir.path())).err().unwrap();
    assert_eq!(error.kind(), ErrorKind::Missing);
}
