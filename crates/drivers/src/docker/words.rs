//! What engines and registries say, in words for the person who wrote the file.

use upbeat_model::AppName;
use upbeat_model::ServiceName;
use upbeat_model::plan::HostPort;
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
    if let Some(words) = not_limited(message) {
        return words;
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

/// What to do about a port that another has.
const TAKEN: &str = "publish another port, or stop what has it";

/// A container that is none of this daemon's has a port.
pub(super) fn port_held(port: &HostPort, by: &str) -> String {
    format!("port {port} is published by the container `{}`, which is not Upbeat's; {TAKEN}", tidy(by))
}

fn port_taken(message: &str) -> Option<String> {
    let remedy = TAKEN;
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
    // Whatever the system says of it, it says of the directory.
    if has(message, &["chdir to cwd"]) {
        return Some(
            "its `working_dir` cannot be entered: is it a directory that its user may enter?".to_owned(),
        );
    }
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
        return name_taken(name, None);
    }
    if let Some(words) = not_limited(message) {
        return words;
    }
    if has(message, &["no such image"]) {
        return format!("its image was removed at this moment: {}", tidy(message));
    }
    format!("the container engine cannot make it: {}", tidy(message))
}

/// What a kernel or its file system refuses of a limit, by the key that says it.
fn not_limited(message: &str) -> Option<String> {
    const REAL_TIME: &str =
        "the kernel has no scheduler of real time for groups, or has given all of its time away already";
    const STORAGE: &str = "the file system of the engine cannot limit how large a container becomes";
    const BLOCK: &str = "is the `path` that of a block device of this machine?";
    let limits: [(&[&str], &str, &str); 6] = [
        (&["cpu.rt_runtime_us"], "cpu_rt_runtime", REAL_TIME),
        (&["cpu.rt_period_us"], "cpu_rt_period", REAL_TIME),
        (&["real-time scheduler"], "cpu_rt_period` and `cpu_rt_runtime", REAL_TIME),
        (&["storage-opt"], "storage_opt", STORAGE),
        (&["storage opt"], "storage_opt", STORAGE),
        (&["blkio"], "blkio_config", BLOCK),
    ];
    // It looks at no other path by itself while it starts one.
    let is_blocks = message.starts_with("stat /");
    let found = limits.iter().find(|(parts, ..)| has(message, parts) || (is_blocks && parts == &["blkio"]));
    let (_, key, why) = found?;
    Some(format!("`{key}`: {why}; take it out here: {}", tidy(message)))
}

/// What an engine that has made a container warns of: of a limit that it leaves out, by the key that says it.
pub(super) fn warned(warning: &str) -> String {
    const LIMITS: [(&str, &str); 17] = [
        ("memory swappiness", "mem_swappiness"),
        ("memory soft limit", "mem_reservation"),
        ("swap limit", "memswap_limit"),
        ("memory limit", "mem_limit"),
        ("oomkilldisable", "oom_kill_disable"),
        ("oom kill disable", "oom_kill_disable"),
        ("pids limit", "pids_limit"),
        ("cpu shares", "cpu_shares"),
        ("cfs period", "cpu_period"),
        ("cfs quota", "cpus` or `cpu_quota"),
        ("cfs scheduler", "cpus"),
        ("cpuset", "cpuset"),
        ("weight_device", "blkio_config.weight_device"),
        ("block i/o weight", "blkio_config.weight"),
        ("bps block i/o", "blkio_config"),
        ("iops block", "blkio_config"),
        ("block i/o", "blkio_config"),
    ];
    let tidy = tidy(warning);
    let key = LIMITS.iter().find(|(part, _)| has(warning, &["your kernel does not support", part]));
    match key {
        Some((_, key)) => format!("`{key}` has no effect here: {tidy}"),
        None => tidy,
    }
}

fn disk_full() -> String {
    "the disk of the container engine is full: no space left on device; `docker system df` says what takes it"
        .to_owned()
}

/// A name of another's.
pub(super) fn name_taken(name: &str, by: Option<&AppName>) -> String {
    match by {
        Some(app) => format!(
            "the name `{name}` is that of a container of the app `{app}`; say another `container_name` in one of them"
        ),
        None => format!(
            "the name `{name}` is that of a container that is not ours; remove or rename that one, or say another `container_name`"
        ),
    }
}

/// A network whose settings have changed, while containers of others are in it.
pub(super) fn network_in_use(key: &str, name: &str, by: &[String]) -> String {
    let (users, first) = (by.join("`, `"), by.first().map_or("", String::as_str));
    format!(
        "network `{key}` (`{name}` in the engine) has other settings now and would have to be made anew, and `{users}` of somebody else uses it; take that out (`docker network disconnect {name} {first}`), or leave its settings as they were"
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
        (Some(_), _) => {
            format!("image `{image}` is not there: it is to be built first, as `upbeat up` does")
        }
        (None, PullPolicy::Never) => format!(
            "image `{image}` is not there, and `pull_policy: never` says that it is not pulled; make or load it, or say `missing`"
        ),
        _ => format!("image `{image}` is not there, though it was pulled; was it removed at this moment?"),
    }
}

/// One that others wait for to be healthy.
pub(super) fn no_check(service: &ServiceName) -> String {
    format!(
        "others wait for `{service}` to be healthy, and neither the file nor its image has a health check; give it a `healthcheck`, or let them wait for `service_started`"
    )
}

/// Why an image was not built.
pub(super) fn not_built(message: &str) -> String {
    const BUILDKIT: &str = "requires BuildKit";
    const OF_BUILDKIT: [&str; 6] =
        ["--checksum", "--exclude", "--keep-git-dir", "--link", "--parents", "--unpack"];
    if has(message, &["no space left on device"]) {
        return disk_full();
    }
    // Its flags are unknown to the classic builder: `COPY --link`, `ADD --checksum`.
    let unknown = message.split_once("Unknown flag: ").and_then(|(_, rest)| rest.split_whitespace().next());
    let unknown = unknown.map(|flag| format!("--{}", flag.trim_start_matches('-')));
    let unknown = unknown.filter(|flag| OF_BUILDKIT.contains(&flag.as_str()));
    let option = match (&unknown, message.find(BUILDKIT)) {
        (Some(flag), _) => Some(flag.as_str()),
        (None, Some(at)) => message[..at].split_whitespace().find(|word| word.starts_with("--")),
        (None, None) => return tidy(message),
    };
    format!(
        "{} needs BuildKit, and the engine's classic builder is asked; build the image before, and name it under `image`",
        option.map_or_else(|| "it".to_owned(), |option| format!("`{option}`"))
    )
}

/// Why an image was not pulled. `is_by_key`: the registry was told the key of the device document.
pub(super) fn not_pulled(image: &ImageRef, message: &str, is_by_key: bool) -> String {
    let registry = image.registry();
    let log_in = match is_by_key {
        true => "send another key for it in `keys` of the device document".to_owned(),
        false => format!("log in with `docker login {registry}`"),
    };
    let why = if has(message, &["no space left on device"]) {
        disk_full()
    } else if has(message, &["no basic auth credentials"])
        || has(message, &["unauthorized"])
        || has(message, &["authentication required"])
        || has(message, &["incorrect username or password"])
    {
        match is_by_key {
            true => format!(
                "registry {registry} refuses the key that `keys` of the device document has for it; send another one"
            ),
            false => format!("registry {registry} refuses the credentials, or wants some; {log_in}"),
        }
    } else if has(message, &["pull access denied"])
        || has(message, &["requested access to the resource is denied"])
    {
        format!(
            "registry {registry} has no such image for you: is it spelled right? If it is private, {log_in}"
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
            let told = not_pulled(&image, said, false);
            assert!(told.starts_with("image `reg.example:5000/web:v1` cannot be pulled: "), "{told}");
            assert!(told.contains(words), "{said}\n{told}");
        }
        let told = not_pulled(&image, "unauthorized: incorrect username or password", true);
        assert!(
            told.contains("registry reg.example:5000 refuses the key that `keys` of the device"),
            "{told}"
        );
        let told = not_pulled(&image, "pull access denied for web", true);
        assert!(told.ends_with("send another key for it in `keys` of the device document"), "{told}");
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
    fn a_limit_that_is_not_kept_here_is_said_by_its_key() {
        let runc = "runc create failed: unable to start container process: unable to apply cgroup configuration: failed to write \"95000\"";
        for (said, words) in [
            (
                format!(
                    "{runc}: write /sys/fs/cgroup/cpu/docker/9e/cpu.rt_runtime_us: invalid argument: unknown"
                ),
                "`cpu_rt_runtime`: the kernel has no scheduler of real time",
            ),
            (
                "--storage-opt is supported only for overlay over xfs with 'pquota' mount option".to_owned(),
                "`storage_opt`: the file system of the engine",
            ),
            (
                "write /sys/fs/cgroup/blkio/docker/9e/blkio.throttle.read_bps_device: no such device"
                    .to_owned(),
                "`blkio_config`: is the `path`",
            ),
            ("stat /dev/none: no such file or directory".to_owned(), "`blkio_config`: is the `path`"),
        ] {
            assert!(not_started(&said).starts_with(words), "{}", not_started(&said));
            assert!(not_created(&said).starts_with(words), "{}", not_created(&said));
        }
        for (said, key) in [
            (
                "Your kernel does not support Block I/O weight or the cgroup is not mounted. Weight discarded.",
                "`blkio_config.weight` has no effect here: Your kernel",
            ),
            (
                "Your kernel does not support Block I/O weight_device or the cgroup is not mounted. Weight-device discarded.",
                "`blkio_config.weight_device` has no effect",
            ),
            (
                "Your kernel does not support swap limit capabilities or the cgroup is not mounted. Memory limited without swap.",
                "`memswap_limit` has no effect",
            ),
            ("Something else of your kernel", "Something else"),
        ] {
            assert!(warned(said).starts_with(key), "{}", warned(said));
        }
    }

    #[test]
    fn a_text_of_the_engine_is_one_line_and_has_an_end() {
        assert_eq!(tidy("Error response from daemon: a\n  b: unknown"), "a b");
        let long = tidy(&"x".repeat(10_000));
        assert_eq!(long.chars().count(), SHOWN_MAX + 1);
        assert!(!tidy("a\u{1b}[31mb").contains('\u{1b}'));
    }
}
