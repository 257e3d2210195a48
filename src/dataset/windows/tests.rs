use super::*;

#[test]
fn overlapping_windows_judge_every_token_but_the_first_once() {
    let ids: Vec<u32> = (0..20).collect();
    let windows = Windows { context: 8, stride: 4, limit: None };
    let samples = windows.cut(&ids, "text").unwrap();
    let judged: Vec<u32> =
        samples.iter().flat_map(|s| s.input_ids[s.prompt_len..].to_vec()).collect();
    assert_eq!(judged, (1..20).collect::<Vec<u32>>());
}

#[test]
fn text_shorter_than_the_context_is_refused_with_both_numbers() {
    let windows = Windows { context: 8, stride: 8, limit: None };
    let error = windows.cut(&[1, 2, 3], "a.txt").unwrap_err().to_string();
    assert_eq!(error, "a.txt: 3 tokens, expected at least the context of 8");
    assert!(Windows { stride: 9, ..windows }.cut(&[0; 9], "a.txt").is_err());
    let alone = Windows { context: 1, stride: 1, limit: None }.cut(&[0; 9], "a.txt");
    assert_eq!(alone.unwrap_err().to_string(), "context is 1, expected at least 2");
}
