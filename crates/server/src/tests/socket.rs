//! The socket in the file system.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Barrier;
use std::thread;

use crate::{BindError, bind};

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o7777
}

#[tokio::test]
async fn a_socket_is_private_and_leaves_nothing_else_behind() {
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("a/b/upbeat.sock");
    let _listener = bind(&socket).unwrap();
    assert_eq!(mode(&socket), 0o600);
    let parent = socket.parent().unwrap();
    assert_eq!(mode(parent), 0o700);
    assert_eq!(fs::read_dir(parent).unwrap().count(), 1);
}

#[tokio::test]
async fn a_stale_socket_is_replaced_and_a_live_one_is_not() {
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("run/upbeat.sock");
    drop(bind(&socket).unwrap());
    assert!(socket.exists(), "it is stale");
    let _live = bind(&socket).unwrap();
    assert!(matches!(bind(&socket), Err(BindError::AlreadyServing { socket: s }) if s == socket));
}

#[tokio::test]
async fn of_many_that_start_at_once_one_serves_and_the_others_know() {
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("run/upbeat.sock");
    let runtime = tokio::runtime::Handle::current();
    for _ in 0..100 {
        // Stale, so that each of them is tempted to replace it.
        drop(bind(&socket).unwrap());
        let together = Barrier::new(4);
        let start = || {
            let _inside = runtime.enter();
            together.wait();
            bind(&socket)
        };
        let results = thread::scope(|threads| {
            let starting = [(); 4].map(|()| threads.spawn(start));
            starting.map(|daemon| daemon.join().unwrap())
        });
        let serving = results.iter().filter(|result| result.is_ok()).count();
        let told = results.iter().filter(|r| matches!(r, Err(BindError::AlreadyServing { .. }))).count();
        assert_eq!((serving, told), (1, 3), "{results:?}");
    }
}

#[tokio::test]
async fn a_directory_others_can_enter_is_refused_and_left_as_it_is() {
    let directory = tempfile::tempdir().unwrap();
    let open = directory.path().join("open");
    fs::create_dir(&open).unwrap();
    fs::set_permissions(&open, Permissions::from_mode(0o755)).unwrap();
    let error = bind(&open.join("upbeat.sock")).unwrap_err();
    assert!(matches!(error, BindError::NotPrivate { mode: 0o755, .. }), "{error}");
    assert_eq!(mode(&open), 0o755);
}

#[tokio::test]
async fn a_file_that_is_no_socket_is_left_alone() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("run/upbeat.sock");
    drop(bind(&file).unwrap());
    fs::remove_file(&file).unwrap();
    fs::write(&file, "precious").unwrap();
    assert!(matches!(bind(&file), Err(BindError::NotASocket { .. })));
    assert_eq!(fs::read_to_string(&file).unwrap(), "precious");
}

#[tokio::test]
async fn a_path_too_long_for_a_socket_is_an_error() {
    let directory = tempfile::tempdir().unwrap();
    let error = bind(&directory.path().join("run").join("x".repeat(120))).unwrap_err();
    assert!(matches!(error, BindError::Io { doing: "listen on", .. }), "{error}");
}
