//! `build`, and what `up` builds before it asks for anything: a context is packed here, sent, and what the engine says
//! of it is shown.

use std::collections::{BTreeSet, VecDeque};

use futures_util::StreamExt;
use serde::Serialize;
use upbeat_api::{BuildWord, Client, ClientError, ImageBuild, ProblemKind, Project, ServiceName};
use upbeat_model::project::Container;
use upbeat_model::project::container::{Build, PullPolicy};

use super::args::BuildArgs;
use super::session::Session;
use super::{load, names};
use crate::context::{Broken, Context, ContextError};
use crate::exit::ExitCode;
use crate::face::build as face;
use crate::failure::{Failure, Outcome};

/// As many last lines as people read when something failed.
const LAST_LINES: usize = 10;

/// So many characters of each: a few lines of a terminal, and all of them together a screen.
const LINE_SHOWN: usize = 300;

/// An image that was built.
#[derive(Debug, Serialize)]
pub(crate) struct Built {
    /// For which service.
    pub(crate) service: ServiceName,
    /// What it is called.
    pub(crate) image: String,
    /// Its id.
    pub(crate) id: String,
}

/// What is built otherwise than the file says.
#[derive(Clone, Copy, Default)]
struct How {
    no_cache: bool,
    pull: bool,
}

pub(super) async fn run(session: &Session, args: BuildArgs) -> Outcome {
    let project = load::project(session, load::Notes::Told)?;
    let named = names::services(&args.services, project.name.as_str(), project.services.keys())?;
    let built: Vec<&ServiceName> = with_build(&project).map(|(name, ..)| name).collect();
    if let Some(other) = named.iter().find(|name| !built.contains(name)) {
        let message = format!("`services.{other}` has no `build`, so there is nothing to build");
        return Err(Failure::new(ExitCode::Usage, message));
    }
    let wanted: Vec<_> =
        with_build(&project).filter(|(name, ..)| named.is_empty() || named.contains(name)).collect();
    let mut all = Vec::new();
    if wanted.is_empty() {
        session.note(&format!("no service of `{}` has a `build`", project.name));
    } else {
        let client = session.ensured().await?;
        let how = How { no_cache: args.no_cache, pull: args.pull };
        for (name, container, build) in wanted {
            all.push(one(session, &client, &project, (name, container, build), how).await?);
        }
    }
    match session.is_json() {
        true => session.print_json(&all)?,
        false => session.print(&face::built(&all))?,
    }
    Ok(ExitCode::Ok)
}

/// Which images `up` builds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Images {
    /// What is not there, and what is built each time.
    WhereMissing,
    /// All.
    Anew,
    /// None, whatever a `pull_policy` says.
    AsTheyAre,
}

/// Builds what these services need before they can be asked for. Errors: something cannot be built, or is not there and
/// shall not be built; nothing else was done.
pub(super) async fn for_up(
    session: &Session,
    project: &Project,
    named: &[ServiceName],
    images: Images,
) -> Result<(), Failure> {
    let selected = with_dependencies(project, named);
    let wanted: Vec<_> = with_build(project).filter(|(name, ..)| selected.contains(*name)).collect();
    if wanted.is_empty() {
        return Ok(());
    }
    let client = session.ensured().await?;
    for (name, container, build) in wanted {
        let is_due = match images {
            Images::Anew => true,
            Images::WhereMissing if container.pull_policy == PullPolicy::Build => true,
            Images::WhereMissing => !is_there(session, &client, container).await?,
            Images::AsTheyAre if is_there(session, &client, container).await? => false,
            Images::AsTheyAre => {
                let image = container.image.full();
                let message = format!(
                    "`services.{name}.build`: image `{image}` is not there, and nothing is to be built"
                );
                let hint = format!("leave `--no-build` out, or build it: `upbeat build {name}`");
                return Err(Failure::new(ExitCode::Failed, message).hint(hint));
            }
        };
        if is_due {
            one(session, &client, project, (name, container, build), How::default()).await?;
        }
    }
    Ok(())
}

async fn is_there(session: &Session, client: &Client, container: &Container) -> Result<bool, Failure> {
    Ok(session.insist(|| client.image(&container.image)).await??.id.is_some())
}

fn with_build(project: &Project) -> impl Iterator<Item = (&ServiceName, &Container, &Build)> {
    project.services.iter().filter_map(|(name, service)| {
        let container = service.container.as_deref()?;
        Some((name, container, container.build.as_ref()?))
    })
}

/// Those that are named and what they need; all where none is.
fn with_dependencies(project: &Project, named: &[ServiceName]) -> BTreeSet<ServiceName> {
    let mut next: Vec<&ServiceName> = match named.is_empty() {
        true => project.services.keys().collect(),
        false => named.iter().collect(),
    };
    let mut all = BTreeSet::new();
    while let Some(name) = next.pop() {
        if let Some(service) = project.services.get(name)
            && all.insert(name.clone())
        {
            next.extend(service.depends_on.keys());
        }
    }
    all
}

/// Builds one image, and shows how that goes.
async fn one(
    session: &Session,
    client: &Client,
    project: &Project,
    (name, container, build): (&ServiceName, &Container, &Build),
    how: How,
) -> Result<Built, Failure> {
    let mut wanted = ImageBuild {
        app: project.name.clone(),
        service: name.clone(),
        image: container.image.clone(),
        build: Build {
            no_cache: build.no_cache || how.no_cache,
            pull: build.pull || how.pull,
            ..build.clone()
        },
    };
    let context = match build.is_fetched() {
        true if build.dockerfile_inline.is_some() => {
            let message = format!(
                "`services.{name}.build.dockerfile_inline` cannot be sent with a context that the engine fetches"
            );
            return Err(Failure::new(ExitCode::Usage, message)
                .hint("name a file of that context under `dockerfile`, or build of a directory"));
        }
        true => None,
        false => Some(Context::of(build).map_err(|error| unusable(name, &error))?),
    };
    session.note(&face::begins(name, &container.image));
    let mut telling = Telling { name, has_heredoc: false, last: VecDeque::new() };
    let none = || futures_util::stream::empty::<std::io::Result<bytes::Bytes>>();
    let (asked, broken) = match context {
        None => (client.build(&wanted, none()).await, Broken::default()),
        Some(context) => {
            telling.has_heredoc = context.has_heredoc();
            // The daemon is told nothing of where it is.
            let dockerfile = Some(context.dockerfile().to_owned());
            wanted.build =
                Build { context: String::new(), dockerfile, dockerfile_inline: None, ..wanted.build };
            let (parts, broken) = context.parts();
            (client.build(&wanted, parts).await, broken)
        }
    };
    let mut words = asked.map_err(|error| match broken.take() {
        // What broke off is why it was not built; that nobody took it is not.
        Some(why) if !matches!(why, ContextError::Unwritten(_)) => unusable(name, &why),
        _ => telling.failed(error),
    })?;
    while let Some(word) = words.next().await {
        match word.map_err(|error| telling.failed(error))? {
            BuildWord::Built { id } => {
                session.note(&face::is_built(name, &container.image));
                return Ok(Built { service: name.clone(), image: container.image.to_string(), id });
            }
            word => telling.tell(session, &word),
        }
    }
    let message = format!("`services.{name}.build`: it is not known what came of it");
    Err(Failure::new(ExitCode::Failed, message).hint(format!("build it again: `upbeat build {name}`")))
}

fn unusable(name: &ServiceName, error: &ContextError) -> Failure {
    Failure::new(ExitCode::Failed, format!("`services.{name}.build`: {error}"))
        .hint("nothing was built, and nothing that runs was touched")
}

/// The beginning of a long line.
fn beginning(text: &str) -> String {
    match text.char_indices().nth(LINE_SHOWN) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

/// What a build says, while it is shown.
struct Telling<'a> {
    name: &'a ServiceName,
    has_heredoc: bool,
    /// The last lines of the step that runs.
    last: VecDeque<String>,
}

impl Telling<'_> {
    fn tell(&mut self, session: &Session, word: &BuildWord) {
        match word {
            BuildWord::Output { text } => {
                if self.last.len() >= LAST_LINES {
                    self.last.pop_front();
                }
                self.last.push_back(beginning(text));
            }
            BuildWord::Step { .. } | BuildWord::Built { .. } => self.last.clear(),
        }
        session.note(&face::word(self.name, word));
    }

    fn failed(&self, error: ClientError) -> Failure {
        let ClientError::Problem(problem) = error else { return error.into() };
        let of_the_file = problem.kind == ProblemKind::BadRequest;
        let place = if of_the_file { format!("`services.{}.build`: ", self.name) } else { String::new() };
        let mut failure = Failure::new(ExitCode::Failed, format!("{place}{}", problem.message));
        failure.last_lines = self.last.iter().cloned().collect();
        failure.hints.extend(problem.hint);
        if self.has_heredoc && problem.message.contains("unknown instruction") {
            failure = failure.hint(
                "its Dockerfile has a heredoc (`<<`), which needs BuildKit: build the image before, and name it under `image`",
            );
        }
        match problem.kind {
            ProblemKind::Forbidden | ProblemKind::Unauthorized => {
                Failure { exit: problem.kind.into(), ..failure }
            }
            _ => failure.hint("nothing that runs was touched"),
        }
    }
}
