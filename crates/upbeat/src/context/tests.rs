//! Where instructions are, which rules count, and how a context gets on its way.

use std::fs;

use futures_util::StreamExt;
use tempfile::TempDir;

use super::*;

/// A directory of these files, and beside it others.
fn tree(files: &[(&str, &str)]) -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("app")).unwrap();
    for (name, text) in files {
        let path = dir.path().join("app").join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    dir
}

fn build(dir: &TempDir) -> Build {
    Build { context: dir.path().join("app").to_str().unwrap().to_owned(), ..Build::default() }
}

/// What the instructions are called, and all files with what they hold.
fn sent(build: &Build) -> (String, Vec<(String, String)>) {
    let context = Context::of(build).unwrap();
    let mut bytes = Vec::new();
    context.pack.write(&mut bytes).unwrap();
    let mut archive = tar::Archive::new(bytes.as_slice());
    let files = archive.entries().unwrap().map(|entry| {
        let mut entry = entry.unwrap();
        let mut text = String::new();
        entry.read_to_string(&mut text).unwrap();
        (String::from_utf8_lossy(&entry.path_bytes()).into_owned(), text)
    });
    (context.dockerfile.clone(), files.collect())
}

fn names(build: &Build) -> Vec<String> {
    sent(build).1.into_iter().map(|(name, _)| name).collect()
}

fn refused(build: &Build) -> String {
    Context::of(build).unwrap_err().to_string()
}

#[test]
fn instructions_of_the_directory_are_sent_where_they_are() {
    let dir = tree(&[("Dockerfile", "FROM a"), ("d/File", "FROM b"), ("x", "")]);
    assert_eq!(sent(&build(&dir)).0, "Dockerfile");
    let other = Build { dockerfile: Some("./x/../d/File".to_owned()), ..build(&dir) };
    assert_eq!(sent(&other).0, "d/File");
    let absolute = dir.path().join("app/d/File").to_str().unwrap().to_owned();
    assert_eq!(sent(&Build { dockerfile: Some(absolute), ..build(&dir) }).0, "d/File");
    assert_eq!(names(&other), ["Dockerfile", "d/", "d/File", "x"]);
    // By a link, too.
    std::os::unix::fs::symlink(dir.path().join("app"), dir.path().join("link")).unwrap();
    let by_link = Build { context: dir.path().join("link").to_str().unwrap().to_owned(), ..Build::default() };
    assert_eq!(sent(&by_link).0, "Dockerfile");
}

#[test]
fn others_are_sent_under_a_name_of_their_own_and_taken_out_by_the_engine() {
    let dir = tree(&[("Dockerfile", "FROM no"), ("x", "")]);
    fs::write(dir.path().join("Far"), "FROM far").unwrap();
    fs::write(dir.path().join("app/Near"), "FROM far").unwrap();
    std::os::unix::fs::symlink("Near", dir.path().join("app/Link")).unwrap();
    let far = |name: &str| Build { dockerfile: Some(name.to_owned()), ..build(&dir) };
    let inline = Build { dockerfile_inline: Some("FROM far".to_owned()), ..build(&dir) };
    for build in [far("../Far"), far("Link"), inline] {
        let (name, files) = sent(&build);
        assert!(name.starts_with(".dockerfile.") && name.len() == 28, "{name}");
        assert_eq!(files.last(), Some(&(name.clone(), "FROM far".to_owned())));
        let rules = (".dockerignore".to_owned(), format!(".dockerignore\n{name}\n"));
        assert!(files.contains(&rules), "{files:?}");
    }
    // What the directory's own rules say goes on to be said.
    fs::write(dir.path().join("app/.dockerignore"), "y").unwrap();
    let (name, files) = sent(&far("../Far"));
    assert!(files.contains(&(".dockerignore".to_owned(), format!("y\n{name}\n"))), "{files:?}");
}

#[test]
fn no_link_leads_instructions_or_rules_out_of_the_context() {
    let dir = tree(&[("x", "")]);
    fs::write(dir.path().join("Far"), "FROM far").unwrap();
    for name in ["Dockerfile", "Dockerfile.dockerignore", ".dockerignore"] {
        let link = dir.path().join("app").join(name);
        if name != "Dockerfile" {
            fs::write(dir.path().join("app/Dockerfile"), "FROM a").unwrap();
        }
        std::os::unix::fs::symlink("../Far", &link).unwrap();
        let refused = Context::of(&build(&dir)).unwrap_err().to_string();
        assert!(refused.contains(name) && refused.contains("leads out of the context"), "{refused}");
        fs::remove_file(&link).unwrap();
    }
}

#[test]
fn instructions_that_are_left_out_are_read_all_the_same() {
    let dir = tree(&[("Dockerfile", "FROM a"), ("x", ""), (".dockerignore", "Dockerfile\n.dockerignore\n")]);
    let (name, files) = sent(&build(&dir));
    let names: Vec<&str> = files.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["x", ".dockerignore", &name]);
}

#[test]
fn rules_beside_the_instructions_come_first() {
    let files = [
        ("Dockerfile", "FROM a"),
        ("x", ""),
        ("y", ""),
        (".dockerignore", "x"),
        ("Dockerfile.dockerignore", "y"),
    ];
    let dir = tree(&files);
    assert_eq!(names(&build(&dir)), [".dockerignore", "Dockerfile", "Dockerfile.dockerignore", "x"]);
    fs::remove_file(dir.path().join("app/Dockerfile.dockerignore")).unwrap();
    assert_eq!(names(&build(&dir)), [".dockerignore", "Dockerfile", "y"]);
}

#[test]
fn what_cannot_be_a_context_says_which_file_and_why() {
    let dir = tree(&[("x", "")]);
    assert!(refused(&build(&dir)).contains("app/Dockerfile` is not there"));
    let at = |name: &str| Build {
        context: dir.path().join(name).to_str().unwrap().to_owned(),
        ..Build::default()
    };
    assert!(refused(&at("none")).contains("/none` is not there, and is to be the context"));
    assert!(refused(&at("app/x")).contains("is no directory"));
    assert!(refused(&Build { dockerfile: Some(".".to_owned()), ..build(&dir) }).contains("is no file"));
    fs::write(dir.path().join("app/Dockerfile"), b"\xff").unwrap();
    assert!(refused(&build(&dir)).contains("is not UTF-8"));
    fs::write(dir.path().join("app/Dockerfile"), "FROM a").unwrap();
    fs::write(dir.path().join("app/.dockerignore"), "a\n[b").unwrap();
    assert!(refused(&build(&dir)).contains(".dockerignore`, line 2: it has a `[` without"));
    let large = File::create(dir.path().join("app/Dockerfile")).unwrap();
    large.set_len(TEXT_MAX + 1).unwrap();
    assert!(refused(&build(&dir)).contains("is larger than 4 MiB"));
}

#[test]
fn heredocs_are_seen() {
    for (line, is) in [
        ("RUN <<EOF", true),
        ("  copy <<-'EOF' /x", true),
        ("RUN cat <<_E >x", true),
        ("RUN echo $((1 << 2))", false),
        ("RUN x <<< y", false),
        ("ENV A=<<EOF", false),
    ] {
        assert_eq!(is_heredoc(line), is, "{line}");
    }
}

#[tokio::test]
async fn it_is_packed_as_fast_as_it_is_taken_and_no_part_is_large() {
    let dir = tree(&[("Dockerfile", "FROM a")]);
    let size = 4 << 20;
    File::create(dir.path().join("app/sparse")).unwrap().set_len(size).unwrap();
    let (mut parts, broken) = Context::of(&build(&dir)).unwrap().parts();
    let mut all = 0;
    while let Some(part) = parts.next().await {
        let part = part.unwrap();
        assert!(part.len() <= PART);
        all += part.len() as u64;
    }
    assert!(all > size && broken.take().is_none());
}

/// A device, or, where nobody may make one, a file that nobody may read.
fn unusable(path: &Path) {
    let mode = rustix::fs::Mode::from_raw_mode(0o600);
    let kind = rustix::fs::FileType::CharacterDevice;
    let null = rustix::fs::makedev(1, 3);
    if rustix::fs::mknodat(rustix::fs::CWD, path, kind, mode, null).is_err() {
        std::fs::write(path, "").unwrap();
        std::fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(0o0)).unwrap();
    }
}

#[tokio::test]
async fn one_that_breaks_off_says_why_and_ends_without_an_end() {
    let dir = tree(&[("Dockerfile", "FROM a")]);
    unusable(&dir.path().join("app/z"));
    let (parts, broken) = Context::of(&build(&dir)).unwrap().parts();
    let parts: Vec<_> = parts.collect().await;
    assert!(parts.last().unwrap().is_err());
    assert!(broken.take().unwrap().to_string().contains("/z` "));
    // Nobody takes it.
    File::create(dir.path().join("app/a")).unwrap().set_len(1 << 24).unwrap();
    let (parts, broken) = Context::of(&build(&dir)).unwrap().parts();
    drop(parts);
    let mut said = None;
    while said.is_none() {
        said = broken.take();
        tokio::task::yield_now().await;
    }
    assert!(matches!(said, Some(ContextError::Unwritten(_))));
}
