//! What engines and registries say, in words for the person who wrote the file.

use upbeat_model::project::Container;
use upbeat_model::project::container::ImageRef;

/// Of a text of the engine's, what is shown.
const SHOWN_MAX: usize = 600;

/// On one line, without what only an engine's maker needs, and not without end.
pub(super) fn tidy(message: &str) -> String {
    let one_line = message.split_whitespace().collect::<Vec<_>>().join(" ");
    let bare = ["Error response from daemon: ", "Error: "]
        .iter()
        .fold(one_line.as_str(), |text, noise| text.strip_prefix(noise).unwrap_or(text));
    let bare = bare.trim_end_matches(": unknown");
    if bare.is_empty() {
        return "it did not say why".to_owned();
    }
    let mut shown: String = bare.chars().filter(|c| !c.is_control()).take(SHOWN_MAX).collect();
    if bare.chars().nth(SHOWN_MAX).is_some() {
        shown.push('…');
    }
    shown
}

fn has(message: &str, all: &[&str]) -> bool {
    let message = message.to_lowercase();
    all.iter().all(|part| message.contains(part))
}

/// The text between two others.
fn between<'a>(text: &'a str, before: &str, after: &str) -> Option<&'a str> {
    let (_, rest) = text.split_once(before)?;
    let (found, _) = rest.split_once(after)?;
    (!found.is_empty()).then_some(found)
}

/// The container that was asked for is not there.
pub(super) fn is_no_container(message: &str) -> bool {
    has(message, &["no such container"])
}

/// It says something of the engine, and nothing of the container.
pub(super) fn is_of_the_engine(message: &str) -> bool {
    ["containerd.sock", "shutting down", "context deadline exceeded", "connection refused", "context canceled"]
        .iter()
        .any(|part| has(message, &[part]))
        // A registry speaks of connections too, and so do drivers of volumes.
        && !has(message, &["registry"])
        && !has(message, &["/v2/"])
}

/// Why a container was not started.
pub(super) fn not_started(message: &str) -> String {
    if let Some(words) = port_taken(message) {
        return words;
    }
    if has(message, &["no space left on device"]) {
        return disk_full();
    }
    if let Some(words) = not_executed(message) {
        return words;
    }
    if has(message, &["error mounting"]) || has(message, &["not a directory", "mount"]) {
        let source = between(message, "error mounting \\\"", "\\\"")
            .or_else(|| between(message, "error mounting \"", "\""));
        let target = between(message, "to rootfs at \\\"", "\\\"")
            .or_else(|| between(message, "to rootfs at \"", "\""));
        if let (Some(source), Some(target)) = (source, target) {
            let hint = match has(message, &["not a directory"]) {
                true => "one of them is a file and the other a directory",
                false => "look whether both are there",
            };
            return format!("`{source}` cannot be mounted at `{target}`: {hint}");
        }
    }
    if has(message, &["network", "not found"]) || has(message, &["could not find a network"]) {
        return format!("a network of it is not there any more: {}", tidy(message));
    }
    format!("the container engine cannot start it: {}", tidy(message))
}

/// As engines from 28 on name it: `for 0.0.0.0:80:172.17.0.2:80/tcp`, or `0.0.0.0:80/tcp`.
fn host_port(message: &str) -> Option<&str> {
    let (_, rest) = message.split_once("failed to bind host port ")?;
    let rest = rest.strip_prefix("for ").unwrap_or(rest);
    let host = if rest.starts_with('[') { rest.find(']')? } else { 0 };
    let colon = host + rest[host..].find(':')?;
    let digits = rest[colon + 1..].bytes().take_while(u8::is_ascii_digit).count();
    Some(&rest[..colon + 1 + digits])
}

fn port_taken(message: &str) -> Option<String> {
    let remedy = "publish another port, or stop what has it";
    if let Some(place) = between(message, "Bind for ", " failed: port is already allocated") {
        return Some(format!("port {place} is published by another container; {remedy}"));
    }
    if has(message, &["address already in use"]) {
        let place = between(message, "listen tcp4 ", ": bind")
            .or_else(|| between(message, "listen tcp6 ", ": bind"))
            .or_else(|| between(message, "listen tcp ", ": bind"))
            .or_else(|| between(message, "listen udp4 ", ": bind"))
            .or_else(|| between(message, "listen udp ", ": bind"))
            .or_else(|| host_port(message));
        let place = place.map_or_else(|| "a port it publishes".to_owned(), |place| format!("port {place}"));
        return Some(format!("{place} is used by another program of this machine; {remedy}"));
    }
    if has(message, &["cannot assign requested address"]) {
        return Some(
            "an address it publishes a port at is none of this machine; look at `host_ip` in `ports`"
                .to_owned(),
        );
    }
    None
}

pub(super) fn not_executed(message: &str) -> Option<String> {
    let program = between(message, "exec: \\\"", "\\\"").or_else(|| between(message, "exec: \"", "\""));
    let program = program.unwrap_or("its program");
    if has(message, &["executable file not found"]) {
        return Some(format!("cannot run `{program}`: no such program in the PATH of the image"));
    }
    let is_executing = has(message, &["exec"]) || has(message, &["container_linux.go"]);
    if is_executing && has(message, &["permission denied"]) {
        return Some(format!(
            "cannot run `{program}`: it may not be executed; is it a program (`chmod +x`)?"
        ));
    }
    if is_executing && has(message, &["exec format error"]) {
        return Some(format!("cannot run `{program}`: it is for another machine, or a script without `#!`"));
    }
    if is_executing && has(message, &["no such file or directory"]) && !has(message, &["mount"]) {
        return Some(format!(
            "cannot run `{program}`: no such file in the image, or what it needs to run (its interpreter) is not there"
        ));
    }
    if has(message, &["unable to find user"]) {
        let user = between(message, "unable to find user ", ":").unwrap_or_default();
        return Some(format!("there is no user `{user}` in the image"));
    }
    if has(message, &["chdir to cwd"]) {
        return Some(
            "its `working_dir` cannot be entered: is it a directory that its user may enter?".to_owned(),
        );
    }
    None
}

/// Why a container was not made.
pub(super) fn not_created(message: &str) -> String {
    if has(message, &["no space left on device"]) {
        return disk_full();
    }
    if has(message, &["bind source path does not exist"]) {
        let path = message.rsplit(": ").next().unwrap_or_default().trim();
        return format!(
            "`{path}` is to be mounted and is not there; make it, or say `create_host_path: true`"
        );
    }
    if let Some(name) = between(message, "The container name \"/", "\"") {
        return name_taken(name);
    }
    if has(message, &["no such image"]) {
        return format!("its image was removed at this moment: {}", tidy(message));
    }
    format!("the container engine cannot make it: {}", tidy(message))
}

fn disk_full() -> String {
    "the disk of the container engine is full: no space left on device; `docker system df` says what takes it"
        .to_owned()
}

/// A name of another's.
pub(super) fn name_taken(name: &str) -> String {
    format!(
        "the name `{name}` is that of a container that is not ours; remove or rename that one, or say another `container_name`"
    )
}

/// What is to be there by another hand.
pub(super) fn no_external(what: &str, key: &str, name: &str) -> String {
    format!(
        "{what} `{key}` is `external` and there is none called `{name}` in the engine; make it (`docker {what} create {name}`), or leave `external` out"
    )
}

/// A network that somebody else made.
pub(super) fn network_of_another(key: &str, name: &str) -> String {
    format!(
        "network `{key}`: there is a network `{name}` in the engine that is not of this app; say `external: true` to use it, or another `name`"
    )
}

/// A volume that somebody else made is used.
pub(super) fn volume_of_another(key: &str, name: &str) -> String {
    format!(
        "volume `{key}`: `{name}` was there already and is not of this app; it is used as it is (`external: true` says that this is meant)"
    )
}

/// A volume that the file would make otherwise now.
pub(super) fn volume_of_another_digest(key: &str, name: &str) -> String {
    format!(
        "volume `{key}`: `{name}` was made otherwise than the file says now, and is used as it is, as it may hold data; remove it to have it made anew"
    )
}

/// Why a network was not made.
pub(super) fn network_not_made(key: &str, name: &str, message: &str) -> String {
    let why = match message {
        said if has(said, &["pool overlaps"]) => {
            "its subnet overlaps with that of another network; say another `subnet`".to_owned()
        }
        said if has(said, &["predefined address pools"]) || has(said, &["non-overlapping"]) => {
            "the engine has no subnet left; remove networks that nobody uses (`docker network prune`), or say a `subnet`"
                .to_owned()
        }
        said => tidy(said),
    };
    format!("network `{key}` (`{name}` in the engine) cannot be made: {why}")
}

/// An image that has to be there.
pub(super) fn no_image(wanted: &Container) -> String {
    use upbeat_model::project::container::PullPolicy;
    let image = &wanted.image;
    match (&wanted.build, wanted.pull_policy) {
        (Some(_), _) => format!("image `{image}` is not there: it is to be built first"),
        (None, PullPolicy::Never) => format!(
            "image `{image}` is not there, and `pull_policy: never` says that it is not pulled; make or load it, or say `missing`"
        ),
        _ => format!("image `{image}` is not there, though it was pulled; was it removed at this moment?"),
    }
}

/// Why an image was not pulled.
pub(super) fn not_pulled(image: &ImageRef, message: &str) -> String {
    let registry = image.registry();
    let why = if has(message, &["no space left on device"]) {
        disk_full()
    } else if has(message, &["no basic auth credentials"])
        || has(message, &["unauthorized"])
        || has(message, &["authentication required"])
        || has(message, &["incorrect username or password"])
    {
        format!(
            "registry {registry} refuses the credentials, or wants some; log in with `docker login {registry}`"
        )
    } else if has(message, &["pull access denied"])
        || has(message, &["requested access to the resource is denied"])
    {
        format!(
            "registry {registry} has no such image for you: is it spelled right? If it is private, log in with `docker login {registry}`"
        )
    } else if has(message, &["no matching manifest"]) {
        "there is none for this platform; say another `platform`, or another tag".to_owned()
    } else if has(message, &["manifest unknown"]) || has(message, &["manifest for", "not found"]) {
        format!("registry {registry} has no such tag or digest")
    } else if has(message, &["name unknown"]) || has(message, &["repository", "not found"]) {
        format!("registry {registry} has no image of this name")
    } else if has(message, &["toomanyrequests"]) {
        format!("registry {registry} has had too many requests; wait, or log in")
    } else if has(message, &["http response to https client"]) {
        format!(
            "registry {registry} does not speak TLS; name it in `insecure-registries` of the engine if that is meant"
        )
    } else if has(message, &["x509:"]) {
        format!("the certificate of registry {registry} is not trusted: {}", tidy(message))
    } else if [
        "connection refused",
        "no such host",
        "i/o timeout",
        "no route to host",
        "server misbehaving",
        "eof",
    ]
    .iter()
    .any(|part| has(message, &[part]))
    {
        format!("registry {registry} cannot be reached: {}", tidy(message))
    } else {
        tidy(message)
    };
    format!("image `{image}` cannot be pulled: {why}")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Texts of engines 20.10 to 28.
    #[test]
    fn why_a_container_does_not_start_is_said_with_what_to_do() {
        let driver = "driver failed programming external connectivity on endpoint web (b1f0)";
        let runc = "failed to create shim task: OCI runtime create failed: runc create failed: unable to start container process";
        for (said, words) in [
            (
                format!("{driver}: Bind for 0.0.0.0:8080 failed: port is already allocated"),
                "port 0.0.0.0:8080 is published by another container",
            ),
            (
                format!(
                    "{driver}: Error starting userland proxy: listen tcp4 127.0.0.1:80: bind: address already in use"
                ),
                "port 127.0.0.1:80 is used by another program",
            ),
            (
                format!(
                    "{driver}: failed to bind host port for 0.0.0.0:80:172.17.0.2:8080/tcp: address already in use"
                ),
                "port 0.0.0.0:80 is used by another program",
            ),
            (
                format!("{driver}: failed to bind host port [::1]:80/tcp: address already in use"),
                "port [::1]:80 is used",
            ),
            (
                format!("{driver}: listen tcp4 10.9.9.9:80: bind: cannot assign requested address"),
                "look at `host_ip`",
            ),
            (
                format!("{runc}: exec: \"serve\": executable file not found in $PATH: unknown"),
                "cannot run `serve`: no such program",
            ),
            (
                format!("{runc}: exec: \"/x\": permission denied: unknown"),
                "cannot run `/x`: it may not be executed",
            ),
            (
                format!("{runc}: exec: \"/x\": exec format error: unknown"),
                "cannot run `/x`: it is for another machine",
            ),
            (
                format!("{runc}: chdir to cwd (\"/srv\") set in config.json failed: permission denied"),
                "`working_dir` cannot be entered",
            ),
            ("unable to find user ali: no matching entries in passwd file".to_owned(), "no user `ali`"),
            (
                format!(
                    "{runc}: error during container init: error mounting \"/a\" to rootfs at \"/b\": mount /a:/b: not a directory: unknown"
                ),
                "`/a` cannot be mounted at `/b`: one of them is a file",
            ),
            (
                "mkdir /var/lib/docker/overlay2/x: no space left on device".to_owned(),
                "the disk of the container engine is full",
            ),
            ("network shop_front not found".to_owned(), "a network of it is not there any more"),
            ("something new: unknown".to_owned(), "the container engine cannot start it: something new"),
            (String::new(), "it did not say why"),
        ] {
            let told = not_started(&said);
            assert!(told.contains(words), "{said}\n{told}");
        }
    }

    #[test]
    fn why_an_image_is_not_pulled_is_said_with_what_to_do() {
        let image = ImageRef::parse("reg.example:5000/web:v1").unwrap();
        for (said, words) in [
            (
                "manifest for reg.example:5000/web:v1 not found: manifest unknown: manifest unknown",
                "has no such tag or digest",
            ),
            (
                "Get \"https://reg.example:5000/v2/web/manifests/v1\": no basic auth credentials",
                "docker login reg.example:5000",
            ),
            ("unauthorized: incorrect username or password", "refuses the credentials"),
            (
                "pull access denied for web, repository does not exist or may require 'docker login': denied: requested access to the resource is denied",
                "has no such image for you",
            ),
            (
                "no matching manifest for linux/arm64/v8 in the manifest list entries",
                "none for this platform",
            ),
            ("toomanyrequests: You have reached your pull rate limit.", "too many requests"),
            (
                "Get \"https://reg.example:5000/v2/\": http: server gave HTTP response to HTTPS client",
                "insecure-registries",
            ),
            (
                "Get \"https://reg.example:5000/v2/\": x509: certificate signed by unknown authority",
                "is not trusted",
            ),
            (
                "Get \"https://reg.example:5000/v2/\": dial tcp: lookup reg.example: no such host",
                "cannot be reached",
            ),
            (
                "write /var/lib/docker/tmp/GetImageBlob1: no space left on device",
                "disk of the container engine is full",
            ),
            ("name unknown: repository name not known to registry", "no image of this name"),
        ] {
            let told = not_pulled(&image, said);
            assert!(told.starts_with("image `reg.example:5000/web:v1` cannot be pulled: "), "{told}");
            assert!(told.contains(words), "{said}\n{told}");
        }
    }

    #[test]
    fn what_says_something_of_the_engine_says_nothing_of_the_container() {
        let containerd = "connection error: desc = \"transport: error while dialing: dial unix:///run/containerd/containerd.sock: connect: connection refused\": unavailable";
        assert!(is_of_the_engine(containerd) && is_of_the_engine("context canceled"));
        assert!(!is_of_the_engine("Bind for 0.0.0.0:80 failed: port is already allocated"));
        assert!(is_no_container("No such container: 5f"));
    }

    #[test]
    fn networks_and_what_is_not_made_say_what_to_do() {
        let pool =
            network_not_made("front", "shop_front", "Pool overlaps with other one on this address space");
        assert!(pool.contains("say another `subnet`"), "{pool}");
        let none = "could not find an available, non-overlapping IPv4 address pool among the defaults to assign to the network";
        assert!(network_not_made("front", "x", none).contains("docker network prune"));
        let source = "invalid mount config for type \"bind\": bind source path does not exist: /srv/x";
        assert!(not_created(source).starts_with("`/srv/x` is to be mounted and is not there"));
    }

    #[test]
    fn a_text_of_the_engine_is_one_line_and_has_an_end() {
        assert_eq!(tidy("Error response from daemon: a\n  b: unknown"), "a b");
        let long = tidy(&"x".repeat(10_000));
        assert_eq!(long.chars().count(), SHOWN_MAX + 1);
        assert!(!tidy("a\u{1b}[31mb").contains('\u{1b}'));
    }
}
