//! The arrows of `agent/ARCHITECTURE.md` hold: no room of the agent uses another one that the block does not
//! allow, and no file lies outside the rooms.
//!
//! Every `crate::...` and `super::...` path of every source file is followed, in `use` trees, expressions and
//! macro arguments alike (the file is read as tokens, so nothing hides in a macro).

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test's helpers fail the test")]

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use proc_macro2::{TokenStream, TokenTree};

type Module = Vec<String>;

#[test]
fn no_room_uses_what_the_arrows_do_not_allow() {
    let arrows = Arrows::of_the_document();
    let mut seen = BTreeSet::new();
    let mut wrong = BTreeSet::new();
    for file in source_files(&agent().join("src")) {
        let module = module_of(&file);
        let text = std::fs::read_to_string(&file).unwrap();
        let uses = uses_of(&text, &module).with_context(|| file.display().to_string()).unwrap();
        seen.insert(arrows.room(&module).unwrap_or_else(|| panic!("{} is in no room", file.display())));
        wrong.extend(arrows.violations(&module, &uses));
    }
    assert!(wrong.is_empty(), "arrows that ARCHITECTURE.md does not allow:\n{}", join(&wrong));
    let unused: BTreeSet<_> = arrows.allowed.keys().filter(|room| !seen.contains(*room)).cloned().collect();
    assert!(unused.is_empty(), "rooms of ARCHITECTURE.md without a file:\n{}", join(&unused));
}

#[test]
fn a_forbidden_arrow_is_found_wherever_it_hides() {
    let arrows = Arrows::of_the_document();
    let module = vec!["domain".to_owned(), "pod".to_owned()];
    for text in [
        "use crate::api::pods::Pod;",
        "use crate::{domain::pod, api::{pods}};",
        "fn f() { let _ = crate::api::pods::pod_pids; }",
        "fn f() { println!(\"{}\", crate::api::VERSION); }",
        "mod inner { use super::super::super::api::pods; }",
    ] {
        let uses = uses_of(text, &module).unwrap();
        assert_eq!(arrows.violations(&module, &uses), ["domain -> api"], "{text}");
    }
    let uses = uses_of("use super::bss; use crate::domain::exit; // crate::api", &module).unwrap();
    assert_eq!(arrows.violations(&module, &uses), Vec::<String>::new());
}

/// The block of the document: room -> rooms it may use.
struct Arrows {
    allowed: BTreeMap<String, Vec<String>>,
}

impl Arrows {
    fn of_the_document() -> Self {
        let text = std::fs::read_to_string(agent().join("ARCHITECTURE.md")).unwrap();
        let block = text.split("```arrows\n").nth(1).and_then(|rest| rest.split("```").next()).unwrap();
        let allowed = block.lines().map(|line| {
            let (room, uses) = line.split_once("->").unwrap_or_else(|| panic!("no arrow in `{line}`"));
            let uses = uses.split(',').map(str::trim).filter(|name| !name.is_empty());
            (room.trim().to_owned(), uses.map(str::to_owned).collect())
        });
        Self { allowed: allowed.collect() }
    }

    /// The innermost room that holds a module.
    fn room(&self, module: &[String]) -> Option<String> {
        (1..=module.len()).rev().map(|n| module[..n].join("::")).find(|name| self.allowed.contains_key(name))
    }

    fn violations(&self, module: &[String], uses: &[Module]) -> Vec<String> {
        let Some(from) = self.room(module) else {
            return vec![format!("{} is in no room", module.join("::"))];
        };
        let allowed = &self.allowed[&from];
        uses.iter()
            .filter_map(|path| Some((path.join("::"), self.room(path)?)))
            .filter(|(_, to)| !is_within(to, &from))
            .filter(|(path, to)| !allowed.iter().any(|a| a == to || is_within(path, a)))
            .map(|(_, to)| format!("{from} -> {to}"))
            .collect()
    }
}

fn is_within(path: &str, room: &str) -> bool {
    path.strip_prefix(room).is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
}

/// Every module path that `text`, lying in `module`, names from the crate's root or from its parent.
fn uses_of(text: &str, module: &[String]) -> Result<Vec<Module>> {
    let tokens = text.parse::<TokenStream>().map_err(|error| anyhow::anyhow!("does not lex: {error}"))?;
    let mut uses = Vec::new();
    walk(tokens, module, &mut uses)?;
    Ok(uses)
}

fn walk(tokens: TokenStream, module: &[String], uses: &mut Vec<Module>) -> Result<()> {
    let tokens: Vec<_> = tokens.into_iter().collect();
    let mut at = 0;
    while at < tokens.len() {
        match &tokens[at] {
            TokenTree::Ident(word) if *word == "mod" => {
                if let (Some(TokenTree::Ident(name)), Some(TokenTree::Group(body))) =
                    (tokens.get(at + 1), tokens.get(at + 2))
                {
                    let inner = [module, &[name.to_string()]].concat();
                    walk(body.stream(), &inner, uses)?;
                    at += 3;
                    continue;
                }
            }
            TokenTree::Ident(word) if is_root(word) && is_path_sep(&tokens, at + 1) => {
                follow(&tokens, at + 3, Vec::new(), uses)?;
            }
            TokenTree::Ident(word) if *word == "super" && is_path_sep(&tokens, at + 1) => {
                ensure!(!module.is_empty(), "`super` above the crate");
                follow(&tokens, at + 3, module[..module.len() - 1].to_vec(), uses)?;
                // A chain of `super::super` is followed as one path, from its first word.
                while matches!(tokens.get(at + 3), Some(TokenTree::Ident(word)) if *word == "super") {
                    at += 3;
                }
            }
            TokenTree::Group(group) => walk(group.stream(), module, uses)?,
            _ => {}
        }
        at += 1;
    }
    Ok(())
}

/// Collects the path (or tree of paths) that begins at `at` below `base`.
fn follow(tokens: &[TokenTree], at: usize, mut base: Module, uses: &mut Vec<Module>) -> Result<()> {
    match tokens.get(at) {
        Some(TokenTree::Ident(word)) => {
            if *word == "super" {
                ensure!(base.pop().is_some(), "`super` above the crate");
            } else {
                base.push(word.to_string());
            }
            if is_path_sep(tokens, at + 1) {
                return follow(tokens, at + 3, base, uses);
            }
            uses.push(base);
        }
        Some(TokenTree::Group(group)) => {
            let items: Vec<_> = group.stream().into_iter().collect();
            for item in items.split(|token| matches!(token, TokenTree::Punct(p) if p.as_char() == ',')) {
                if !item.is_empty() {
                    follow(item, 0, base.clone(), uses)?;
                }
            }
        }
        _ => uses.push(base),
    }
    Ok(())
}

/// The library's own files say `crate`, the binary's say `sextant`.
fn is_root(word: &proc_macro2::Ident) -> bool {
    *word == "crate" || *word == "sextant"
}

fn is_path_sep(tokens: &[TokenTree], at: usize) -> bool {
    let colon = |i: usize| matches!(tokens.get(i), Some(TokenTree::Punct(p)) if p.as_char() == ':');
    colon(at) && colon(at + 1)
}

fn module_of(file: &Path) -> Module {
    let relative = file.strip_prefix(agent().join("src")).unwrap().with_extension("");
    let parts: Module = relative.iter().map(|part| part.to_string_lossy().into_owned()).collect();
    if parts == ["lib"] { vec!["main".to_owned()] } else { parts }
}

fn source_files(dir: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.extend(source_files(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    files
}

fn agent() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../agent")
}

fn join(lines: &BTreeSet<String>) -> String {
    lines.iter().map(|line| format!("  {line}\n")).collect()
}
