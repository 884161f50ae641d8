//! The guide's graphs by hand, and random graphs against an oracle that knows no algorithm of the
//! code under test: a matrix of who reaches whom, and relaxation until nothing moves.

use proptest::prelude::*;

use super::*;

/// `a: b c, b: c` → a needs b and c, b needs c. What has no colon needs nothing.
fn build(text: &str) -> Result<Dag<String>, DagError<String>> {
    Dag::new(text.split(',').map(str::trim).filter(|t| !t.is_empty()).map(|node| {
        let (key, needs) = node.split_once(':').unwrap_or((node, ""));
        (key.to_owned(), needs.split_whitespace().map(str::to_owned).collect::<Vec<_>>())
    }))
}

fn dag(text: &str) -> Dag<String> {
    build(text).unwrap()
}

const CHAIN: &str = "C: B, B: A, A";
const DIAMOND: &str = "D: B C, C: A, B: A, A";
const COMPLEX: &str = "A, B: A, C: B, D: B, E: C, F: D, G: E F";

#[test]
fn order_goes_level_by_level_then_by_name() {
    assert_eq!(dag(CHAIN).order().join(" "), "A B C");
    assert_eq!(dag(DIAMOND).order().join(" "), "A B C D");
    assert_eq!(dag(COMPLEX).order().join(" "), "A B C D E F G");
    assert_eq!(dag(COMPLEX).reverse_order().join(" "), "G F E D C B A");
    assert_eq!(dag("z, a: z, b").order().join(" "), "b z a");
}

#[test]
fn one_level_may_start_at_once() {
    let levels = |text| dag(text).levels().iter().map(|l| l.join(" ")).collect::<Vec<_>>();
    assert_eq!(levels(DIAMOND), ["A", "B C", "D"]);
    assert_eq!(levels(COMPLEX), ["A", "B", "C D", "E F", "G"]);
    assert_eq!(levels(""), Vec::<String>::new());
}

#[test]
fn a_subset_brings_all_it_needs_and_nothing_else() {
    assert_eq!(dag(CHAIN).subset(&["C".into()]).unwrap().order().join(" "), "A B C");
    let left = dag(COMPLEX).subset(&["E".into()]).unwrap();
    assert_eq!(left.order().join(" "), "A B C E");
    assert_eq!(left, dag("A, B: A, C: B, E: C"));
    let unknown = dag(CHAIN).subset(&["y".into(), "C".into(), "x".into()]).unwrap_err();
    assert_eq!(unknown.to_string(), "Not declared: x, y");
}

#[test]
fn what_rests_on_a_node_is_found_however_far() {
    assert_eq!(dag(COMPLEX).dependents_closure(&["D".into()]).unwrap().join(" "), "D F G");
    assert!(dag(COMPLEX).dependents_closure(&["x".into()]).is_err());
    let dag = dag(COMPLEX);
    assert_eq!(dag.dependents(&"B".into()).collect::<Vec<_>>(), ["C", "D"]);
    assert_eq!(dag.dependencies(&"G".into()).collect::<Vec<_>>(), ["E", "F"]);
    assert_eq!(dag.dependencies(&"x".into()).count(), 0);
}

#[test]
fn a_cycle_is_named_in_full_from_its_smallest_name() {
    let message = |text| build(text).unwrap_err().to_string();
    let start = "Circular dependency detected: a → c → b → a (take one of these dependencies out)";
    assert_eq!(message("a: c, b: a, c: b"), start);
    assert_eq!(message("aa: b, a: c, b: a, c: b, z: aa"), start, "what hangs on a cycle is not named");
    assert_eq!(
        build("b: c d, c: d, d: e, e: b"),
        Err(DagError::Cycle(["b", "d", "e", "b"].map(Into::into).into()))
    );
    assert_eq!(message("a: a, b: a"), "Circular dependency detected: a → a (nothing can depend on itself)");
}

#[test]
fn what_is_said_twice_counts_once() {
    assert_eq!(dag("b: a a, a, b: a, c: b, c: a"), dag("a, b: a, c: a b"));
}

#[test]
fn missing_names_are_all_named() {
    let missing = build("web: db web cache db, a").unwrap_err();
    assert_eq!(
        missing.to_string(),
        "Missing dependencies of web: cache, db (declare what is missing, or take it out of `depends_on`)"
    );
}

#[test]
fn the_heaviest_chain_bounds_the_start() {
    let weigh = |text: &str, heavy: &str| {
        let (path, sum) = dag(text).critical_path(|k| if k == heavy { 10 } else { 1 });
        (path.join(" "), sum)
    };
    assert_eq!(weigh(COMPLEX, "F"), ("A B D F G".into(), 14));
    assert_eq!(weigh(COMPLEX, "C"), ("A B C E G".into(), 14));
    assert_eq!(weigh(COMPLEX, "none"), ("A B C E G".into(), 5), "of equals the first by name");
    assert_eq!(weigh("", ""), (String::new(), 0));
}

#[test]
fn the_drawing_shows_each_node_once_below_what_it_needs() {
    let drawn =
        dag("db, cache: db, web: cache db, api: db, mail, all: web mail api").text(|name| match &**name {
            "mail" => String::new(),
            other => format!("[{other}]"),
        });
    let expected = "\
db                                     [db]
├─ api                                 [api]
└─ cache                               [cache]
   └─ web (also after db)              [web]
      └─ all (also after api, mail)    [all]
mail
";
    // The column is two spaces right of the longest line.
    let squeeze = |text: &str| {
        text.lines().map(|l| l.split_whitespace().collect::<Vec<_>>().join(" ")).collect::<Vec<_>>()
    };
    assert_eq!(squeeze(&drawn), squeeze(expected));
    let columns: Vec<_> =
        drawn.lines().filter_map(|l| l.split_once('[').map(|(a, _)| a.chars().count())).collect();
    assert!(columns.windows(2).all(|w| w[0] == w[1]), "{drawn}");
}

#[test]
fn a_picture_routes_long_edges_through_every_layer_and_avoids_needless_crossings() {
    // By name, every edge of the first two layers would cross every other.
    let layout = dag("a, b, c, x: c, y: b, z: a, end: x a").layout();
    let places: Vec<_> = layout.places.iter().map(|p| (p.key.as_str(), p.at.layer, p.at.place)).collect();
    let at = |key| places.iter().find(|p| p.0 == key).unwrap();
    let layer = |n| places.iter().filter(|p| p.1 == n).count();
    assert_eq!((layer(0), layer(1), layer(2)), (3, 3, 1));
    let long = layout.wires.iter().find(|w| w.from == "a" && w.to == "end").unwrap();
    assert_eq!(long.waypoints.iter().map(|p| p.layer).collect::<Vec<_>>(), [1]);
    let crossed = [("x", "c"), ("y", "b"), ("z", "a")];
    for ((upper, lower), (other_upper, other_lower)) in crossed.into_iter().zip(crossed.into_iter().skip(1)) {
        assert_eq!(at(upper).2 < at(other_upper).2, at(lower).2 < at(other_lower).2, "{layout:?}");
    }
}

/// Ten thousand in one chain, each also resting on the first: the worst for recursion, for
/// indentation and for waypoints.
#[test]
fn ten_thousand_nodes_in_one_chain_are_an_ordinary_graph() {
    const N: usize = 10_000;
    let chain = |last: Vec<usize>| {
        Dag::new((0..N).map(|n| match n {
            0 => (0, last.clone()),
            1 => (1, vec![0]),
            _ => (n, vec![n - 1, 0]),
        }))
    };
    let dag = chain(vec![]).unwrap();
    assert_eq!(dag.order(), (0..N).collect::<Vec<_>>());
    assert_eq!(dag.subset(&[N - 1]).unwrap(), dag);
    assert_eq!(dag.dependents_closure(&[0]).unwrap().len(), N);
    assert_eq!(dag.critical_path(|_| 1).1, N as u64);
    let drawn = dag.text(|_| String::new());
    assert_eq!(drawn.lines().count(), N);
    assert!(drawn.len() < N * 120, "{} bytes", drawn.len());
    let layout = dag.layout();
    assert_eq!(layout.places.len(), N);
    let waypoints: usize = layout.wires.iter().map(|wire| wire.waypoints.len()).sum();
    assert!((1..=5 * N).contains(&waypoints), "{waypoints} of fifty million");
    let Err(DagError::Cycle(path)) = chain(vec![N - 1]) else { panic!("a cycle expected") };
    assert_eq!((path[0], path.len()), (0, 3), "the shortest of many");
}

/// Up to 14 nodes; any edges, or only edges to smaller numbers, with the numbers shuffled.
fn graphs() -> impl Strategy<Value = Vec<(u8, Vec<u8>)>> {
    (1_u8..14, any::<bool>()).prop_flat_map(|(n, any_edge)| {
        let edges = proptest::collection::vec((0..n, 0..n), 0..usize::from(n) * 2);
        let names = Just((0..n).collect::<Vec<u8>>()).prop_shuffle();
        (edges, names).prop_map(move |(edges, names)| {
            let mut nodes: Vec<(u8, Vec<u8>)> = names.iter().map(|&name| (name, vec![])).collect();
            for (a, b) in edges {
                let (a, b) = if any_edge { (a, b) } else { (a.max(b), a.min(b)) };
                if a != b || any_edge {
                    nodes[usize::from(a)].1.push(names[usize::from(b)]);
                }
            }
            nodes
        })
    })
}

/// `reaches[a][b]`: b is needed by a, directly or not. Warshall's closure.
fn closure(nodes: &[(u8, Vec<u8>)]) -> [[bool; 16]; 16] {
    let mut reaches = [[false; 16]; 16];
    for (a, needs) in nodes {
        for b in needs {
            reaches[usize::from(*a)][usize::from(*b)] = true;
        }
    }
    for k in 0..16 {
        for a in 0..16 {
            for b in 0..16 {
                reaches[a][b] |= reaches[a][k] && reaches[k][b];
            }
        }
    }
    reaches
}

proptest! {
    #[test]
    fn a_graph_is_refused_exactly_when_something_reaches_itself(nodes in graphs()) {
        let reaches = closure(&nodes);
        let has_cycle = (0..16).any(|n| reaches[n][n]);
        match Dag::new(nodes.clone()) {
            Ok(_) => prop_assert!(!has_cycle),
            Err(DagError::SelfDependency(n)) => {
                prop_assert!(nodes.iter().any(|(a, needs)| *a == n && needs.contains(&n)));
            }
            Err(DagError::Cycle(path)) => {
                prop_assert!(path.len() > 2 && path.first() == path.last());
                prop_assert_eq!(path.first(), path.iter().min());
                for pair in path.windows(2) {
                    prop_assert!(nodes.iter().any(|(a, needs)| *a == pair[0] && needs.contains(&pair[1])));
                }
                let distinct: std::collections::BTreeSet<_> = path.iter().collect();
                prop_assert_eq!(distinct.len(), path.len() - 1);
            }
            Err(other) => prop_assert!(false, "{:?}", other),
        }
    }

    #[test]
    fn levels_order_and_closures_agree_with_the_oracle(nodes in graphs()) {
        let reaches = closure(&nodes);
        prop_assume!((0..16).all(|n| !reaches[n][n]));
        let dag = Dag::new(nodes.clone()).unwrap();
        // Relaxation: raise every level above its needs' until nothing moves.
        let mut level = [0_usize; 16];
        for _ in 0..16 {
            for (a, needs) in &nodes {
                for b in needs {
                    level[usize::from(*a)] = level[usize::from(*a)].max(level[usize::from(*b)] + 1);
                }
            }
        }
        let mut expected: Vec<u8> = nodes.iter().map(|(n, _)| *n).collect();
        expected.sort_by_key(|n| (level[usize::from(*n)], *n));
        prop_assert_eq!(dag.order(), expected.clone());
        prop_assert_eq!(dag.levels().concat(), expected.clone());
        for (depth, members) in dag.levels().iter().enumerate() {
            prop_assert!(members.iter().all(|n| level[usize::from(*n)] == depth));
        }
        for &n in &expected {
            let needs = |m: &u8| *m == n || reaches[usize::from(n)][usize::from(*m)];
            let rests = |m: &u8| *m == n || reaches[usize::from(*m)][usize::from(n)];
            let keep = |f: &dyn Fn(&u8) -> bool| expected.iter().copied().filter(|m| f(m)).collect::<Vec<_>>();
            prop_assert_eq!(dag.subset(&[n]).unwrap().order(), keep(&needs));
            prop_assert_eq!(dag.dependents_closure(&[n]).unwrap(), keep(&rests));
        }
        let (path, sum) = dag.critical_path(|_| 1);
        prop_assert_eq!(sum as usize, path.len());
        prop_assert_eq!(path.len(), level.iter().max().unwrap() + 1);
    }

    #[test]
    fn drawings_lose_nothing_and_put_nothing_on_one_place(nodes in graphs()) {
        let reaches = closure(&nodes);
        prop_assume!((0..16).all(|n| !reaches[n][n]));
        let dag = Dag::new(nodes.clone()).unwrap();
        let mut drawn: Vec<u8> = dag.text_lines().iter().map(|l| l.key).collect();
        drawn.sort_unstable();
        prop_assert_eq!(&drawn, dag.keys());
        let layout = dag.layout();
        let points: Vec<Point> = layout.places.iter().map(|p| p.at)
            .chain(layout.wires.iter().flat_map(|w| w.waypoints.clone())).collect();
        let distinct: std::collections::BTreeSet<_> = points.iter().collect();
        prop_assert_eq!(distinct.len(), points.len());
        prop_assert_eq!(points.len() as u32, layout.widths.iter().sum::<u32>());
        for wire in &layout.wires {
            let at = |key| layout.places.iter().find(|p| p.key == key).unwrap().at.layer;
            let stops: Vec<u32> = std::iter::once(at(wire.from))
                .chain(wire.waypoints.iter().map(|p| p.layer)).chain([at(wire.to)]).collect();
            prop_assert!(stops.windows(2).all(|w| w[1] == w[0] + 1), "{:?}", stops);
        }
    }
}
