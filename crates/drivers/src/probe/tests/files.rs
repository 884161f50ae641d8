//! Files, and how old they are.

use std::time::Duration;

use upbeat_model::project::FileCheck;

use super::*;

#[tokio::test]
async fn a_file_is_there_and_new_or_not() {
    let prober = prober();
    let dir = tempfile::tempdir().unwrap();
    let of = async |name: &str, max_age| {
        let path = dir.path().join(name).display().to_string();
        prober.verdict(&Question::File(FileCheck { path, max_age }), PATIENT).await
    };
    let age = |name: &str, changed: SystemTime| {
        let file = std::fs::File::create(dir.path().join(name)).unwrap();
        file.set_modified(changed).unwrap();
    };
    let (now, hour) = (SystemTime::now(), Duration::from_secs(3600));
    age("old", now - hour);
    age("of the future", now + hour);
    age("before all time", SystemTime::UNIX_EPOCH - hour);
    assert_eq!(of("old", None).await, yes("it is there"));
    assert_eq!(of("old", Some(Millis::seconds(7200))).await, yes("changed within 2h"));
    assert_eq!(of("old", Some(Millis::seconds(60))).await, no("not changed within 1m"));
    assert_eq!(of("of the future", Some(Millis(1))).await, yes("changed within 1ms"));
    assert_eq!(of("before all time", Some(Millis::seconds(60))).await, no("not changed within 1m"));
    assert_eq!(of("", Some(Millis::seconds(60))).await, yes("changed within 1m"), "a directory");
    assert_eq!(of("nothing", None).await, no("it is not there"));
    assert_eq!(of("old/x", None).await, no("not a directory"));
    std::os::unix::fs::symlink("nothing", dir.path().join("link")).unwrap();
    assert_eq!(of("link", None).await, no("it is not there"), "what it points to counts");
}
