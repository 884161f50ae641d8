//! What of a directory comes to be in a tar, and what does not.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::net::UnixListener;
use std::path::Path;

use tempfile::TempDir;

use super::*;

struct Tree(TempDir);

impl Tree {
    fn new(files: &[&str]) -> Self {
        let tree = Self(tempfile::tempdir().unwrap());
        for file in files {
            tree.write(file, file);
        }
        tree
    }

    fn at(&self, path: impl AsRef<Path>) -> PathBuf {
        self.0.path().canonicalize().unwrap().join(path)
    }

    fn write(&self, path: impl AsRef<Path>, text: &str) {
        let path = self.at(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    fn pack(&self, rules: &str) -> Pack {
        Pack {
            root: self.0.path().canonicalize().unwrap(),
            ignore: Ignore::parse(rules).unwrap(),
            own: Vec::new(),
        }
    }

    /// Names, in the order of the tar.
    fn names(&self, rules: &str) -> Vec<String> {
        entries(&self.pack(rules)).into_iter().map(|entry| entry.name).collect()
    }
}

#[derive(Debug)]
struct Entry {
    name: String,
    kind: EntryType,
    mode: u32,
    owner: (u64, u64),
    mtime: u64,
    target: Option<Vec<u8>>,
    content: Vec<u8>,
}

fn tar_of(pack: &Pack) -> Vec<u8> {
    let mut bytes = Vec::new();
    pack.write(&mut bytes).unwrap();
    bytes
}

fn entries(pack: &Pack) -> Vec<Entry> {
    let bytes = tar_of(pack);
    let mut archive = tar::Archive::new(bytes.as_slice());
    let read = archive.entries().unwrap().map(|entry| {
        let mut entry = entry.unwrap();
        let mut content = Vec::new();
        entry.read_to_end(&mut content).unwrap();
        Entry {
            name: String::from_utf8_lossy(&entry.path_bytes()).into_owned(),
            kind: entry.header().entry_type(),
            mode: entry.header().mode().unwrap(),
            owner: (entry.header().uid().unwrap(), entry.header().gid().unwrap()),
            mtime: entry.header().mtime().unwrap(),
            target: entry.link_name_bytes().map(|name| name.into_owned()),
            content,
        }
    });
    read.collect()
}

#[test]
fn what_is_not_left_out_is_sent_in_the_order_of_names_and_twice_alike() {
    let tree = Tree::new(&["b", "a/z", "a/b/c", "c.md", "keep.md", "d/keep/x", "d/y"]);
    fs::create_dir(tree.at("empty")).unwrap();
    let names = tree.names("*.md\n!keep.md\nd\n!d/keep\n");
    assert_eq!(names, ["a/", "a/b/", "a/b/c", "a/z", "b", "d/", "d/keep/", "d/keep/x", "empty/", "keep.md"]);
    assert_eq!(tree.names("*"), [""; 0]);
    let pack = tree.pack("");
    assert_eq!(tar_of(&pack), tar_of(&pack));
}

#[test]
fn what_is_newer_than_any_header_says_is_as_new_as_one_says() {
    let tree = Tree::new(&["a"]);
    let late = std::time::UNIX_EPOCH + std::time::Duration::from_secs(10_413_792_000);
    let file = File::options().write(true).open(tree.at("a")).unwrap();
    // Not every file system holds it.
    if file.set_modified(late).is_ok() && file.metadata().unwrap().modified().unwrap() == late {
        assert_eq!(entries(&tree.pack(""))[0].mtime, 8_589_934_591);
    }
    assert_eq!(head(EntryType::Regular, 0o644, i64::MAX).mtime().unwrap(), 8_589_934_591);
}

#[test]
fn modes_and_times_are_kept_and_all_is_root_s() {
    let tree = Tree::new(&["run", "secret"]);
    fs::set_permissions(tree.at("run"), fs::Permissions::from_mode(0o4755)).unwrap();
    fs::set_permissions(tree.at("secret"), fs::Permissions::from_mode(0o600)).unwrap();
    let old = std::time::UNIX_EPOCH + std::time::Duration::from_secs(1_000_000_000);
    File::options().write(true).open(tree.at("run")).unwrap().set_modified(old).unwrap();
    let all = entries(&tree.pack(""));
    let modes: Vec<u32> = all.iter().map(|entry| entry.mode).collect();
    assert_eq!(modes, [0o4755, 0o600]);
    assert_eq!(all[0].mtime, 1_000_000_000);
    assert_eq!(all[0].content, b"run");
    assert!(all.iter().all(|entry| entry.owner == (0, 0)));
}

#[test]
fn links_are_sent_as_links_wherever_they_lead() {
    let tree = Tree::new(&["file"]);
    let far = format!("../{}/", "x".repeat(150));
    let links = [("in", "file"), ("out", "/etc/passwd"), ("gone", "nowhere"), ("up", ".."), ("far", &far)];
    for (name, target) in links {
        symlink(target, tree.at(name)).unwrap();
    }
    let all: BTreeMap<String, Entry> =
        entries(&tree.pack("")).into_iter().map(|entry| (entry.name.clone(), entry)).collect();
    assert_eq!(all.len(), 6);
    for (name, target) in links {
        assert_eq!(all[name].kind, EntryType::Symlink);
        assert_eq!(all[name].target.as_deref(), Some(target.as_bytes()), "{name}");
        assert!(all[name].content.is_empty());
    }
}

#[test]
fn names_are_sent_as_they_are_however_hostile() {
    let tree = Tree::new(&[]);
    let long = format!("{}/{}", "d".repeat(120), "f".repeat(200));
    let exact = "n".repeat(NAME_MAX);
    let names = ["-rf", "a\nb", "a b", "\\x", "c:\\d", "*", "ünï", "\u{1b}[2J", &long, &exact];
    for name in names {
        tree.write(name, name);
    }
    let bytes = OsStr::from_bytes(b"\xff\xfe");
    tree.write(bytes, "no text");
    let found: BTreeMap<String, Vec<u8>> =
        entries(&tree.pack("")).into_iter().map(|entry| (entry.name, entry.content)).collect();
    for name in names {
        assert_eq!(found.get(name).map(Vec::as_slice), Some(name.as_bytes()), "{name:?}");
    }
    assert_eq!(found[&*bytes.to_string_lossy()], b"no text");
}

#[test]
fn sockets_are_no_part_of_it_and_pipes_are_nothing_but_pipes() {
    let tree = Tree::new(&["a"]);
    let _socket = UnixListener::bind(tree.at("sock")).unwrap();
    let mode = rustix::fs::Mode::from_raw_mode(0o600);
    rustix::fs::mknodat(rustix::fs::CWD, tree.at("pipe"), rustix::fs::FileType::Fifo, mode, 0).unwrap();
    let all = entries(&tree.pack(""));
    let found: Vec<_> = all.iter().map(|entry| (entry.name.as_str(), entry.content.len())).collect();
    assert_eq!(found, [("a", 1), ("pipe", 0)]);
}

/// Changes something when so much was written.
struct Meddler<F: FnOnce()> {
    left: usize,
    meddle: Option<F>,
}

impl<F: FnOnce()> Write for Meddler<F> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.left = self.left.saturating_sub(bytes.len());
        if self.left == 0
            && let Some(meddle) = self.meddle.take()
        {
            meddle();
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// What is said of a large file, and one after it, when this is done while the large one is read.
fn meddled(meddle: impl Fn(&Path)) -> String {
    const SIZE: usize = 1 << 20;
    let tree = Tree::new(&[]);
    tree.write("large", &"x".repeat(SIZE));
    tree.write("later", "y");
    let to = Meddler { left: SIZE / 2, meddle: Some(|| meddle(&tree.at(""))) };
    tree.pack("").write(to).unwrap_err().to_string()
}

#[test]
fn a_file_that_changes_while_it_is_read_is_an_error() {
    let open = |dir: &Path| File::options().write(true).open(dir.join("large")).unwrap();
    for said in [
        meddled(|dir| open(dir).set_len(10).unwrap()),
        meddled(|dir| open(dir).set_len(2 << 20).unwrap()),
        meddled(|dir| open(dir).set_modified(std::time::UNIX_EPOCH).unwrap()),
    ] {
        assert!(said.contains("/large` changed while it was read"), "{said}");
    }
    let said = meddled(|dir| fs::remove_file(dir.join("later")).unwrap());
    assert!(said.contains("/later` is gone"), "{said}");
}

#[test]
fn a_directory_that_becomes_a_link_while_it_is_read_is_not_followed() {
    let outside = Tree::new(&["z"]);
    let tree = Tree::new(&["dir/z"]);
    tree.write("dir/large", &"x".repeat(1 << 20));
    let swap = || {
        fs::rename(tree.at("dir"), tree.at("moved")).unwrap();
        std::os::unix::fs::symlink(outside.at(""), tree.at("dir")).unwrap();
    };
    let to = Meddler { left: 1 << 19, meddle: Some(swap) };
    let said = tree.pack("").write(to).unwrap_err().to_string();
    assert!(said.contains("/dir/z` changed while it was read"), "{said}");
}

#[test]
fn files_of_its_own_are_there_in_place_of_those_of_the_directory() {
    let tree = Tree::new(&["a", ".dockerignore"]);
    let own = vec![(".dockerignore".to_owned(), b"mine".to_vec()), ("more".to_owned(), b"too".to_vec())];
    let all = entries(&Pack { own, ..tree.pack("") });
    let found: Vec<_> = all.iter().map(|entry| (entry.name.as_str(), entry.content.as_slice())).collect();
    assert_eq!(found, [("a", &b"a"[..]), (".dockerignore", b"mine"), ("more", b"too")]);
}

/// Counts, and keeps nothing.
#[derive(Default)]
struct Count {
    bytes: u64,
    largest: usize,
}

impl Write for Count {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.bytes += bytes.len() as u64;
        self.largest = self.largest.max(bytes.len());
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_large_file_is_never_held() {
    const SIZE: u64 = 1 << 30;
    let tree = Tree::new(&[]);
    File::create(tree.at("sparse")).unwrap().set_len(SIZE).unwrap();
    let mut count = Count::default();
    tree.pack("").write(&mut count).unwrap();
    assert!(count.bytes > SIZE && count.bytes < SIZE + (64 << 10), "{}", count.bytes);
    assert!(count.largest <= 64 << 10, "{}", count.largest);
}
