use super::canonical;

#[test]
fn every_spelling_in_the_wild_leads_to_one_name() {
    let norm = "model.language_model.norm.weight";
    for stored in [norm, "language_model.model.norm.weight", "model.norm.weight", "norm.weight"] {
        assert_eq!(canonical(stored), norm);
    }
    let patch = "model.visual.patch_embed.proj.weight";
    for stored in [patch, "visual.patch_embed.proj.weight"] {
        assert_eq!(canonical(stored), patch);
    }
    for stored in ["lm_head.weight", "language_model.lm_head.weight"] {
        assert_eq!(canonical(stored), "lm_head.weight");
    }
    assert_eq!(canonical("score.weight"), "score.weight");
}
