//! The systemd unit that starts the daemon at boot.

use std::path::{Path, PathBuf};

const UNIT: &str = "upbeat.service";

/// Why there is no unit.
#[derive(Debug, thiserror::Error)]
pub enum InstallError {
    /// Nowhere to put it.
    #[error("there is no place for a unit: neither `HOME` nor `XDG_CONFIG_HOME` is set")]
    NoHome,
    /// It could not be written.
    #[error("cannot write `{}`", path.display())]
    Write {
        /// Where.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
}

/// What was written, and what to type next.
#[derive(Debug, PartialEq, Eq)]
pub struct Installed {
    /// The unit.
    pub path: PathBuf,
    /// The command that enables it.
    pub next: String,
}

/// Writes the unit: for the system when run by root, else for this user.
pub fn install(program: &Path) -> Result<Installed, InstallError> {
    let is_root = rustix::process::geteuid().is_root();
    write_unit(&units(is_root)?, program, is_root)
}

/// Whether there is a unit, so that somebody may be about to start the daemon.
pub fn is_installed() -> bool {
    let is_root = rustix::process::geteuid().is_root();
    units(is_root).is_ok_and(|dir| dir.join(UNIT).exists())
}

fn units(is_root: bool) -> Result<PathBuf, InstallError> {
    match is_root {
        true => Ok(PathBuf::from("/etc/systemd/system")),
        false => user_units(),
    }
}

fn user_units() -> Result<PathBuf, InstallError> {
    let var = |name| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    match (var("XDG_CONFIG_HOME"), var("HOME")) {
        (Some(config), _) => Ok(config.join("systemd/user")),
        (None, Some(home)) => Ok(home.join(".config/systemd/user")),
        (None, None) => Err(InstallError::NoHome),
    }
}

fn write_unit(dir: &Path, program: &Path, is_root: bool) -> Result<Installed, InstallError> {
    let path = dir.join(UNIT);
    let failed = |source| InstallError::Write { path: path.clone(), source };
    std::fs::create_dir_all(dir).map_err(failed)?;
    // Written beside and renamed: systemd never reads half a unit.
    let beside = dir.join(".upbeat.service.new");
    std::fs::write(&beside, unit(program, is_root)).map_err(failed)?;
    std::fs::rename(&beside, &path).map_err(failed)?;
    let user = if is_root { "" } else { "--user " };
    Ok(Installed { path, next: format!("systemctl {user}enable --now upbeat") })
}

/// `KillMode=process` because the services are not the daemon's to take with it. No `Delegate=`: the
/// cgroups of services are not made in the unit's own, as systemd could not start the daemon again in
/// one that is divided while they run.
///
/// No bound on tasks: by systemd's default all that runs below the daemon has one bound together, its threads
/// too, so a service that leaks them would have no other started nor asked how it is. `pids_limit` bounds
/// one.
fn unit(program: &Path, is_root: bool) -> String {
    let wanted_by = if is_root { "multi-user.target" } else { "default.target" };
    // Only the system's manager may lower the score.
    let oom = if is_root { "OOMScoreAdjust=-900\n" } else { "" };
    // systemd reads `%` as a specifier and splits at white space.
    let program = program.display().to_string().replace('%', "%%").replace('"', "\\\"");
    format!(
        "[Unit]\n\
         Description=Upbeat service orchestrator\n\
         After=network.target\n\
         \n\
         [Service]\n\
         Type=notify\n\
         ExecStart=\"{program}\" serve\n\
         Restart=always\n\
         RestartSec=1\n\
         KillMode=process\n\
         TasksMax=infinity\n\
         {oom}\
         \n\
         [Install]\n\
         WantedBy={wanted_by}\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_unit_spares_the_services_and_is_written_whole() {
        let dir = tempfile::tempdir().unwrap();
        let units = dir.path().join("a/b");
        let installed = write_unit(&units, Path::new("/opt/up beat/100%"), false).unwrap();
        assert_eq!(
            installed,
            Installed {
                path: units.join("upbeat.service"),
                next: "systemctl --user enable --now upbeat".into(),
            }
        );
        insta::assert_snapshot!(std::fs::read_to_string(&installed.path).unwrap(), @r#"
        [Unit]
        Description=Upbeat service orchestrator
        After=network.target

        [Service]
        Type=notify
        ExecStart="/opt/up beat/100%%" serve
        Restart=always
        RestartSec=1
        KillMode=process
        TasksMax=infinity

        [Install]
        WantedBy=default.target
        "#);
        assert_eq!(std::fs::read_dir(&units).unwrap().count(), 1);
        insta::assert_snapshot!(unit(Path::new("/usr/bin/upbeat"), true), @r#"
        [Unit]
        Description=Upbeat service orchestrator
        After=network.target

        [Service]
        Type=notify
        ExecStart="/usr/bin/upbeat" serve
        Restart=always
        RestartSec=1
        KillMode=process
        TasksMax=infinity
        OOMScoreAdjust=-900

        [Install]
        WantedBy=multi-user.target
        "#);
    }

    #[test]
    fn a_place_that_cannot_be_written_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("file");
        std::fs::write(&file, "").unwrap();
        let error = write_unit(&file, Path::new("/usr/bin/upbeat"), true).unwrap_err();
        assert_eq!(error.to_string(), format!("cannot write `{}`", file.join(UNIT).display()));
    }
}
