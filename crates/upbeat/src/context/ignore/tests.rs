//! The rules against what Docker's documentation says of them, and against any text.

use proptest::prelude::*;

use super::*;

fn left_out(rules: &str, paths: &[&str]) -> Vec<bool> {
    let ignore = Ignore::parse(rules).unwrap();
    paths.iter().map(|path| ignore.leaves_out(path)).collect()
}

#[track_caller]
fn check(rules: &str, out: &[&str], kept: &[&str]) {
    assert_eq!(left_out(rules, out), vec![true; out.len()], "{rules:?} leaves out {out:?}");
    assert_eq!(left_out(rules, kept), vec![false; kept.len()], "{rules:?} keeps {kept:?}");
}

#[test]
fn rules_are_those_of_docker_s_documentation() {
    // The example of the page.
    check(
        "# comment\n*/temp*\n*/*/temp*\ntemp?\n",
        &["somedir/temporary.txt", "somedir/temp", "somedir/subdir/temporary.txt", "tempa", "tempb"],
        &["temp", "tempab", "a/b/c/temp", "comment"],
    );
    check("/foo/bar", &["foo/bar", "foo/bar/x"], &["foo", "a/foo/bar"]);
    check("foo/bar", &["foo/bar"], &["foo", "a/foo/bar"]);
    check("**/*.go", &["a.go", "d/a.go", "d/e/a.go"], &["a.gox", "go"]);
    check("*.md\n!README.md", &["a.md"], &["README.md", "d/a.md"]);
    check(
        "*.md\n!README*.md\nREADME-secret.md",
        &["a.md", "README-secret.md"],
        &["README.md", "README-x.md"],
    );
    check("*.md\nREADME-secret.md\n!README*.md", &["a.md"], &["README-secret.md", "README.md"]);
    // A directory is all that is below it, and something of it can be taken back.
    check("node_modules", &["node_modules", "node_modules/a/b"], &["d/node_modules"]);
    check("**/node_modules", &["node_modules", "d/node_modules/a"], &["node_modules2"]);
    check("d\n!d/keep", &["d", "d/x", "d/e/keep"], &["d/keep", "d/keep/all"]);
    check("*\n!src\n", &["a", "b/c", ".git/config"], &["src", "src/a/b"]);
    check("**\n!**/*.rs", &["a", "d/e"], &["a.rs", "d/e/f.rs"]);
}

#[test]
fn patterns_have_wildcards_classes_and_ways_that_lead_nowhere() {
    check("a/**/z", &["a/z", "a/b/z", "a/b/c/z"], &["az", "a/bz", "b/z"]);
    check("a/**", &["a/b", "a/b/c"], &["a", "b"]);
    check("**a", &["a", "d/a"], &["ba"]);
    check("[a-c]?[^0-9]", &["axz", "b1_"], &["dxz", "ax1", "a/z"]);
    check("[\\]\\-a]", &["]", "-", "a"], &["b"]);
    check("\\*\\[x", &["*[x"], &["ab[x", "x"]);
    check("a.b+(c)|{d}$", &["a.b+(c)|{d}$"], &["aXb+(c)|{d}$", "a.bb"]);
    check("./a/../b/", &["b", "b/c"], &["a", "a/b"]);
    check("/../x", &["x"], &["../x"]);
    check("  spaced  \r\n\t\n#x\n ! spaced/in ", &["spaced", "spaced/x"], &["spaced/in", "#x"]);
    check(" #x", &["#x"], &[]);
    check("\u{feff}a", &["a"], &[]);
    check("größe-?", &["größe-ß"], &["größe-ab"]);
    check(".\n/\n", &[], &["a", "."]);
    check("", &[], &["a"]);
    check("a*", &["a\nb"], &[]);
}

#[test]
fn what_is_no_rule_says_its_line() {
    for (text, line, words) in [
        ("a\n!\n", 2, "takes nothing back"),
        ("a\n\n[a", 3, "without its `]`"),
        ("[]", 1, "nothing in it"),
        ("a\\", 1, "ends in a `\\`"),
        ("[-a]", 1, "first letter"),
        ("[z-a]", 1, "no pattern"),
    ] {
        let NoRule { line: at, why } = Ignore::parse(text).unwrap_err();
        assert!(at == line && why.contains(words), "{text:?}: {at} {why}");
    }
}

#[test]
fn a_directory_is_looked_into_only_where_something_of_it_may_be_taken_back() {
    let ignore = Ignore::parse("*\n!a/b\n!cc/d\n!e\n").unwrap();
    for (directory, may) in [
        ("a", true),
        ("a/b", false),
        ("a/x", false),
        ("cc", true),
        ("x", false),
        ("e", false),
        ("c/d", false),
    ] {
        assert_eq!(ignore.may_keep_below(directory), may, "{directory}");
    }
    // Where in doubt, yes.
    assert!(Ignore::parse("*\n!c*/d").unwrap().may_keep_below("x"));
    assert!(!Ignore::parse("*").unwrap().may_keep_below("a"));
    assert!(Ignore::parse("*\n!**/x").unwrap().may_keep_below("a/b/c"));
}

/// Letters that rules are made of, and some others.
const LETTERS: &str = "[ab./*?!#\\[\\]^\\\\\\- ü\n]{0,24}";

proptest! {
    /// Nothing that is taken back is below a directory that is not looked into.
    #[test]
    fn what_is_kept_is_found(rules in LETTERS, path in "[abü]{1,2}(/[abü]{1,2}){0,3}") {
        if let Ok(ignore) = Ignore::parse(&rules)
            && !ignore.leaves_out(&path)
        {
            for (at, _) in path.match_indices('/') {
                let directory = &path[..at];
                prop_assert!(
                    !ignore.leaves_out(directory) || ignore.may_keep_below(directory),
                    "{rules:?} keeps {path}, and {directory} is not looked into"
                );
            }
        }
    }

    /// A name that stands as a rule leaves out itself and all below it, and nothing beside it.
    #[test]
    fn a_plain_name_is_itself(name in "[a-zäöü0-9_.+(){}|$-]{1,8}", other in "[a-z]{1,8}") {
        prop_assume!(!["." , ".."].contains(&name.as_str()));
        let ignore = Ignore::parse(&name).unwrap();
        prop_assert!(ignore.leaves_out(&name));
        let below = [name.as_str(), "/", &other].concat();
        prop_assert!(ignore.leaves_out(&below));
        prop_assert_eq!(ignore.leaves_out(&other), other == name);
        let taken_back = Ignore::parse(&[name.as_str(), "\n!", &below].concat()).unwrap();
        prop_assert!(!taken_back.leaves_out(&below));
    }
}
