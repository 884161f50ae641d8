//! Who a process runs as: names and numbers, by `/etc/passwd` and `/etc/group`.

use std::io;

use crate::child::Failure;
use crate::wire::Stage;

/// Who there is.
const USERS: &str = "/etc/passwd";
const GROUPS: &str = "/etc/group";

/// What a process becomes, before it is executed.
pub(crate) struct Identity {
    /// Its user and first group; none: as the daemon.
    pub(crate) user: Option<User>,
    /// All groups it shall be in; none: as the daemon.
    pub(crate) groups: Option<Vec<libc::gid_t>>,
    /// Those of them that were asked for one by one, in that order.
    pub(crate) added: Vec<libc::gid_t>,
}

/// A user and its own group.
#[derive(Clone, Copy)]
pub(crate) struct User {
    pub(crate) uid: libc::uid_t,
    pub(crate) gid: libc::gid_t,
}

impl Identity {
    /// `user`: `name`, `uid`, `name:group`, `uid:gid`; empty: as the daemon. `groups`: names or
    /// numbers. Errors: there is none of that name.
    pub(crate) fn find(user: &[u8], groups: &[Vec<u8>]) -> Result<Self, Failure> {
        if user.is_empty() && groups.is_empty() {
            return Ok(Self { user: None, groups: None, added: Vec::new() });
        }
        let file = list(GROUPS)?;
        let known = entries(&file);
        let unknown = |place: usize| (Stage::Group(u8::try_from(place).unwrap_or(u8::MAX)), libc::ENOENT);
        let find = |(place, name): (usize, &Vec<u8>)| {
            let name = std::str::from_utf8(name).map_err(|_| unknown(place))?;
            find_group(&known, name).ok_or_else(|| unknown(place))
        };
        let added = groups.iter().enumerate().map(find).collect::<Result<Vec<_>, _>>()?;
        let (user, mut all) = match user.is_empty() {
            true => (None, own_groups()),
            false => find_user(user, &known).map(|(user, groups)| (Some(user), groups))?,
        };
        for gid in &added {
            if !all.contains(gid) {
                all.push(*gid);
            }
        }
        Ok(Self { user, groups: Some(all), added })
    }
}

/// The number of a user, and of its own group. `text`: `name`, `uid`, either with `:group`. `None`: there
/// is none.
pub fn user(text: &str) -> Option<(u32, u32)> {
    let groups = list(GROUPS).ok()?;
    let (user, _) = find_user(text.as_bytes(), &entries(&groups)).ok()?;
    Some((user.uid, user.gid))
}

/// The number of a group, by its name or number. `None`: there is none.
pub fn group(text: &str) -> Option<u32> {
    find_group(&entries(&list(GROUPS).ok()?), text)
}

/// One of the two files; one that is not there names nobody. What is no text in it, as a name of somebody in
/// another encoding, hides nobody else. Errors: it could not be read, which does not say that it names nobody.
fn list(path: &str) -> Result<String, Failure> {
    match std::fs::read(path) {
        Ok(list) => Ok(String::from_utf8_lossy(&list).into_owned()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(String::new()),
        Err(error) => Err((Stage::User, error.raw_os_error().unwrap_or(libc::EIO))),
    }
}

/// The fields of each line.
fn entries(file: &str) -> Vec<Vec<&str>> {
    file.lines().map(|line| line.split(':').collect()).collect()
}

/// Those this process is in.
pub(crate) fn own_groups() -> Vec<libc::gid_t> {
    let groups = rustix::process::getgroups().unwrap_or_default();
    groups.into_iter().map(rustix::process::Gid::as_raw).collect()
}

/// By name, else by number.
fn find_group(known: &[Vec<&str>], name: &str) -> Option<libc::gid_t> {
    match known.iter().find(|fields| fields.len() > 2 && fields[0] == name) {
        Some(fields) => fields[2].parse().ok(),
        None => name.parse().ok(),
    }
}

/// A user, and the groups it is in.
fn find_user(text: &[u8], known: &[Vec<&str>]) -> Result<(User, Vec<libc::gid_t>), Failure> {
    let unknown = || (Stage::User, libc::ENOENT);
    let text = std::str::from_utf8(text).map_err(|_| unknown())?;
    let (name, group) = text.split_once(':').map_or((text, None), |(name, group)| (name, Some(group)));
    let passwd = list(USERS)?;
    let entry = passwd.lines().map(|line| line.split(':').collect::<Vec<_>>()).find(|fields| {
        fields.len() > 3 && (fields[0] == name || (name.parse::<u32>().is_ok() && fields[2] == name))
    });
    let (uid, own_gid, login) = match (&entry, name.parse()) {
        (Some(fields), _) => {
            let number = |text: &str| text.parse::<u32>().map_err(|_| unknown());
            (number(fields[2])?, number(fields[3])?, Some(fields[0]))
        }
        (None, Ok(uid)) => (uid, uid, None),
        (None, Err(_)) => return Err(unknown()),
    };
    let gid = match group {
        None => own_gid,
        Some(group) => find_group(known, group).ok_or_else(unknown)?,
    };
    let member = |fields: &&Vec<&str>| {
        fields.len() > 3 && login.is_some_and(|login| fields[3].split(',').any(|member| member == login))
    };
    let mut groups: Vec<u32> =
        known.iter().filter(member).filter_map(|fields| fields[2].parse().ok()).collect();
    if !groups.contains(&gid) {
        groups.push(gid);
    }
    Ok((User { uid, gid }, groups))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_is_no_text_hides_nobody_else() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("group");
        let path = path.to_str().unwrap();
        assert_eq!(list(path).unwrap(), "", "what is not there names nobody");
        std::fs::write(path, b"g\xe9nie:x:7:\nwww:x:33:jos\xe9,ann\n").unwrap();
        let file = list(path).unwrap();
        let known = entries(&file);
        assert_eq!(find_group(&known, "www"), Some(33));
        assert_eq!(find_group(&known, "7"), Some(7));
        assert!(known[1][3].split(',').any(|member| member == "ann"));
    }

    #[test]
    fn a_list_that_cannot_be_read_is_told() {
        let directory = tempfile::tempdir().unwrap();
        let error = list(directory.path().to_str().unwrap()).unwrap_err();
        assert_eq!(error, (Stage::User, libc::EISDIR));
    }
}
