//! Commands that are asked, below this process. Those below shims are in `tests/process`.

use super::*;

fn sh(script: &str) -> Controller {
    Controller::Exec(["sh", "-c", script].map(Into::into).into())
}

/// Who asks commands where programs are found.
fn caller() -> Caller {
    let environment = [("PATH", "/usr/local/bin:/usr/bin:/bin"), ("ZONE", "a b")];
    let environment = environment.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
    Caller::new(Means { environment, ..Means::default() })
}

#[tokio::test]
async fn the_request_is_its_input_and_the_answer_its_output() {
    let offered = [report("g", "a"), report("g", "b")];
    // It answers with what it was asked.
    let chosen = caller().choose(&sh("cat"), Choice::Selection, &offered, 2).await;
    assert_eq!(chosen, Ok(offered.to_vec()));
    let unread: Vec<_> = (0..20_000).map(|n| report("g", &format!("target {n}"))).collect();
    assert_eq!(caller().is_well(&sh(r#"echo '{"status":"ok"}'"#), &unread).await, Ok(()), "it reads nothing");
    let asked =
        r#"read -r q; test "$q" = '{"target":{"name":"a","version":"v1"}}' && echo '{"status":"Ok"}'"#;
    // What has no line's end is read all the same.
    let asked = asked.replace("read -r q;", "q=$(cat);");
    assert_eq!(caller().unwell(&sh(&asked), &[report("", "a")]).await, BTreeMap::new());
    let alone = r#"test "$(env | grep -c ZONE=)$HOME$(pwd)" = 1/ && echo '{"status":"ok"}'"#;
    assert_eq!(caller().is_well(&sh(alone), &[]).await, Ok(()), "it has the variables it was given");
    let words = Controller::Exec(["echo", r#"{"status":"$(id) ; *"}"#].map(Into::into).into());
    assert_eq!(caller().is_well(&words, &[]).await, Err("$(id) ; *".into()), "no shell reads it");
}

#[tokio::test]
async fn how_it_failed_is_told_with_its_last_line() {
    let of = async |script: &str| caller().is_well(&sh(script), &[]).await.unwrap_err();
    assert_eq!(
        of(r#"echo '{"status":"ok"}'; echo no >&2; echo 'too  hot' >&2; echo >&2; exit 3"#).await,
        "exit 3: too  hot"
    );
    assert_eq!(of("exit 1").await, "exit 1");
    assert_eq!(of("kill -9 $$").await, "killed by SIGKILL");
    assert_eq!(of("true").await, "its answer is empty");
    let nobody = Controller::Exec(vec!["no-such-program".into()]);
    let error = caller().is_well(&nobody, &[]).await.unwrap_err();
    assert_eq!(error, "cannot run `no-such-program`: it is not there");
    let long = of("yes complaint | head -c 1000000 >&2; echo last >&2; exit 1").await;
    assert_eq!(long, "exit 1: last");
}

#[tokio::test]
async fn one_that_prints_without_end_is_killed() {
    assert_eq!(caller().is_well(&sh("yes"), &[]).await, Err("its answer is longer than 4 MiB".into()));
}

/// A pipe that whoever holds its other end holds as long as it lives. It is open before anybody does, as
/// otherwise those that came and went would not be noticed.
fn held_pipe(path: &std::path::Path) -> tokio::net::unix::pipe::Receiver {
    rustix::fs::mkfifoat(rustix::fs::CWD, path, 0o600.into()).unwrap();
    tokio::net::unix::pipe::OpenOptions::new().open_receiver(path).unwrap()
}

/// What a command starts goes with it.
#[tokio::test]
async fn nothing_of_its_group_stays_when_it_has_answered() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("held");
    let mut held = held_pipe(&path);
    let script = format!(r#"exec 3>'{}'; sleep 1000 & echo '{{"status":"ok"}}'"#, path.display());
    assert_eq!(caller().is_well(&sh(&script), &[]).await, Ok(()));
    // At its end when nobody holds it.
    assert_eq!(held.read_to_end(&mut Vec::new()).await.unwrap(), 0);
}

#[tokio::test]
async fn nothing_of_its_group_stays_when_nobody_waits() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("held");
    let mut held = held_pipe(&path);
    let script = sh(&format!("exec 3>'{}'; sleep 1000 & echo >&3; sleep 1000", path.display()));
    let caller = caller();
    tokio::select! {
        _ = caller.is_well(&script, &[]) => panic!("it does not end"),
        begun = held.readable() => begun.unwrap(),
    }
    assert_eq!(held.read_to_end(&mut Vec::new()).await.unwrap(), 1);
}

/// Who has left its group lives on, and is not waited for, though it holds the other end of the answer.
#[tokio::test]
async fn who_holds_its_output_is_not_waited_for() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("held");
    let mut held = held_pipe(&path);
    let [left, input] = ["left", "input"].map(|name| directory.path().join(name));
    for pipe in [&left, &input] {
        rustix::fs::mkfifoat(rustix::fs::CWD, pipe, 0o600.into()).unwrap();
    }
    // It says when it has left the group, and ends when the test lets go of its input.
    let hold = std::fs::File::options().read(true).write(true).open(&input).unwrap();
    let script = format!(
        r#"exec 3>'{}'; setsid sh -c 'exec <"{}"; echo >"{}"; exec cat' & read -r x <'{}'; echo '{{"status":"ok"}}'"#,
        path.display(),
        input.display(),
        left.display(),
        left.display()
    );
    assert_eq!(caller().is_well(&sh(&script), &[]).await, Ok(()));
    drop(hold);
    assert_eq!(held.read_to_end(&mut Vec::new()).await.unwrap(), 0);
}

/// On the paused clock, which moves while nothing but the command happens.
#[tokio::test(start_paused = true)]
async fn one_that_hangs_has_ten_seconds() {
    let begun = Instant::now();
    let said = caller().is_well(&sh("sleep 1000"), &[]).await;
    assert_eq!((said, begun.elapsed()), (Err("timed out after 10s".into()), QUESTION_TIME));
}
