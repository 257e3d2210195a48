use super::*;

#[test]
fn arrays_of_slurm_and_jobs_of_kubernetes_tell_their_share() {
    let share = |told: &[(&str, &str)], of: Option<&str>| {
        let find = |name: &str| {
            told.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned())
        };
        let found = told_share(&find, of.map(str::to_owned));
        found.map(|share| share.to_string()).map_err(|error| error.to_string())
    };
    let slurm = [
        ("SLURM_ARRAY_TASK_ID", "6"),
        ("SLURM_ARRAY_TASK_MIN", "2"),
        ("SLURM_ARRAY_TASK_STEP", "2"),
        ("SLURM_ARRAY_TASK_COUNT", "4"),
    ];
    assert_eq!(share(&slurm, None), Ok("3/4".into()));
    assert_eq!(share(&slurm, Some("4")), Ok("3/4".into()));
    // an element put again by itself
    let again = [
        ("SLURM_ARRAY_TASK_ID", "3"),
        ("SLURM_ARRAY_TASK_MIN", "3"),
        ("SLURM_ARRAY_TASK_COUNT", "1"),
    ];
    for of in [None, Some("4")] {
        assert!(share(&again, of).unwrap_err().contains("--shard I/N"), "{of:?}");
    }
    let job = [("JOB_COMPLETION_INDEX", "0")];
    assert_eq!(share(&job, Some("5")), Ok("1/5".into()));
    assert!(share(&job, None).unwrap_err().contains("auto/N"));
    assert!(share(&[], None).unwrap_err().contains("JOB_COMPLETION_INDEX"));
    let beyond = [("JOB_COMPLETION_INDEX", "5"), ("JOB_COMPLETIONS", "5")];
    assert!(share(&beyond, None).unwrap_err().contains("shard 6 of 5"));
    let text = [("JOB_COMPLETION_INDEX", "x")];
    assert!(share(&text, Some("5")).unwrap_err().contains("\"x\""));
}
