use super::*;
use std::error::Error as _;

fn render(template: &str, messages: &[Message]) -> Result<String> {
    let tokens = BTreeMap::from([("bos_token".to_owned(), "<s>".into())]);
    ChatTemplate::parse("t", template, tokens)?.render(&messages.to_vec().into(), true)
}

fn conversation() -> Vec<Message> {
    vec![
        Message::text("system", " Be brief.\n"),
        Message::showing("user", &["image"], "<what> is \"it\"?"),
    ]
}

/// What a template makes of nothing.
fn printed(template: &str) -> String {
    render(template, &[]).unwrap()
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
    let value = "{'b': ['é\u{1f600}\x7f', [], {}], 'a': 1.0}";
    for (arguments, expected) in [
        ("", "{\"b\": [\"é\u{1f600}\x7f\", [], {}], \"a\": 1.0}"),
        ("ensure_ascii=true", r#"{"b": ["\u00e9\ud83d\ude00\u007f", [], {}], "a": 1.0}"#),
        ("separators=(',', ':')", "{\"b\":[\"é\u{1f600}\x7f\",[],{}],\"a\":1.0}"),
        ("sort_keys=true", "{\"a\": 1.0, \"b\": [\"é\u{1f600}\x7f\", [], {}]}"),
        (
            "indent=2, ensure_ascii=false",
            "{\n  \"b\": [\n    \"é\u{1f600}\x7f\",\n    [],\n    {}\n  ],\n  \"a\": 1.0\n}",
        ),
        (
            "true, '-', ('; ', '=')",
            "{\n-\"b\"=[\n--\"\\u00e9\\ud83d\\ude00\\u007f\"; \n--[]; \n--{}\n-]; \n-\"a\"=1.0\n}",
        ),
    ] {
        assert_eq!(printed(&format!("{{{{ {value} | tojson({arguments}) }}}}")), expected);
    }
    assert_eq!(
        printed("{{ {none: 1, 2: 3, 1.5: 4} | tojson }}"),
        r#"{"null": 1, "2": 3, "1.5": 4}"#
    );
    assert!(render("{{ nothing | tojson }}", &[]).is_err());
    assert!(render("{{ 1 | tojson(escape=true) }}", &[]).is_err());
}

#[test]
fn numbers_are_written_as_python_does() {
    let numbers = "1.0, 0.1, 1e20, 1e-7, 123456789012345680.0, 0.0001, 7";
    let expected = "1.0, 0.1, 1e+20, 1e-07, 1.2345678901234568e+17, 0.0001, 7";
    assert_eq!(printed(&format!("{{{{ [{numbers}] | tojson }}}}")), format!("[{expected}]"));
    let each: Vec<String> = numbers.split(", ").map(|n| format!("{{{{ {n} }}}}")).collect();
    assert_eq!(printed(&each.join(", ")), expected);
    let held = "{'a': [1e-5, 2.0, true, none], 1.5: {}, 'it': \"'s\"}";
    let expected = "{'a': [1e-05, 2.0, True, None], 1.5: {}, 'it': \"'s\"}";
    assert_eq!(printed(&format!("{{{{ {held} }}}}")), expected);
    assert_eq!(
        printed(&format!("{{{{ {held} | string }}}} {{{{ 1e-5 | string }}}}")),
        format!("{expected} 1e-05")
    );
}

#[test]
fn what_is_missing_gets_its_default_by_position_and_by_name() {
    for (arguments, expected) in [
        ("'y'", "y,"),
        ("'y', true", "y,y"),
        ("'y', boolean=true", "y,y"),
        ("default_value='z'", "z,"),
    ] {
        let template = format!("{{{{ x | default({arguments}) }}}},{{{{ '' | d({arguments}) }}}}");
        assert_eq!(printed(&template), expected);
    }
    assert!(render("{{ x | default(bool=true) }}", &[]).is_err());
}

#[test]
fn methods_that_only_other_kinds_have_blame_the_conversation() {
    let messages = [Message(serde_json::from_str(r#"{"content": null}"#).unwrap())];
    let error = render("{{ messages[0].content.split('x') }}", &messages).unwrap_err();
    assert_eq!(error.to_string(), "t: expected messages that the template accepts, found others");
    assert!(error.source().unwrap().to_string().contains("none has no method named split"));
}

#[test]
fn escapes_and_titles_are_written_as_python_does() {
    let text = r#"{{ "<a href='/x'>&\"" | e }} {{ '"' | escape }} {{ ['<'] | tojson | e }}"#;
    let expected = "&lt;a href=&#39;/x&#39;&gt;&amp;&#34; &#34; [&#34;&lt;&#34;]";
    assert_eq!(printed(text), expected);
    assert_eq!(
        printed(r#"{{ "it's a TOP-10 2nd".title() }} {{ '<' | safe | e }}"#),
        "It'S A Top-10 2Nd <"
    );
}

#[test]
fn what_is_unknown_here_is_blamed_on_the_line_of_the_template() {
    for (what, found) in [
        ("'a b'.istitle()", "string has no method named istitle"),
        ("'a b' | wordcount", "filter wordcount is unknown"),
        ("'a b' is odder", "test odder is unknown"),
        ("lipsum()", "lipsum is unknown"),
    ] {
        let error = render(&format!("a\n{{{{ {what} }}}}"), &[]).unwrap_err();
        assert_eq!((error.kind(), error.file()), (ErrorKind::Unsupported, "t:2"), "{what}");
        assert_eq!(error.found(), found);
    }
}

#[test]
fn sequences_and_iterables_are_what_python_takes_for_them() {
    let tested = |test: &str| {
        let each = ["'a'", "[1]", "{}", "range(2)", "(1,)", "nothing", "none", "1"];
        printed(&each.map(|value| format!("{{{{ {value} is {test} }}}}")).join(" "))
    };
    for test in ["sequence", "iterable"] {
        assert_eq!(tested(test), "True True True True True True False False", "{test}");
    }
}

#[test]
fn times_are_those_of_one_day() {
    let format = "%R %c %x %X %C%g %V %U %W %u %w %k %P %f %-H %-M %-d";
    let expected =
        "12:00 Fri Jul 26 12:00:00 2024 07/26/24 12:00:00 2024 30 29 30 5 5 12 pm 000000 12 0 26";
    assert_eq!(printed(&format!("{{{{ strftime_now('{format}') }}}}")), expected);
}

#[test]
fn line_ends_of_a_template_are_one_character() {
    assert_eq!(printed("{{ 'a\\\nb' }}"), "ab");
    assert_eq!(printed("a\r\n{% if true %}\r\nb\r{% endif %}\r\n"), "a\nb\n");
}

#[test]
fn messages_are_seen_as_they_are_written() {
    let messages: Vec<Message> = serde_json::from_str(
        r#"[{"role": "assistant", "content": null, "tool_calls": [{"z": 1, "a": 2.0}]}]"#,
    )
    .unwrap();
    assert_eq!(
        render("{{ messages[0] | tojson }}", &messages).unwrap(),
        r#"{"role": "assistant", "content": null, "tool_calls": [{"z": 1, "a": 2.0}]}"#
    );
}

#[test]
fn what_real_templates_use_is_there() {
    let template = "{%- set ns = namespace(last=-1) %}{%- for m in messages[::-1] %}\
        {%- if loop.first %}{% set ns.last = messages|length - 1 - loop.index0 %}{% endif %}\
        {%- if m.role == 'tool' %}{% continue %}{% endif %}{%- endfor %}{{ ns.last }} \
        {{- 'a</think>b'.split('</think>')[-1].lstrip('\\n') }} {{ ' x '|trim }} \
        {{- 'abc'.startswith('ab') }}{{ 'abc'.removeprefix('ab') }}{{ 'abc'.removesuffix('x') }} {{ strftime_now('%d %b %Y %-m%%%-q') }} \
        {%- generation -%} y {%- endgeneration %}";
    assert_eq!(render(template, &conversation()).unwrap(), "1b xTruecabc 26 Jul 2024 7%%-qy");
}

#[test]
fn tools_documents_and_variables_of_a_row_reach_the_template() {
    let row: Conversation = serde_json::from_str(
        r#"{"messages": [{"role": "user", "content": "?"}], "tools": [{"z": "<f>", "a": {"b": 1.0}}],
        "documents": null, "chat_template_kwargs": {"enable_thinking": false, "bos_token": "x"}}"#,
    )
    .unwrap();
    let template = "{{ tools | tojson }} {{ documents is none }} {{ bos_token }} \
        {{- enable_thinking is defined and enable_thinking is false }}";
    let tokens = BTreeMap::from([("bos_token".to_owned(), "<s>".into())]);
    let written = ChatTemplate::parse("t", template, tokens).unwrap().render(&row, true).unwrap();
    assert_eq!(written, r#"[{"z": "<f>", "a": {"b": 1.0}}] True xTrue"#);
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
    for text in [
        "{%",
        "a {%- generation",
        "{% generationx %}",
        "{{ '{%' }}",
        "{{ generation }}",
        "{% if a %}{%",
        "{{ '{% generation %}' }}",
        r#"{% if "\" {% generation %}" %}"#,
        "{# {% generation %} it's #}",
        "{% raw %}{% generation %}{% endraw %}",
    ] {
        assert_eq!(tags::adapted(text).as_deref(), Ok(text));
    }
    assert_eq!(
        tags::adapted("{%- generation +%}x{% endgeneration -%}").unwrap(),
        "{%- with +%}x{% endwith -%}"
    );
    let template = "{# it's #}{% set x = 'a' %}{% generation %}{% set x = 'b' %}{{ x }}\
        {% endgeneration %}{{ x }}{{ '{% generation %}' }}";
    assert_eq!(printed(template), "ba{% generation %}");
}

#[test]
fn a_loop_that_is_left_from_inside_of_a_scope_is_refused() {
    for (open, close) in [
        ("generation", "endgeneration"),
        ("with a = 1", "endwith"),
        ("set b", "endset"),
        ("set b | default('=')", "endset"),
        ("filter upper", "endfilter"),
        ("autoescape false", "endautoescape"),
    ] {
        let left = |inner: &str| {
            format!(
                "{{% for i in [1, 2] %}}{{% {open} %}}{inner}{{% {close} %}}{{{{ i }}}}{{% endfor %}}"
            )
        };
        let error = render(&left("{% if i %}{% break %}{% endif %}"), &[]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported);
        let inner = "{% set c = 1 %}{% for k in [3] %}{% continue %}{% endfor %}";
        assert_eq!(printed(&left(inner)), "12");
    }
}

#[test]
fn special_tokens_have_the_names_that_transformers_gives_them() {
    let dir = tempfile::tempdir().unwrap();
    let template = "{{ bos_token }},{{ eos_token }},{{ pad_token }},{{ image_token }},\
        {{ additional_special_tokens | join('+') }}";
    let rendered = |config: serde_json::Value| {
        for (name, content) in [
            ("chat_template.jinja", template.to_owned()),
            ("tokenizer_config.json", config.to_string()),
            ("special_tokens_map.json", r#"{"bos_token": "<map>", "pad_token": null}"#.to_owned()),
        ] {
            std::fs::write(dir.path().join(name), content).unwrap();
        }
        ChatTemplate::load(&Files::folder(dir.path()))
            .unwrap()
            .render(&Conversation::default(), false)
            .unwrap()
    };
    let spelled_out = serde_json::json!({"bos_token": null, "eos_token": {"content": "</s>"},
        "image_token": "no", "extra_special_tokens": {"image_token": "<image>"},
        "additional_special_tokens": ["<a>", {"content": "<b>"}], "added_tokens_decoder": {}});
    assert_eq!(rendered(spelled_out), ",</s>,,<image>,<a>+<b>");
    // without the list of added tokens, the older file is heard first
    let older = serde_json::json!({"bos_token": "<s>", "eos_token": "</s>", "pad_token": "<p>"});
    assert_eq!(rendered(older), "<map>,</s>,,,");
    let class = serde_json::json!({"tokenizer_class": "Qwen2Tokenizer", "eos_token": null,
        "added_tokens_decoder": {}});
    assert_eq!(rendered(class), ",,<|endoftext|>,,");
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
        assert_eq!(template.render(&conversation().into(), false).unwrap(), "system", "{name}");
        assert_eq!(template.turn_end(), (content == named).then_some("</s>"));
    }
    let dir = tempfile::tempdir().unwrap();
    let error = ChatTemplate::load(&Files::folder(dir.path())).err().unwrap();
    assert_eq!(error.kind(), ErrorKind::Missing);
}

#[test]
fn templates_that_would_overflow_the_stack_are_refused_and_long_ones_are_not() {
    let within = |before: &str, piece: &str, count: usize, after: &str| {
        ChatTemplate::parse(
            "t",
            &(before.to_owned() + &piece.repeat(count) + after),
            BTreeMap::new(),
        )
    };
    for (before, piece, after) in [
        ("{% if a %}", "{% elif b %}", "{% endif %}"),
        ("{%if(a)%}", "{%-elif(b)%}", "{% endif %}"),
        ("{{ ", "not ", "1 }}"),
        ("{{ ", "-", "1 }}"),
        ("{% if 1", "+1", " %}{% endif %}"),
        ("{{ a", ".a", " }}"),
        ("{{ a", "|e", " }}"),
        ("{{ a", " is odd", " }}"),
        ("{{ a", "[0]", " }}"),
        ("{{ a", "()", " }}"),
        ("{{ a", " if a", " }}"),
        ("{{ a", " and a", " }}"),
    ] {
        for count in [600, 20_000] {
            let error = within(before, piece, count, after).err().unwrap();
            assert_eq!(error.kind(), ErrorKind::Unsupported);
            assert!(error.to_string().contains("at most 500 "), "{piece}: {error}");
        }
        assert!(within(before, piece, 490, after).is_ok(), "{piece}");
    }
    let many = "{% if a %}{{ '- not. (and)' }}{% elif b %}{# - #}{% endif %}";
    for (before, piece, after) in [
        ("", many, ""),
        ("{{ '", "not a-b. ", "' }}"),
        ("{#", " - if", "#}"),
        ("{{ [", "1,", "] }}"),
        ("{{ [", "['k', \"v\"], (-1.5, 2), ", "] }}"),
    ] {
        assert!(within(before, piece, 2000, after).is_ok(), "{piece}");
    }
}

/// What a template is told that fails, cause and all.
fn refusal(template: &str) -> String {
    let error = render(template, &[]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported, "{template}");
    format!("{error} {}", error.source().map_or(String::new(), |cause| cause.to_string()))
}

#[test]
fn values_that_lie_too_deep_in_one_another_are_an_error() {
    let deep =
        "{% set ns = namespace() %}{% for i in range(99000) %}{% set ns.x = [ns.x] %}{% endfor %}";
    let sets = "{% set x = [[[[[x]]]]] %}".repeat(50);
    let with = "{% set ns = namespace() %}{% for i in range(400) %}{% with x = {'k': ns.x} %}\
        {% set ns.x = x %}{% endwith %}{% endfor %}";
    let called = "{% macro m(x) %}{{ m([[[[[x]]]]]) }}{% endmacro %}{{ m(1) }}";
    let looped = "{% for x in [1] recursive %}{{ loop([[[x]]]) }}{% endfor %}";
    let wide = "{% set ns = namespace(x=1) %}{% for i in range(99) %}{% set ns.x = [ns.x, ns.x] %}{% endfor %}";
    for template in [deep, &sets, with, called, looped] {
        assert!(refusal(template).contains("more than 200 deep"), "{template}");
    }
    assert!(refusal(wide).contains("fuel"));
    let around = refusal("{% set a = namespace() %}{% set a.b = [a] %}");
    assert!(around.starts_with("t:1: ") && around.contains("a namespace"), "{around}");
    let within =
        "{% set ns = namespace(x=1) %}{% for i in range(150) %}{% set ns.x = [ns.x] %}{% endfor %}";
    assert_eq!(printed(&format!("{within}{{{{ ns.x ~ '' == ns.x | tojson }}}}")), "True");
}

#[test]
fn loops_go_through_what_python_goes_through() {
    assert!(refusal("{% for x in none %}{% endfor %}").contains("none has no items"));
    assert!(refusal("{% for x in [1] recursive %}{{ loop(none) }}{% endfor %}").contains("none"));
    let template = "{% for x in nothing %}a{% else %}b{% endfor %}{% for c in 'yz' if c %}{{ c }}\
        {{- loop.last }}{{ loop.length }}{% endfor %}{% for a in 1, 2 %}{{ a }}{% endfor %}";
    assert_eq!(printed(template), "byFalse2zTrue212");
}

#[test]
fn operators_print_and_compare_as_python_does() {
    let template = "{{ 'x' ~ 1e20 ~ [1e-5] ~ -1 * 2 }} {{ [1e16, none, 'a'] | join(',') }} \
        {{- ' ' ~ ('a' ~ 'b' in 'cab') }} {{ {'a': 1 ~ 2}['a'] ~ 'c' if 1 < 2 else '' }}\
        {{ ('<' | safe) ~ '<' }}";
    assert_eq!(printed(template), "x1e+20[1e-05]-2 1e+16,None,a True 12c<<");
    let unprintable = "{{ ['\\x00\\u00a0\\u200b\\ue000é', '\\n\\\\', nothing, 'a' | e] }}";
    let expected = r"['\x00\xa0\u200b\ue000é', '\n\\', Undefined, Markup('a')]";
    assert_eq!(printed(unprintable), expected);
    let added = refusal("a\n{{ '<' | e + '<' }}");
    assert!(added.starts_with("t:2: ") && added.contains("safe text that is added to"), "{added}");
    assert!(refusal("{{ none < 1 }}").contains("neither less nor greater"));
}

#[test]
fn arguments_of_macros_know_each_other_and_what_stands_around() {
    let template = "{% set s = 'xyz' %}\n{%- macro m(a, b=a ~ '!', c=s[1:], d=e, e=2) -%}\n \
        {{ a }}{{ b }}{{ c }}{{ d }}{{ s[::-1] }}\n{%- endmacro %}{{ m(1) }} {{ m(1, c=3) }}";
    assert_eq!(printed(template), "11!yzzyx 11!3zyx");
    for name in ["varargs", "kwargs"] {
        let named = refusal(&format!("\n{{% macro m() %}}{{{{ {name} }}}}{{% endmacro %}}"));
        assert!(named.starts_with("t:2: ") && named.contains(name), "{named}");
    }
    let inside = "{% set x = 1 %}{% set y %}{% set x = 2 %}{{ x }}{% endset %}{{ x }}{{ y }}\
        {% filter upper %}{% set x = 'a' %}{{ x }}{% endfilter %}{{ x }}";
    assert_eq!(printed(inside), "12A1");
}

#[test]
fn slices_are_those_of_python() {
    let template = "{{ 'abc'[1:] }}{{ 'héj'[::-1] }}{{ [1, 2, 3][-2:] }}{{ (1, 2)[:1] }}{{ 'abc'[-9:9:2] }}\
        {{ 'a b'.split(' ')[1:][0][:1] }}{{ {'k': 'xyz'}['k'][:2] ~ 'w' }}";
    assert_eq!(printed(template), "bcjéh[2, 3](1,)acbxyw");
    assert!(refusal("{{ none[1:] }}").contains("no text and no list"));
}

#[test]
fn methods_and_filters_are_those_of_python() {
    for (expression, expected) in [
        ("'a b c'.rsplit(' ', 1)", "['a b', 'c']"),
        ("' a  b c '.rsplit(maxsplit=1)", "[' a  b', 'c']"),
        ("'a,b,c'.split(sep=',', maxsplit=1)", "['a', 'b,c']"),
        ("' a  b c '.split(none, 1)", "['a', 'b c ']"),
        ("'a=b=c'.partition('=')", "('a', '=', 'b=c')"),
        ("'a=b=c'.rpartition('=')", "('a=b', '=', 'c')"),
        ("'ab'.partition('=')", "('ab', '', '')"),
        (
            "'éab'.index('b'), 'abab'.rindex('a'), 'abab'.find('a', 1), [1, 2].index(2)",
            "(2, 2, 2, 1)",
        ),
        (
            "'abab'.count('a', 1), 'ab'.startswith('b', 1), 'ab'.endswith(('x', 'b'))",
            "(1, True, True)",
        ),
        ("'\\x1ca\\x1d'.strip(), 'xay'.strip('xy'), 'a' | trim('a')", "('a', 'a', '')"),
        ("'a\\x0bb\\r\\nc\\u2028'.splitlines()", "['a', 'b', 'c']"),
        ("'aaa'.replace('a', 'b', count=2)", "bba"),
        ("'a'.center(4) ~ 'a'.ljust(2) ~ '-7'.zfill(4) ~ 'aB'.swapcase()", " a  a -007Ab"),
        ("'ab'.center(5, '*'), 'a'.rjust(2, '*')", "('**ab*', '*a')"),
        (
            "'x' | int, 'x' | int(default=4), ' 12 ' | int, '12.7' | int, 'inf' | int",
            "(0, 4, 12, 12, 0)",
        ),
        ("'x' | float, ' 1.5 ' | float, 1e20 | string", "(0.0, 1.5, '1e+20')"),
        (
            "'a\\n\\nb\\n' | indent(1), '' | indent(2, true), 'a\\nb' | indent('--')",
            "('a\\n\\n b\\n', '  ', 'a\\n--b')",
        ),
        (
            "[{'a': 1e16}] | map(attribute='b', default='y') | join, [{'a': 1e16}] | join(attribute='a')",
            "('y', '1e+16')",
        ),
        ("('inf' | float) | tojson, ['nan' | float]", "('Infinity', [nan])"),
    ] {
        assert_eq!(printed(&format!("{{{{ ({expression}) }}}}")), expected, "{expression}");
    }
    for (expression, reason) in [
        ("'a'.index('b')", "is not in the text"),
        ("'a'.split('')", "a separator"),
        ("','.join([1])", "not only texts"),
        ("'a' | indent(65)", "more than 64"),
        ("[] | tojson(indent=65)", "more than 64"),
        ("none | list", "none has no items"),
        ("nothing | int", "undefined"),
        ("{(1, 2): 3} | tojson", "not writable"),
        ("[1] | attr('a')", "filter attr is unknown"),
        ("{'items': 1}.items", "an item in brackets where a method has its name"),
    ] {
        assert!(refusal(&format!("{{{{ ({expression}) }}}}")).contains(reason), "{expression}");
    }
    let namespace = "{% set ns = namespace(items=[1]) %}{{ ns.items }}{{ {'items': 2}['items'] }}";
    assert_eq!(printed(namespace), "[1]2");
}

#[test]
fn integers_of_messages_beyond_64_bits_are_refused() {
    for (number, taken) in [
        ("18446744073709551615", true),
        ("-9223372036854775808", true),
        ("18446744073709551616", false),
        ("12345678901234567890123", false),
    ] {
        let message = format!(r#"{{"role": "tool", "content": [{{"id": {number}}}]}}"#);
        let message: Message = serde_json::from_str(&message).unwrap();
        let written = render("{{ messages[0].content }}", &[message]);
        assert_eq!(written.is_ok(), taken, "{number}");
        if let Ok(written) = written {
            assert_eq!(written, format!("[{{'id': {number}}}]"));
        }
    }
}
