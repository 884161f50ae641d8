//! What a daemon may not do for a project, found out before anything is changed.

use std::collections::{BTreeMap, BTreeSet};

use crate::ids::ServiceName;
use crate::project::{Hook, Service};

/// What a daemon can give to what it starts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DaemonRights {
    /// Its user.
    pub uid: u32,
    /// Its own group.
    pub gid: u32,
    /// All groups it is in.
    pub groups: BTreeSet<u32>,
    /// It can become any user, in any groups.
    pub becomes_others: bool,
    /// It can be in any group as the user it is.
    pub joins_groups: bool,
    /// How likely its processes are killed when memory is out; `None`: they may have any score.
    pub score: Option<i32>,
    /// The highest it can give, by the names of `ulimits`; -1 is none. What is not named has no bound.
    pub ulimits: BTreeMap<String, i64>,
}

/// Who is who on the daemon's machine.
pub trait Accounts {
    /// The user and its own group; `text` is as in [`Service::user`]. `None`: there is none.
    fn user(&self, text: &str) -> Option<(u32, u32)>;
    /// A group by name or number. `None`: there is none.
    fn group(&self, text: &str) -> Option<u32>;
}

/// Something of a service that the daemon cannot give.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lack {
    /// As in a file, below `services`: `web.user`, `web.pre_start[0].user`.
    pub key: String,
    /// Why, for people: `needs user 65534, and the daemon runs as user 1000`.
    pub why: String,
}

impl DaemonRights {
    /// All that is asked of it in vain, in the order of the services. Users and groups that there are not
    /// are a failure of the start, which tells them apart: here they are passed over.
    pub fn lacks<'a>(
        &self,
        services: impl IntoIterator<Item = (&'a ServiceName, &'a Service)>,
        accounts: &impl Accounts,
    ) -> Vec<Lack> {
        // What a container may, its engine gives.
        let processes = services.into_iter().filter(|(_, service)| service.container.is_none());
        processes.flat_map(|(name, service)| self.of_service(name, service, accounts)).collect()
    }

    fn of_service(&self, name: &ServiceName, service: &Service, accounts: &impl Accounts) -> Vec<Lack> {
        let mut lacks = Vec::new();
        let mut lack = |key: &str, why: Option<String>| {
            lacks.extend(why.map(|why| Lack { key: format!("{name}.{key}"), why }));
        };
        let user = |user: Option<&String>| user.and_then(|user| self.user(user, accounts));
        lack("user", user(service.user.as_ref()));
        lack("group_add", service.group_add.iter().find_map(|group| self.group(group, accounts)));
        lack("oom_score_adj", service.oom_score_adj.and_then(|score| self.lower_score(score)));
        for (limit, wanted) in &service.ulimits {
            lack(&format!("ulimits.{limit}"), self.higher_limit(limit, wanted.hard));
        }
        let hooks: [(&str, &Vec<Hook>); 4] = [
            ("pre_start", &service.pre_start),
            ("post_start", &service.post_start),
            ("pre_stop", &service.pre_stop),
            ("post_stop", &service.post_stop),
        ];
        for (key, hooks) in hooks {
            for (place, hook) in hooks.iter().enumerate() {
                lack(&format!("{key}[{place}].user"), user(hook.user.as_ref()));
            }
        }
        lacks
    }

    fn user(&self, text: &str, accounts: &impl Accounts) -> Option<String> {
        let (uid, gid) = accounts.user(text)?;
        if self.becomes_others || (uid, gid) == (self.uid, self.gid) {
            return None;
        }
        let (own_uid, own_gid) = (self.uid, self.gid);
        Some(match uid == own_uid {
            true => format!("`{text}` is in group {gid} first, and the daemon in group {own_gid}"),
            false => format!("`{text}` is user {uid}, and the daemon runs as user {own_uid}"),
        })
    }

    fn group(&self, text: &str, accounts: &impl Accounts) -> Option<String> {
        let gid = accounts.group(text)?;
        let is_in = self.joins_groups || gid == self.gid || self.groups.contains(&gid);
        (!is_in).then(|| format!("the daemon is not in group `{text}`"))
    }

    fn lower_score(&self, wanted: i32) -> Option<String> {
        // Up to 0, the kernel mostly has no objection.
        let own = self.score.filter(|own| wanted < 0 && wanted < *own)?;
        Some(format!("{wanted} is lower than the daemon's own score, which is {own}"))
    }

    fn higher_limit(&self, name: &str, wanted: i64) -> Option<String> {
        let most = *self.ulimits.get(name)?;
        let is_higher = most >= 0 && (wanted < 0 || wanted > most);
        let wanted = if wanted < 0 { "unlimited".to_owned() } else { wanted.to_string() };
        is_higher.then(|| format!("{wanted} is more than the daemon may give, which is {most}"))
    }

    /// What it can do for no project, for people: `become another user`.
    pub fn missing(&self) -> Vec<&'static str> {
        [
            (self.becomes_others, "become another user (`user`)"),
            (self.joins_groups, "join groups it is not in (`group_add`)"),
            (self.score.is_none(), "have the kernel spare a process (`oom_score_adj` below 0)"),
            // The number of open files has a bound for everybody.
            (self.ulimits.keys().all(|name| name == "nofile"), "raise limits above its own (`ulimits`)"),
        ]
        .into_iter()
        .filter(|(can, _)| !can)
        .map(|(_, what)| what)
        .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Machine;

    impl Accounts for Machine {
        fn user(&self, text: &str) -> Option<(u32, u32)> {
            match text {
                "alice" | "1000" | "1000:100" => Some((1000, 100)),
                "alice:audio" => Some((1000, 29)),
                "root" => Some((0, 0)),
                _ => None,
            }
        }
        fn group(&self, text: &str) -> Option<u32> {
            match text {
                "users" => Some(100),
                "audio" => Some(29),
                "video" => Some(44),
                _ => None,
            }
        }
    }

    /// Alice, who is in `users` and `audio`.
    fn alice() -> DaemonRights {
        DaemonRights {
            uid: 1000,
            gid: 100,
            groups: [29].into(),
            becomes_others: false,
            joins_groups: false,
            score: Some(0),
            ulimits: [("nofile", 4096), ("core", -1), ("nproc", 10)]
                .map(|(name, most)| (name.to_owned(), most))
                .into(),
        }
    }

    fn root() -> DaemonRights {
        let ulimits = [("nofile".to_owned(), 1 << 20)].into();
        let (becomes_others, joins_groups) = (true, true);
        DaemonRights { uid: 0, gid: 0, becomes_others, joins_groups, score: None, ulimits, ..alice() }
    }

    /// What is lacking for a service with this; its key and why.
    fn lacks(rights: &DaemonRights, of: serde_json::Value) -> Vec<String> {
        let mut service = serde_json::json!({ "command": ["x"], "working_dir": "/" });
        let (serde_json::Value::Object(service_of), serde_json::Value::Object(of)) = (&mut service, of)
        else {
            panic!("these are objects");
        };
        service_of.extend(of);
        let service: Service = serde_json::from_value(service).unwrap();
        let name = ServiceName::new("web").unwrap();
        let lacks = rights.lacks([(&name, &service)], &Machine);
        lacks.into_iter().map(|Lack { key, why }| format!("{key}: {why}")).collect()
    }

    #[test]
    fn what_a_daemon_cannot_give_is_known_by_its_key() {
        for (service, expected) in [
            (serde_json::json!({}), vec![]),
            (
                serde_json::json!({ "user": "root" }),
                vec!["web.user: `root` is user 0, and the daemon runs as user 1000"],
            ),
            (
                serde_json::json!({ "user": "alice:audio" }),
                vec!["web.user: `alice:audio` is in group 29 first, and the daemon in group 100"],
            ),
            (serde_json::json!({ "user": "1000" }), vec![]),
            (serde_json::json!({ "user": "nobody-knows" }), vec![]),
            (serde_json::json!({ "group_add": ["users", "audio", "nobody-knows"] }), vec![]),
            (
                serde_json::json!({ "group_add": ["audio", "video"] }),
                vec!["web.group_add: the daemon is not in group `video`"],
            ),
            (
                serde_json::json!({ "oom_score_adj": -1 }),
                vec!["web.oom_score_adj: -1 is lower than the daemon's own score, which is 0"],
            ),
            (serde_json::json!({ "oom_score_adj": 0 }), vec![]),
            (
                serde_json::json!({ "ulimits": { "nofile": { "soft": 1, "hard": 4097 }, "core": { "soft": 0, "hard": -1 } } }),
                vec!["web.ulimits.nofile: 4097 is more than the daemon may give, which is 4096"],
            ),
            (
                serde_json::json!({ "ulimits": { "nproc": { "soft": 1, "hard": -1 } } }),
                vec!["web.ulimits.nproc: unlimited is more than the daemon may give, which is 10"],
            ),
            (serde_json::json!({ "ulimits": { "nofile": { "soft": 4096, "hard": 4096 } } }), vec![]),
            (
                serde_json::json!({ "post_stop": [{ "command": ["x"] }, { "command": ["x"], "user": "root" }] }),
                vec!["web.post_stop[1].user: `root` is user 0, and the daemon runs as user 1000"],
            ),
        ] {
            assert_eq!(lacks(&alice(), service.clone()), expected, "{service}");
        }
    }

    #[test]
    fn a_daemon_of_root_lacks_what_the_kernel_gives_nobody() {
        let all = serde_json::json!({
            "user": "alice", "group_add": ["video"], "oom_score_adj": -1000,
            "ulimits": { "nofile": { "soft": 1, "hard": -1 }, "nproc": { "soft": 1, "hard": -1 } },
        });
        let expected = ["web.ulimits.nofile: unlimited is more than the daemon may give, which is 1048576"];
        assert_eq!(lacks(&root(), all), expected);
    }

    #[test]
    fn a_score_down_to_the_daemons_own_is_given() {
        let protected = DaemonRights { score: Some(-500), ..alice() };
        assert_eq!(lacks(&protected, serde_json::json!({ "oom_score_adj": -500 })), Vec::<String>::new());
        assert_eq!(lacks(&protected, serde_json::json!({ "oom_score_adj": -501 })).len(), 1);
        let sacrificed = DaemonRights { score: Some(300), ..alice() };
        assert_eq!(lacks(&sacrificed, serde_json::json!({ "oom_score_adj": 0 })), Vec::<String>::new());
    }

    #[test]
    fn what_is_missing_is_said_where_something_is() {
        assert_eq!(root().missing(), Vec::<&str>::new());
        assert_eq!(alice().missing().len(), 4);
        let user = DaemonRights { becomes_others: false, ..root() };
        assert_eq!(user.missing(), ["become another user (`user`)"]);
    }
}
