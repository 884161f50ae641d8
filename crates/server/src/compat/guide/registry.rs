//! Which services there are, and the order in which they start.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::{Arc, Mutex, PoisonError};

use upbeat_model::dag::Dag;

use super::error::ServicesError;
use super::service::Service;

/// So many answers are remembered. A program asks for a few; whoever asks for more pays for each.
const RESOLUTIONS_KEPT: usize = 64;

/// Registered services, by name.
#[derive(Clone, Debug, Default)]
pub struct Registry {
    services: BTreeMap<String, Arc<Service>>,
    /// Of which something is kept that cannot be read, and why.
    unreadable: BTreeMap<String, String>,
    /// Of all names and what each depends on: two registries with the same one have the same orders.
    edges: u64,
}

impl Registry {
    /// Takes a service in, in the place of one of the same name.
    pub fn insert(&mut self, service: Service) {
        self.remove(&service.name.clone());
        self.unreadable.remove(&service.name);
        self.edges = self.edges.wrapping_add(print(&service));
        self.services.insert(service.name.clone(), Arc::new(service));
    }

    /// Forgets a service.
    pub fn remove(&mut self, name: &str) -> Option<Arc<Service>> {
        let service = self.services.remove(name)?;
        self.edges = self.edges.wrapping_sub(print(&service));
        Some(service)
    }

    /// Something is kept of a service that cannot be read, for this reason. Whoever asks for that service
    /// is told so, until one of its name is taken in.
    pub fn insert_unreadable(&mut self, name: String, why: String) {
        self.unreadable.insert(name, why);
    }

    /// Those of which something is kept that cannot be read, and why.
    pub fn unreadable(&self) -> impl Iterator<Item = (&String, &String)> {
        self.unreadable.iter()
    }

    /// All names, of those that cannot be read too.
    pub fn names(&self) -> Vec<String> {
        let all: BTreeSet<&String> = self.services.keys().chain(self.unreadable.keys()).collect();
        all.into_iter().cloned().collect()
    }

    /// Whether anything is kept of it, be it readable or not. Errors: nothing is.
    pub(super) fn known(&self, name: &str) -> Result<(), ServicesError> {
        if self.unreadable.contains_key(name) { Ok(()) } else { self.get(name).map(drop) }
    }

    /// All of them, by name.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Service>> {
        self.services.values()
    }

    /// Whether there is one of this name.
    pub fn contains(&self, name: &str) -> bool {
        self.services.contains_key(name)
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.services.len()
    }

    /// There is none.
    pub fn is_empty(&self) -> bool {
        self.services.is_empty()
    }

    /// A service. Errors: there is none of this name, or it cannot be read.
    pub fn get(&self, name: &str) -> Result<&Arc<Service>, ServicesError> {
        if let Some(why) = self.unreadable.get(name) {
            return Err(ServicesError::Unreadable { name: name.to_owned(), why: why.clone() });
        }
        self.services.get(name).ok_or_else(|| {
            let is_near = |other: &&String| other.eq_ignore_ascii_case(name) || differs_by_one(other, name);
            let near = self.services.keys().find(is_near).cloned();
            ServicesError::NotRegistered { name: name.to_owned(), near }
        })
    }

    /// These and all that need them, directly or not.
    pub fn dependents(&self, names: &[String]) -> BTreeSet<String> {
        let mut needed_by: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        for service in self.services.values() {
            for need in &service.dependencies {
                needed_by.entry(need).or_default().push(&service.name);
            }
        }
        let mut found = BTreeSet::new();
        let mut next: Vec<&str> = names.iter().map(String::as_str).collect();
        while let Some(name) = next.pop() {
            if found.insert(name.to_owned()) {
                next.extend(needed_by.get(name).into_iter().flatten());
            }
        }
        found
    }

    /// These and all they need: level by level, by name within a level.
    fn order(&self, wanted: &BTreeSet<String>) -> Result<Vec<String>, ServicesError> {
        let mut nodes: BTreeMap<String, Vec<String>> = BTreeMap::new();
        let mut next: Vec<&String> = wanted.iter().collect();
        for name in wanted {
            self.get(name)?;
        }
        while let Some(name) = next.pop() {
            // One that is not there is named by the graph, with who needs it.
            let Some(service) = self.services.get(name).filter(|_| !nodes.contains_key(name)) else {
                continue;
            };
            nodes.insert(name.clone(), service.dependencies.clone());
            next.extend(&service.dependencies);
        }
        Ok(Dag::new(nodes)?.order())
    }
}

impl FromIterator<Service> for Registry {
    fn from_iter<I: IntoIterator<Item = Service>>(services: I) -> Self {
        let mut registry = Self::default();
        services.into_iter().for_each(|service| registry.insert(service));
        registry
    }
}

fn print(service: &Service) -> u64 {
    let mut hasher = DefaultHasher::new();
    (&service.name, &service.dependencies).hash(&mut hasher);
    hasher.finish()
}

/// One letter more, less, or another one.
fn differs_by_one(a: &str, b: &str) -> bool {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let (long, short) = if a.len() >= b.len() { (a, b) } else { (b, a) };
    if long.len() - short.len() > 1 || short.len() < 2 {
        return false;
    }
    let same = long.iter().zip(&short).take_while(|(a, b)| a == b).count();
    let rest = &long[(same + 1).min(long.len())..];
    rest == &short[same..] || rest == &short[(same + 1).min(short.len())..]
}

/// How often an order was found, and how often it had to be worked out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Resolutions {
    /// It was remembered.
    pub hits: u64,
    /// It was not.
    pub misses: u64,
}

/// Works out orders, and remembers them for as long as no name and no dependency changes.
#[derive(Debug, Default)]
pub struct Resolver {
    known: Mutex<Known>,
}

#[derive(Debug, Default)]
struct Known {
    /// Of which registry.
    edges: u64,
    orders: BTreeMap<BTreeSet<String>, Arc<[String]>>,
    counts: Resolutions,
}

impl Resolver {
    /// These services and all they need, in the order in which they start: level by level, by name
    /// within a level. What could not be ordered is not remembered.
    pub fn resolve(&self, registry: &Registry, wanted: &[String]) -> Result<Arc<[String]>, ServicesError> {
        let wanted: BTreeSet<String> = wanted.iter().cloned().collect();
        {
            let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
            if known.edges != registry.edges {
                known.edges = registry.edges;
                known.orders.clear();
            }
            if let Some(order) = known.orders.get(&wanted).cloned() {
                known.counts.hits += 1;
                return Ok(order);
            }
            known.counts.misses += 1;
        }
        let order: Arc<[String]> = registry.order(&wanted)?.into();
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.edges == registry.edges {
            if known.orders.len() >= RESOLUTIONS_KEPT {
                known.orders.pop_first();
            }
            known.orders.insert(wanted, order.clone());
        }
        Ok(order)
    }

    /// How often an order was remembered.
    pub fn counts(&self) -> Resolutions {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).counts
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn registry(services: &[(&str, &[&str])]) -> Registry {
        services.iter().map(|(name, needs)| service(name, needs)).collect()
    }

    fn service(name: &str, needs: &[&str]) -> Service {
        Service {
            name: name.into(),
            description: String::new(),
            dependencies: needs.iter().map(|need| (*need).to_owned()).collect(),
            start_command: "x".into(),
            stop_command: String::new(),
            health_check_endpoint: None,
        }
    }

    fn check(services: &[(&str, &[&str])], wanted: &[&str], expected: &str) {
        let wanted: Vec<String> = wanted.iter().map(|name| (*name).to_owned()).collect();
        let found = match Resolver::default().resolve(&registry(services), &wanted) {
            Ok(order) => order.join(" "),
            Err(error) => error.to_string(),
        };
        assert_eq!(found, expected);
    }

    #[test]
    fn orders_are_level_by_level_and_errors_name_who_and_what() {
        check(&[("c", &["b"]), ("b", &["a"]), ("a", &[]), ("z", &["gone"])], &["c"], "a b c");
        check(
            &[("a", &["a"])],
            &["a"],
            "Circular dependency detected: a -> a; take one of these dependencies out",
        );
        check(
            &[("a", &["c"]), ("b", &["a"]), ("c", &["b"])],
            &["b"],
            "Circular dependency detected: a -> c -> b -> a; take one of these dependencies out",
        );
        check(
            &[("web", &["db", "cache", "x\n"]), ("db", &[])],
            &["web"],
            "Missing dependencies of `web`: `cache`, `x\\n`; register them first, or take them out of its \
             `dependencies`",
        );
        check(&[("web", &[])], &["wbe"], "service `wbe` is not registered; register it first");
        check(&[("web", &[])], &["Web"], "service `Web` is not registered; did you mean `web`?");
        check(&[("web", &[])], &["webb"], "service `webb` is not registered; did you mean `web`?");
        check(&[("web", &[])], &["wax"], "service `wax` is not registered; register it first");
        check(&[], &[], "");
    }

    #[test]
    fn an_order_is_remembered_until_a_dependency_changes_and_only_then() {
        let resolver = Resolver::default();
        let mut registry = registry(&[("a", &[]), ("b", &["a"])]);
        let wanted = ["b".to_owned()];
        let after = |registry: &Registry, hits, misses| {
            resolver.resolve(registry, &wanted).unwrap();
            assert_eq!(resolver.counts(), Resolutions { hits, misses });
        };
        after(&registry, 0, 1);
        after(&registry, 1, 1);
        registry.insert(Service { start_command: "other".into(), ..service("a", &[]) });
        after(&registry, 2, 1);
        registry.insert(service("c", &[]));
        after(&registry, 2, 2);
        registry.remove("c");
        after(&registry, 2, 3);
        registry.insert(service("b", &[]));
        after(&registry, 2, 4);
    }

    #[test]
    fn ten_thousand_in_one_chain_are_ordered() {
        let name = |n: usize| format!("s{n:05}");
        let chain = (0..10_000).map(|n| {
            let needs = if n == 0 { vec![] } else { vec![name(n - 1)] };
            Service { dependencies: needs, ..service(&name(n), &[]) }
        });
        let registry: Registry = chain.collect();
        let resolver = Resolver::default();
        let order = resolver.resolve(&registry, &[name(9_999)]).unwrap();
        assert_eq!((order.len(), &*order[0], &*order[9_999]), (10_000, "s00000", "s09999"));
        assert_eq!(registry.dependents(&[name(0)]).len(), 10_000);
        let mut circle = registry.clone();
        circle.insert(Service { dependencies: vec![name(9_999)], ..service(&name(0), &[]) });
        let error = resolver.resolve(&circle, &[name(3)]).unwrap_err().to_string();
        assert!(error.starts_with("Circular dependency detected: s00000 -> "), "{error}");
        assert!(error.contains("9981 more") && error.len() < 400, "{error}");
    }
}
