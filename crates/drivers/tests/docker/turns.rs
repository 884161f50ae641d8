//! How many images are pulled at a time, of an engine that takes its time for each.

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::{Arc, Mutex, mpsc};

use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use upbeat_drivers::docker::{Engine, PrepareError, Progress};
use upbeat_model::project::Service;
use upbeat_model::project::container::ImageRef;
use upbeat_needs::Test;

use crate::gone::{block_on, engine, said};
use crate::rig::{eventually, wish};

pub(crate) const CASES: &[Test] = &[
    Test::new("of_many_images_three_are_pulled_at_a_time", three),
    Test::new("one_digest_is_pulled_once_whatever_tag_stands_before_it", one_digest),
];

/// An engine that has no image, and pulls one only when it is told to.
struct Slow {
    /// What it has begun to pull.
    begun: UnboundedReceiver<String>,
    /// A word for each pull that may end.
    go: mpsc::Sender<()>,
}

impl Slow {
    fn at(socket: &Path) -> Self {
        let listener = UnixListener::bind(socket).unwrap();
        let ((tell, begun), (go, goes)) = (unbounded_channel(), mpsc::channel());
        let goes = Arc::new(Mutex::new(goes));
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let (tell, goes) = (tell.clone(), goes.clone());
                std::thread::spawn(move || answer(stream.unwrap(), &tell, &goes));
            }
        });
        Self { begun, go }
    }

    /// What is being pulled, once it is so much.
    async fn begins(&mut self, count: usize) -> BTreeSet<String> {
        let mut all = BTreeSet::new();
        while all.len() < count {
            all.insert(self.begun.recv().await.unwrap());
        }
        all
    }
}

fn answer(mut stream: UnixStream, begun: &UnboundedSender<String>, goes: &Mutex<mpsc::Receiver<()>>) {
    let mut asked = [0; 4096];
    let Ok(length) = stream.read(&mut asked) else { return };
    let head = String::from_utf8_lossy(&asked[..length]).into_owned();
    let line = head.lines().next().unwrap_or_default();
    let answer = if line.starts_with("GET /version") {
        said("200 OK", r#"{"ApiVersion":"1.41"}"#)
    } else if let Some((_, image)) = line.split_once("/images/create?fromImage=") {
        let image = image.split([' ', '&']).next().unwrap_or_default();
        if begun.send(image.to_owned()).is_err() || goes.lock().unwrap().recv().is_err() {
            return;
        }
        said("200 OK", "")
    } else {
        said("404 None", r#"{"message":"there is none"}"#)
    };
    // Whoever has gone meanwhile needs no answer.
    let _ = stream.write_all(&answer);
}

/// Somebody who wants one.
type Wanting = tokio::task::JoinHandle<Result<(), PrepareError>>;

/// The slots whose image is asked for, and those that wait for a turn.
#[derive(Default)]
struct Told {
    asked: BTreeSet<usize>,
    waiting: BTreeSet<usize>,
}

impl Told {
    fn is(&self, asked: usize, waiting: usize) -> bool {
        (self.asked.difference(&self.waiting).count(), self.waiting.len()) == (asked, waiting)
    }
}

/// Wants these images, each for a slot of its own. What each is told is noted.
fn all_want(engine: &Engine, images: &[String]) -> (Vec<Wanting>, Arc<Mutex<Told>>) {
    let told = Arc::<Mutex<Told>>::default();
    let tasks = images.iter().enumerate().map(|(n, image)| {
        let slot = format!("a/s{n}/1").parse().unwrap();
        let wanted = wish(&slot, &Service::of_image(ImageRef::parse(image).unwrap()));
        let (engine, told) = (engine.clone(), told.clone());
        tokio::spawn(async move {
            let notes = |progress| {
                let mut told = told.lock().unwrap();
                match progress {
                    Progress::Asked { .. } => told.asked.insert(n),
                    Progress::Waiting { at_once: 3, .. } => told.waiting.insert(n),
                    _ => false,
                };
            };
            engine.prepare(wanted, notes).await.map(drop)
        })
    });
    (tasks.collect(), told)
}

fn three() {
    block_on(async {
        let dir = tempfile::tempdir().unwrap();
        let mut slow = Slow::at(&dir.path().join("s"));
        let (engine, _events) = engine(&dir.path().join("s"));
        let images: Vec<String> = (1..=5).map(|n| format!("registry.test/i{n}:v1")).collect();
        let (tasks, told) = all_want(&engine, &images);
        let mut pulled = slow.begins(3).await;
        eventually("three are asked for, and two wait", || told.lock().unwrap().is(3, 2)).await;
        for _ in 0..5 {
            // Each time the engine answers somebody, who waits for nothing but a turn would have come to ask.
            assert_eq!(engine.image_id(&ImageRef::parse("other").unwrap()).await, Ok(None));
        }
        assert!(slow.begun.try_recv().is_err(), "a fourth is pulled beside three");
        // Each that ends makes room for one.
        for count in 4..=5 {
            slow.go.send(()).unwrap();
            pulled.extend(slow.begins(1).await);
            assert_eq!(pulled.len(), count);
            assert!(slow.begun.try_recv().is_err());
        }
        (0..3).for_each(|_| slow.go.send(()).unwrap());
        for task in tasks {
            // Its pull went well, and still there is none: this engine has none.
            assert!(
                matches!(task.await.unwrap(), Err(PrepareError::Image(why)) if why.contains("it was pulled"))
            );
        }
        assert!(slow.begun.try_recv().is_err(), "each once");
    });
}

fn one_digest() {
    block_on(async {
        let dir = tempfile::tempdir().unwrap();
        let mut slow = Slow::at(&dir.path().join("s"));
        let (engine, _events) = engine(&dir.path().join("s"));
        let digest = format!("sha256:{}", "d".repeat(64));
        let images = ["", ":v1", ":v2"].map(|tag| format!("registry.test/web{tag}@{digest}"));
        let (tasks, told) = all_want(&engine, &images);
        let pulled = slow.begins(1).await;
        assert!(pulled.iter().all(|image| !image.contains("v1") && image.contains("d".repeat(64).as_str())));
        eventually("all are told of the one", || told.lock().unwrap().is(3, 0)).await;
        slow.go.send(()).unwrap();
        for task in tasks {
            assert!(task.await.unwrap().is_err());
        }
        assert!(slow.begun.try_recv().is_err(), "once for all");
    });
}
