//! Where the shim of an embedded engine comes from.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use upbeat_drivers::process::ShimProgram;

use crate::daemon::SHIM_ARGUMENT;

/// The program of the shim alone.
const NAME: &str = "upbeat-shim";

/// What to do where there is none.
pub(super) const REMEDY: &str = "call `upbeat::services::shim_main()` first thing in `main`, or put \
    `upbeat-shim` beside the program or into `PATH`, or name it by `UPBEAT_SHIM`";

/// This program can be a shim.
static OWN: AtomicBool = AtomicBool::new(false);

/// Makes this program the shim of its own services. To be called first thing in `main`, before there is
/// any other thread; it does not return where the program was run as a shim, and does nothing else.
pub fn shim_main() {
    let args: Vec<OsString> = std::env::args_os().take(2).collect();
    if args.get(1).is_some_and(|arg| arg == SHIM_ARGUMENT) {
        let code = upbeat_shim::main();
        // `ExitCode` cannot be asked for its number; the zygote's end is nobody's status.
        std::process::exit(i32::from(code != std::process::ExitCode::SUCCESS));
    }
    OWN.store(true, Ordering::Relaxed);
}

/// The shim for a program with this file. Errors: what was looked for, and where.
pub(super) fn find(named: Option<&Path>, own: &Path) -> Result<ShimProgram, String> {
    let by_variable = std::env::var_os("UPBEAT_SHIM").filter(|path| !path.is_empty()).map(PathBuf::from);
    let path = std::env::var_os("PATH").unwrap_or_default();
    let named = named.map(Path::to_owned).or(by_variable);
    choose(named, own, OWN.load(Ordering::Relaxed), std::env::split_paths(&path))
}

fn choose(
    named: Option<PathBuf>,
    own: &Path,
    is_own: bool,
    path: impl Iterator<Item = PathBuf>,
) -> Result<ShimProgram, String> {
    let alone = |path: PathBuf| ShimProgram { path, args: Vec::new() };
    if let Some(named) = named {
        return match is_program(&named) {
            true => Ok(alone(named)),
            false => Err(format!("the shim was said to be `{}`, which is no program", named.display())),
        };
    }
    if is_own {
        return Ok(ShimProgram { path: own.to_owned(), args: vec![OsString::from(SHIM_ARGUMENT)] });
    }
    let beside = own.parent().into_iter().flat_map(|dir| [Some(dir), dir.parent()]).flatten();
    let mut places = beside.map(Path::to_owned).chain(path.filter(|dir| dir.is_absolute()));
    let found = places.find_map(|dir| Some(dir.join(NAME)).filter(|program| is_program(program)));
    found.map(alone).ok_or_else(|| {
        format!("there is no `{NAME}`, which owns the processes of services, for `{}`", own.display())
    })
}

fn is_program(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    path.metadata().is_ok_and(|found| found.is_file() && found.permissions().mode() & 0o111 != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shim_is_found_where_it_was_named_then_here_then_beside_then_in_the_path() {
        use std::os::unix::fs::PermissionsExt;
        let root = tempfile::tempdir().unwrap();
        let dir = |name: &str| {
            let dir = root.path().join(name);
            std::fs::create_dir_all(&dir).unwrap();
            dir
        };
        let put = |dir: &Path| {
            let file = dir.join(NAME);
            std::fs::write(&file, "").unwrap();
            std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o755)).unwrap();
            file
        };
        let own = dir("target/debug/deps").join("program");
        let path = dir("bin");
        let found = |named: Option<PathBuf>, is_own| {
            choose(named, &own, is_own, [PathBuf::from("relative"), path.clone()].into_iter())
                .map(|shim| shim.path)
        };
        assert!(found(None, false).unwrap_err().starts_with("there is no `upbeat-shim`"));
        std::fs::write(path.join(NAME), "no program").unwrap();
        assert!(found(None, false).is_err());
        assert_eq!(found(None, true).unwrap(), own);
        let in_path = put(&path);
        assert_eq!(found(None, false).unwrap(), in_path);
        let above = put(&dir("target/debug"));
        assert_eq!(found(None, false).unwrap(), above);
        let beside = put(&dir("target/debug/deps"));
        assert_eq!(found(None, false).unwrap(), beside);
        let named = put(&dir("elsewhere"));
        assert_eq!(found(Some(named.clone()), true).unwrap(), named);
        let nowhere = root.path().join("nowhere");
        assert!(found(Some(nowhere), true).unwrap_err().contains("is no program"));
    }
}
