//! Images that are built for clients, by the daemon's engine.

use bytes::Bytes;
use futures_util::stream;
use tokio::time::Instant;
use upbeat_api::{BuildWord, ImageBuild, ImageState, Problem, ProblemKind};
use upbeat_control::Control;
use upbeat_drivers::docker::{BuildError, Engine, EngineError};
use upbeat_model::project::container::ImageRef;
use upbeat_server::{Answer, BoxError, BoxStream};

/// Whether an image is there.
pub(super) async fn image(engine: &Engine, name: &ImageRef) -> Answer<ImageState> {
    match engine.image_id(name).await {
        Ok(id) => Ok(ImageState { id }),
        Err(error) => Err(unable(&error)),
    }
}

/// Builds an image. It ends with the stream.
pub(super) async fn build(
    engine: &Engine,
    control: Control,
    wanted: ImageBuild,
    context: BoxStream<Result<Bytes, BoxError>>,
) -> Answer<BoxStream<Answer<BuildWord>>> {
    let mut telling = Telling { control, of: Some((wanted.clone(), Instant::now())) };
    let building = match engine.build(&wanted, context).await {
        Ok(building) => building,
        Err(error) => {
            telling.tell(Some(in_short(&error)));
            return Err(problem(&error));
        }
    };
    Ok(Box::pin(stream::unfold(Some((building, telling)), async |state| {
        let (mut building, mut telling) = state?;
        match building.next().await {
            Ok(word) => {
                if let Some(BuildWord::Built { .. }) = &word {
                    telling.tell(None);
                }
                word.map(|word| (Ok(word), Some((building, telling))))
            }
            Err(error) => {
                telling.tell(Some(in_short(&error)));
                Some((Err(problem(&error)), None))
            }
        }
    })))
}

/// Without what an instruction is given: that may be secret, and who builds is told.
fn in_short(error: &BuildError) -> String {
    match error {
        BuildError::Step { number, of, text, .. } => {
            let word = text.split_whitespace().next().unwrap_or_default();
            format!("step {number} of {of}, `{word}`, failed")
        }
        error => error.to_string(),
    }
}

/// Tells once what came of a build. Dropped before that, it was called off.
struct Telling {
    control: Control,
    of: Option<(ImageBuild, Instant)>,
}

impl Telling {
    fn tell(&mut self, failure: Option<String>) {
        let Some((ImageBuild { app, service, image, .. }, begun)) = self.of.take() else { return };
        self.control.built(app, service, image.to_string(), begun.elapsed().as_secs(), failure);
    }
}

impl Drop for Telling {
    fn drop(&mut self) {
        self.tell(Some("whoever asked for it is gone, and it was called off".to_owned()));
    }
}

fn problem(error: &BuildError) -> Problem {
    match error {
        BuildError::Refused(_) | BuildError::Step { .. } => {
            Problem::new(ProblemKind::BadRequest, error.to_string())
        }
        BuildError::Busy => Problem::new(ProblemKind::Unavailable, error.to_string())
            .with_hint("nothing was done; try again later"),
        BuildError::Engine(error) => unable(error),
    }
}

fn unable(error: &EngineError) -> Problem {
    Problem::new(ProblemKind::Unavailable, error.to_string())
}
