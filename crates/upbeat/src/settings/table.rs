//! The one table of settings: what there is, how it is written, and what it means.

/// How a value is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// An address and a port.
    Address,
    /// `true` or `false`.
    Flag,
    /// Words; by commas in a variable.
    List,
    /// An absolute path.
    Path,
    /// Words.
    Text,
}

impl Kind {
    /// What is expected, for who wrote something else.
    pub const fn expected(self) -> &'static str {
        match self {
            Self::Address => "an address and a port in quotes, such as `\"127.0.0.1:7000\"`",
            Self::Flag => "`true` or `false`",
            Self::List => "a list of texts, such as `[\"one\", \"two\"]`",
            Self::Path => "an absolute path in quotes",
            Self::Text => "a text in quotes",
        }
    }
}

/// One setting.
#[derive(Clone, Copy, Debug)]
pub struct Setting {
    /// The table it stands in.
    pub table: &'static str,
    /// Its key there.
    pub key: &'static str,
    /// How its value is written.
    pub kind: Kind,
    /// As TOML has it; empty: nothing.
    pub default: &'static str,
    /// The flag of `upbeat serve` that says it, too.
    pub flag: Option<&'static str>,
    /// What it means.
    pub words: &'static str,
}

impl Setting {
    /// `api.listen`.
    pub fn name(&self) -> String {
        format!("{}.{}", self.table, self.key)
    }

    /// `UPBEAT_API_LISTEN`. None: it stands in files only.
    pub fn variable(&self) -> Option<String> {
        (!self.is_of_webhook())
            .then(|| format!("{}{}", variables_of(self.table), self.key.to_ascii_uppercase()))
    }

    /// Whether each webhook has one of its own.
    pub fn is_of_webhook(&self) -> bool {
        self.table == WEBHOOK
    }
}

/// How the variables of a table begin: `UPBEAT_API_`.
pub fn variables_of(table: &str) -> String {
    format!("UPBEAT_{}_", table.replace('.', "_").to_ascii_uppercase())
}

/// The table's own words, in the order of the page.
pub const TABLES: &[(&str, &str)] = &[
    ("api", "Who may speak to the daemon besides its own user; see [access.md](access.md)."),
    ("docker", "Which container engine it uses, and as whom; see [containers.md](containers.md)."),
    ("log", "What the daemon says of itself, and to whom; see [seeing.md](seeing.md)."),
    ("orchestrator.services", "What the daemon does on its own."),
    ("rollouts", "Who may speak of rollouts, and whom they ask; see [rollouts.md](rollouts.md)."),
    (
        WEBHOOK,
        "Who is told of events by requests, each under a name of its own: `[webhooks.ci]`; see \
         [webhooks.md](webhooks.md). At most 16, and in files only: a variable cannot hold a name.",
    ),
];

/// The table of webhooks, each of which is one below it.
pub const WEBHOOKS: &str = "webhooks";

/// The table of one webhook, whatever its name.
pub const WEBHOOK: &str = "webhooks.<name>";

/// All of them.
pub const SETTINGS: &[Setting] = &[
    Setting {
        table: "api",
        key: "listen",
        kind: Kind::Address,
        default: "",
        flag: Some("--listen"),
        words: "Where the API is served over TCP, besides the unix socket. Every request needs a token; \
                beyond loopback `tls_cert` and `tls_key` are needed, too",
    },
    Setting {
        table: "api",
        key: "tls_cert",
        kind: Kind::Path,
        default: "",
        flag: Some("--tls-cert"),
        words: "The certificate of this machine and those that vouch for it, PEM. It is read when the \
                daemon starts",
    },
    Setting {
        table: "api",
        key: "tls_key",
        kind: Kind::Path,
        default: "",
        flag: Some("--tls-key"),
        words: "The private key of the certificate, PEM",
    },
    Setting {
        table: "api",
        key: "allowed_hosts",
        kind: Kind::List,
        default: "[]",
        flag: None,
        words: "The names this machine is called by, besides `localhost` and the address of `listen`. A \
                request for another name is refused: a web page may have led a browser here",
    },
    Setting {
        table: "api",
        key: "socket_group",
        kind: Kind::Text,
        default: "",
        flag: None,
        words: "A group (name or number) whose members may use the daemon's unix socket as operators",
    },
    Setting {
        table: "docker",
        key: "host",
        kind: Kind::Text,
        default: "",
        flag: None,
        words: "Where the engine is: `unix:///var/run/docker.sock`, `tcp://HOST:PORT`; where it is not set, as \
                the daemon's variable `DOCKER_HOST` says, and else at its usual socket",
    },
    Setting {
        table: "docker",
        key: "config",
        kind: Kind::Path,
        default: "",
        flag: None,
        words: "The directory of Docker's own configuration, with credentials for registries; where it is not \
                set, as the daemon's variable `DOCKER_CONFIG` says, and else `~/.docker`",
    },
    Setting {
        table: "log",
        key: "format",
        kind: Kind::Text,
        default: "text",
        flag: Some("--log-format"),
        words: "How it is written: `text`, `json`, `journald`, `syslog` or `logstash`",
    },
    Setting {
        table: "log",
        key: "target",
        kind: Kind::Text,
        default: "",
        flag: Some("--log-target"),
        words: "Where it goes: `stderr`, the path of a socket, `udp://HOST:PORT` or `tcp://HOST:PORT`; where \
                it is not set, where such a log usually goes",
    },
    Setting {
        table: "orchestrator.services",
        key: "manager_enabled",
        kind: Kind::Flag,
        default: "true",
        flag: None,
        words: "Whether services may be registered with the daemon (`/api/v1/services`)",
    },
    Setting {
        table: "orchestrator.services",
        key: "auto_start_dependencies",
        kind: Kind::Flag,
        default: "true",
        flag: None,
        words: "Whether starting a registered service starts what it depends on; else that has to run",
    },
    Setting {
        table: "rollouts",
        key: "listen",
        kind: Kind::Address,
        default: "",
        flag: None,
        words: "A loopback address where `/v1/orchestrate` alone is served, without tokens, for programs that \
                know of none: whoever runs on this machine is an operator of rollouts there",
    },
    Setting {
        table: "rollouts",
        key: "callbacks",
        kind: Kind::List,
        default: "[]",
        flag: None,
        words: "Whom controllers of rollouts may be besides programs of this machine: names, `*.example.com`, \
                addresses, networks such as `10.0.0.0/8`, each with a `:port` or for all ports. Programs of this \
                machine may be where `api.listen` is not set, or is a loopback address. The same holds for \
                receivers of webhooks",
    },
    Setting {
        table: WEBHOOK,
        key: "url",
        kind: Kind::Text,
        default: "",
        flag: None,
        words: "Where events are posted to: `https://host/path`. Whoever that is has to be among \
                `rollouts.callbacks`, or this machine. It is shown without its path, which may be a secret",
    },
    Setting {
        table: WEBHOOK,
        key: "secret_file",
        kind: Kind::Path,
        default: "",
        flag: None,
        words: "The file of the secret that requests are signed with: 24 bytes at least, in one line; or two lines \
                while it is rotated. It is read for each request, and only if nobody but its owner may use it",
    },
    Setting {
        table: WEBHOOK,
        key: "events",
        kind: Kind::List,
        default: "[\"rollout\"]",
        flag: None,
        words: "Which events: kinds as `upbeat events --kind` has them, or `service` and `operation` for all of \
                these",
    },
    Setting {
        table: WEBHOOK,
        key: "apps",
        kind: Kind::List,
        default: "[]",
        flag: None,
        words: "Of events about an app, only those of these; where it is empty, of all",
    },
    Setting {
        table: WEBHOOK,
        key: "namespaces",
        kind: Kind::List,
        default: "[]",
        flag: None,
        words: "Of events about rollouts, only those in these namespaces; where it is empty, in all",
    },
];
