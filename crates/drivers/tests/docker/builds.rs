//! Images that are built, by the engine of this machine.

use std::collections::BTreeMap;
use std::convert::Infallible;

use bytes::Bytes;
use futures_util::stream;
use upbeat_drivers::docker::{BuildError, Building};
use upbeat_model::build::{BuildWord, ImageBuild};
use upbeat_model::project::container::{Build, ImageRef};
use upbeat_needs::docker::Image;
use upbeat_needs::{Need, Test};

use crate::rig::{Rig, eventually, image, of, run};

pub(crate) const CASES: &[Test] = &[
    Test::needing(&[Need::DOCKER], "an_image_is_built_of_a_context_and_a_container_of_it_is_new", builds),
    Test::needing(&[Need::DOCKER], "a_step_that_fails_says_which_and_leaves_the_image_as_it_was", fails),
    Test::needing(&[Need::DOCKER], "a_build_that_nobody_listens_to_is_called_off", called_off),
    Test::needing(&[Need::DOCKER], "a_context_that_breaks_off_builds_nothing", broken_off),
    Test::needing(&[Need::DOCKER], "what_the_classic_builder_cannot_do_says_so", buildkit),
];

/// A tar of these files.
fn tar(files: &[(&str, &str)]) -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    for (name, text) in files {
        let mut header = tar::Header::new_gnu();
        header.set_size(text.len() as u64);
        header.set_mode(0o644);
        tar.append_data(&mut header, name, text.as_bytes()).unwrap();
    }
    tar.into_inner().unwrap()
}

fn wanted(rig: &Rig, build: Build) -> ImageBuild {
    ImageBuild {
        app: rig.name.parse().unwrap(),
        service: "web".parse().unwrap(),
        image: ImageRef::parse(&format!("{}-web", rig.name)).unwrap(),
        build,
    }
}

async fn begun(rig: &Rig, files: &[(&str, &str)], build: Build) -> Result<Building, BuildError> {
    let base = image().name();
    let files: Vec<_> = files.iter().map(|(name, text)| (*name, text.replace("BASE", base))).collect();
    let files: Vec<_> = files.iter().map(|(name, text)| (*name, text.as_str())).collect();
    // Not every engine that tests run with has a bridge.
    let build = Build { network: Some("none".to_owned()), ..build };
    rig.engine.build(&wanted(rig, build), stream::iter([Ok::<_, Infallible>(Bytes::from(tar(&files)))])).await
}

/// All words, and what came of it.
async fn built(
    rig: &Rig,
    files: &[(&str, &str)],
    build: Build,
) -> (Vec<BuildWord>, Result<String, BuildError>) {
    let mut words = Vec::new();
    let mut building = match begun(rig, files, build).await {
        Ok(building) => building,
        Err(error) => return (words, Err(error)),
    };
    loop {
        match building.next().await {
            Ok(Some(BuildWord::Built { id })) => {
                assert_eq!(building.next().await, Ok(None));
                return (words, Ok(id));
            }
            Ok(Some(word)) => words.push(word),
            Ok(None) => panic!("it ended without a word"),
            Err(error) => return (words, Err(error)),
        }
    }
}

fn outputs(words: &[BuildWord]) -> Vec<&str> {
    words
        .iter()
        .filter_map(|word| match word {
            BuildWord::Output { text } => Some(text.as_str()),
            _ => None,
        })
        .collect()
}

fn the_image(rig: &Rig) -> Image {
    rig.docker.named(&format!("{}-web:latest", rig.name))
}

const DOCKERFILE: &str = "FROM BASE AS tools
ARG V=none
COPY said /said
RUN echo \"$V: $(cat /said)\" > /both && cat /both
FROM BASE AS last
RUN echo not this one && false
";

fn builds() {
    run(async |rig| {
        let build = |v: &str| Build {
            dockerfile: Some("sub/File".to_owned()),
            target: Some("tools".to_owned()),
            args: BTreeMap::from([("V".to_owned(), v.to_owned())]),
            labels: BTreeMap::from([("colour".to_owned(), "red".to_owned())]),
            tags: vec![ImageRef::parse(&format!("{}-too:2", rig.name)).unwrap()],
            ..Build::default()
        };
        let files = [("sub/File", DOCKERFILE), ("said", "hello")];
        let (words, id) = built(rig, &files, build("one")).await;
        let id = id.unwrap_or_else(|error| panic!("{error}: {words:?}"));
        let (there, too) = (the_image(rig), rig.docker.named(&format!("{}-too:2", rig.name)));
        assert_eq!((there.id(), too.id()), (id.clone(), id.clone()));
        assert_eq!(rig.engine.image_id(&wanted(rig, Build::default()).image).await, Ok(Some(id.clone())));
        assert!(outputs(&words).contains(&"one: hello"), "{words:?}");
        let first = BuildWord::Step { number: 1, of: 4, text: format!("FROM {} AS tools", image().name()) };
        assert_eq!(words.first(), Some(&first));
        let labels = rig.docker.get(&format!("/images/{id}/json"))["Config"]["Labels"].clone();
        assert_eq!(
            (&labels["io.upbeat.app"], &labels["io.upbeat.service"], &labels["colour"]),
            (&rig.name.as_str().into(), &"web".into(), &"red".into())
        );
        // A container of it is another one as soon as it is another image, and not before.
        let mut spec = rig.lasting();
        of(&mut spec).image = ImageRef::parse(there.name()).unwrap();
        of(&mut spec).build = Some(build("one"));
        let slot = rig.slot("web");
        let before = rig.up(&slot, 1, &spec).await;
        let (_, same) = built(rig, &files, build("one")).await;
        assert_eq!(same.as_ref(), Ok(&id));
        assert_eq!(rig.prepare(&slot, &spec).await.unwrap().container, before);
        let (_, other) = built(rig, &files, build("two")).await;
        let other = other.unwrap();
        let after = rig.prepare(&slot, &spec).await.unwrap();
        assert_ne!(after.container, before);
        assert_eq!(after.image, other);
    });
}

fn fails() {
    run(async |rig| {
        let (_, before) = built(rig, &[("Dockerfile", "FROM BASE\nRUN true\n")], Build::default()).await;
        let there = the_image(rig);
        let files = [("Dockerfile", "FROM BASE\nRUN echo first; echo second >&2; exit 3\n")];
        let (words, error) = built(rig, &files, Build::default()).await;
        let said = error.unwrap_err().to_string();
        assert!(
            said.starts_with("step 2 of 2, `RUN echo first; echo second >&2; exit 3`, failed:"),
            "{said}"
        );
        assert!(said.contains("code: 3"), "{said}");
        for line in ["first", "second"] {
            assert!(outputs(&words).contains(&line), "{words:?}");
        }
        assert_eq!(there.id(), before.unwrap());
        let (_, error) = built(rig, &[("File", "FROM BASE\n")], Build::default()).await;
        assert!(error.unwrap_err().to_string().contains("Dockerfile"));
        let long =
            Build { args: BTreeMap::from([("V".to_owned(), "x".repeat(64 << 10))]), ..Build::default() };
        let (_, error) = built(rig, &[("Dockerfile", "FROM BASE\n")], long).await;
        assert!(error.unwrap_err().to_string().contains("too long for an engine"));
        let (_, error) = built(rig, &[("Dockerfile", "FORM BASE\n")], Build::default()).await;
        assert!(error.unwrap_err().to_string().contains("unknown instruction"));
    });
}

fn called_off() {
    run(async |rig| {
        let mark = format!("test={}", rig.name);
        let file = format!("FROM BASE\nLABEL {mark}\nRUN echo asleep; sleep 3600\n");
        let mut building = begun(rig, &[("Dockerfile", &file)], Build::default()).await.unwrap();
        loop {
            if let BuildWord::Output { text } = building.next().await.unwrap().unwrap()
                && text == "asleep"
            {
                break;
            }
        }
        assert_eq!(rig.docker.labelled(&mark).len(), 1);
        drop(building);
        eventually("it is gone", || rig.docker.labelled(&mark).is_empty()).await;
    });
}

fn broken_off() {
    run(async |rig| {
        let base = image().name();
        let whole = tar(&[("Dockerfile", &format!("FROM {base}\n")), ("large", &"x".repeat(1 << 20))]);
        let half = Bytes::from(whole).slice(..1 << 19);
        let parts = [Ok(half), Err(std::io::Error::other("it changed while it was read"))];
        let context = stream::iter(parts);
        let error = rig.engine.build(&wanted(rig, Build::default()), context).await.unwrap_err();
        assert!(matches!(error, BuildError::Engine(_)), "{error}");
        assert_eq!(rig.engine.image_id(&wanted(rig, Build::default()).image).await, Ok(None));
        // One that ends well and is no tar is refused by the engine.
        let nonsense = stream::iter([Ok::<_, Infallible>(Bytes::from_static(b"no tar"))]);
        assert!(rig.engine.build(&wanted(rig, Build::default()), nonsense).await.is_err());
    });
}

fn buildkit() {
    run(async |rig| {
        let file = "FROM BASE\nRUN --mount=type=cache,target=/x true\n";
        let (_, error) = built(rig, &[("Dockerfile", file)], Build::default()).await;
        let said = error.unwrap_err().to_string();
        assert!(said.contains("`--mount` needs BuildKit") && said.contains("under `image`"), "{said}");
    });
}
