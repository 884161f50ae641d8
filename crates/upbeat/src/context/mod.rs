//! The context of a build: which files of this machine go to the engine, and how they get there.
//!
//! The client alone looks at files. They are packed by a thread of their own, as fast as they are taken.

mod ignore;
mod pack;

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::{Component, Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::{Bytes, BytesMut};
use futures_util::{Stream, stream};
use tokio::sync::mpsc;
use upbeat_model::project::container::Build;

use ignore::{Ignore, NoRule};
use pack::Pack;

/// Of instructions, and of rules: more than anybody writes.
const TEXT_MAX: u64 = 4 << 20;

/// Bytes that are sent together.
const PART: usize = 64 << 10;

/// Parts that are packed before they are sent: the disk and the way to the engine work at once.
const PARTS: usize = 4;

const IGNORE: &str = ".dockerignore";

/// Why there is no context.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ContextError {
    /// A file.
    #[error("`{}` {why}", path.display())]
    Path {
        /// Which.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// A line of it that is no rule.
    #[error("`{}`, line {line}: {why}", path.display())]
    Rule {
        /// Of which file.
        path: PathBuf,
        /// Which, counted from one.
        line: usize,
        /// What is wrong with it.
        why: String,
    },
    /// Nobody takes it any more.
    #[error("it was not taken")]
    Unwritten(#[source] io::Error),
}

/// A context that is ready to be sent.
#[derive(Debug)]
pub(crate) struct Context {
    pack: Pack,
    /// Where its instructions are, in it.
    dockerfile: String,
    /// They are written for BuildKit.
    has_heredoc: bool,
}

/// Why a context broke off, once it has.
#[derive(Clone, Debug, Default)]
pub(crate) struct Broken(Arc<Mutex<Option<ContextError>>>);

impl Broken {
    /// Taken, it is told.
    pub(crate) fn take(&self) -> Option<ContextError> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

impl Context {
    /// What a build of a directory needs of it. Errors: what of it cannot be used.
    pub(crate) fn of(build: &Build) -> Result<Self, ContextError> {
        let given = PathBuf::from(&build.context);
        let refuse = |why: &str| ContextError::Path { path: given.clone(), why: why.to_owned() };
        let root = given.canonicalize().map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => refuse("is not there, and is to be the context of a build"),
            _ => refuse(&format!("cannot be the context of a build: {error}")),
        })?;
        if !root.is_dir() {
            return Err(refuse("is no directory, and is to be the context of a build"));
        }
        let (path, text) = match &build.dockerfile_inline {
            Some(text) => (None, text.clone()),
            None => {
                let path = lexical(&given.join(build.dockerfile.as_deref().unwrap_or("Dockerfile")));
                stays_in(&root, &given, &path)?;
                let text = text_of(&path)?.ok_or_else(|| ContextError::Path {
                    path: path.clone(),
                    why: "is not there: it holds the instructions of the build".to_owned(),
                })?;
                (Some(path), text)
            }
        };
        let ignore = rules(&root, &given, path.as_deref())?;
        let has_heredoc = text.lines().any(is_heredoc);
        let inside = path.and_then(|path| name_in(&root, &lexical(&given), &path));
        match inside.filter(|name| !ignore.leaves_out(name)) {
            Some(dockerfile) => {
                Ok(Self { pack: Pack { root, ignore, own: Vec::new() }, dockerfile, has_heredoc })
            }
            None => Self::with_own(root, ignore, text, has_heredoc),
        }
    }

    /// Instructions that are no file of the context are one for the engine, under a name that nothing else has. The
    /// engine takes it out before the first step, as its own rules say.
    fn with_own(
        root: PathBuf,
        ignore: Ignore,
        text: String,
        has_heredoc: bool,
    ) -> Result<Self, ContextError> {
        let hash = blake3::hash(text.as_bytes()).to_hex();
        let dockerfile = format!(".dockerfile.{}", &hash.as_str()[..16]);
        let there = match ignore.leaves_out(IGNORE) {
            true => None,
            // Whether it leads out was looked at with the rules.
            false => text_of(&root.join(IGNORE))?,
        };
        let rules = format!("{}\n{dockerfile}\n", there.as_deref().unwrap_or(IGNORE));
        let own = vec![(IGNORE.to_owned(), rules.into_bytes()), (dockerfile.clone(), text.into_bytes())];
        Ok(Self { pack: Pack { root, ignore, own }, dockerfile, has_heredoc })
    }

    /// Where its instructions are, in it.
    pub(crate) fn dockerfile(&self) -> &str {
        &self.dockerfile
    }

    /// Its instructions have texts between marks, which the classic builder takes for instructions.
    pub(crate) fn has_heredoc(&self) -> bool {
        self.has_heredoc
    }

    /// Its parts, packed as they are asked for. One that breaks off says why in the other.
    pub(crate) fn parts(self) -> (impl Stream<Item = io::Result<Bytes>> + Send + Unpin + 'static, Broken) {
        let (tell, parts) = mpsc::channel(PARTS);
        let broken = Broken::default();
        let says = broken.clone();
        tokio::task::spawn_blocking(move || {
            let mut to = Parts { tell, part: BytesMut::new() };
            let Err(error) = self.pack.write(&mut to) else { return };
            *says.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
            // Nobody is there to hear it where that was the reason.
            let _ = to.tell.blocking_send(Err(io::Error::other("the context broke off")));
        });
        let parts = stream::unfold(parts, async |mut parts| Some((parts.recv().await?, parts)));
        (Box::pin(parts), broken)
    }
}

/// Writes into parts of a size.
struct Parts {
    tell: mpsc::Sender<io::Result<Bytes>>,
    part: BytesMut,
}

impl Parts {
    fn send(&mut self) -> io::Result<()> {
        let part = self.part.split().freeze();
        self.tell.blocking_send(Ok(part)).map_err(|_| io::ErrorKind::BrokenPipe.into())
    }
}

impl Write for Parts {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let most = bytes.len().min(PART - self.part.len());
        self.part.extend_from_slice(&bytes[..most]);
        if self.part.len() >= PART {
            self.send()?;
        }
        Ok(most)
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.part.is_empty() { Ok(()) } else { self.send() }
    }
}

/// The rules beside the instructions come before those of the directory.
fn rules(root: &Path, given: &Path, dockerfile: Option<&Path>) -> Result<Ignore, ContextError> {
    let beside = dockerfile.map(|path| {
        let mut name = path.as_os_str().to_owned();
        name.push(IGNORE);
        PathBuf::from(name)
    });
    for path in beside.into_iter().chain([root.join(IGNORE)]) {
        stays_in(root, given, &path)?;
        if let Some(text) = text_of(&path)? {
            return Ignore::parse(&text).map_err(|NoRule { line, why }| ContextError::Rule {
                path,
                line,
                why,
            });
        }
    }
    Ok(Ignore::default())
}

/// What a directory holds leads nobody out of it: whose it is may be another than who builds, and what cannot be read
/// as instructions or rules is shown. Who means a file elsewhere names it.
fn stays_in(root: &Path, given: &Path, path: &Path) -> Result<(), ContextError> {
    let is_in = [root, &lexical(given)].iter().any(|dir| path.starts_with(dir));
    // What is not there is said by whoever reads it.
    let leads_out = is_in && path.canonicalize().is_ok_and(|real| !real.starts_with(root));
    match leads_out {
        false => Ok(()),
        true => {
            let why = "is a link that leads out of the context; name the file itself, or put it there";
            Err(ContextError::Path { path: path.to_owned(), why: why.to_owned() })
        }
    }
}

/// `None`: it is not there.
fn text_of(path: &Path) -> Result<Option<String>, ContextError> {
    let refuse = |why: String| ContextError::Path { path: path.to_owned(), why };
    let read = || -> io::Result<Result<String, ContextError>> {
        if !std::fs::metadata(path)?.is_file() {
            return Ok(Err(refuse("is no file".to_owned())));
        }
        let mut bytes = Vec::new();
        File::open(path)?.take(TEXT_MAX + 1).read_to_end(&mut bytes)?;
        Ok(match bytes.len() as u64 > TEXT_MAX {
            true => Err(refuse(format!("is larger than {} MiB", TEXT_MAX >> 20))),
            false => String::from_utf8(bytes).map_err(|_| refuse("is not UTF-8".to_owned())),
        })
    };
    match read() {
        Ok(text) => text.map(Some),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(refuse(format!("cannot be read: {}", io::Error::from(error.kind())))),
    }
}

/// By which name a file is one of the context. `None`: it is not, or by a link alone.
fn name_in(root: &Path, given: &Path, path: &Path) -> Option<String> {
    let name = path.strip_prefix(given).ok()?;
    let is_itself = path.canonicalize().is_ok_and(|real| real == root.join(name));
    name.to_str().filter(|_| is_itself).map(str::to_owned)
}

/// Without `.` and `..`, as people read a path.
fn lexical(path: &Path) -> PathBuf {
    let mut clean = PathBuf::new();
    for part in path.components() {
        match part {
            Component::CurDir => {}
            Component::ParentDir => drop(clean.pop()),
            part => clean.push(part),
        }
    }
    clean
}

/// `RUN <<EOF` and the like.
fn is_heredoc(line: &str) -> bool {
    let word = line.split_whitespace().next().unwrap_or_default().to_ascii_uppercase();
    ["RUN", "COPY", "ADD"].contains(&word.as_str())
        && line.split("<<").skip(1).any(|mark| {
            let mark = mark.trim_start_matches('-').trim_start_matches(['"', '\'']);
            mark.starts_with(|c: char| c.is_alphabetic() || c == '_')
        })
}

#[cfg(test)]
mod tests;
