//! Reads the machine's apt sources for the one entry that serves its Debian release.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

/// Where this machine gets Debian from, and the keyring that vouches for it.
pub(crate) struct Mirror {
    uri: String,
    signed_by: Option<String>,
    /// The machine's release, such as `bookworm`.
    pub(crate) release: String,
}

impl Mirror {
    /// The entry of the machine's apt configuration that serves `main` of its own release.
    pub(crate) fn of_this_machine() -> Result<Self> {
        let os = fs::read_to_string("/etc/os-release").context("cannot tell which system this is")?;
        let release = os.lines().find_map(|line| line.strip_prefix("VERSION_CODENAME="));
        let release =
            release.context("/etc/os-release names no release: the virtual machine needs a Debian host")?;
        let release = release.trim_matches('"');
        let found = files(Path::new("/etc/apt")).into_iter().find_map(|path| {
            let text = fs::read_to_string(&path).ok()?;
            if path.extension().is_some_and(|extension| extension == "sources") {
                stanzas(&text, release)
            } else {
                lines(&text, release)
            }
        });
        let (uri, signed_by) = found.with_context(|| {
            format!("no entry under /etc/apt serves Debian {release} main: the packages come from this machine's own mirror")
        })?;
        Ok(Self { uri, signed_by, release: release.to_owned() })
    }

    /// The sources.list line for one suite of this mirror.
    pub(crate) fn line(&self, suite: &str) -> String {
        let options = self.signed_by.as_ref().map(|key| format!("[signed-by={key}] ")).unwrap_or_default();
        format!("deb {options}{} {suite} main", self.uri)
    }
}

fn files(etc: &Path) -> Vec<PathBuf> {
    let parts = fs::read_dir(etc.join("sources.list.d")).into_iter().flatten().flatten();
    let mut parts: Vec<_> = parts.map(|entry| entry.path()).collect();
    parts.retain(|path| path.extension().is_some_and(|name| name == "sources" || name == "list"));
    parts.sort();
    std::iter::once(etc.join("sources.list")).chain(parts).collect()
}

/// The deb822 form: stanzas of `Field: value`, separated by empty lines.
fn stanzas(text: &str, release: &str) -> Option<(String, Option<String>)> {
    text.split("\n\n").find_map(|stanza| {
        let field = |name: &str| {
            let mut fields =
                stanza.lines().filter(|line| !line.starts_with('#')).filter_map(|line| line.split_once(':'));
            fields.find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim())
        };
        let has = |name, word| field(name).is_some_and(|value| value.split_whitespace().any(|it| it == word));
        let enabled = field("Enabled").is_none_or(|value| value != "no");
        let wanted = enabled && has("Types", "deb") && has("Suites", release) && has("Components", "main");
        let uri = field("URIs")?.split_whitespace().next()?.to_owned();
        // A key may be written into the stanza itself; then apt's trusted keyrings must do.
        let key = field("Signed-By").filter(|key| key.starts_with('/')).map(str::to_owned);
        wanted.then_some((uri, key))
    })
}

/// The one-line form: `deb [options] uri suite component...`.
fn lines(text: &str, release: &str) -> Option<(String, Option<String>)> {
    text.lines().find_map(|line| {
        let rest = line.trim().strip_prefix("deb ")?.trim_start();
        let (options, rest) = match rest.strip_prefix('[') {
            Some(rest) => rest.split_once(']')?,
            None => ("", rest),
        };
        let mut words = rest.split_whitespace();
        let (uri, suite) = (words.next()?, words.next()?);
        let key = options
            .split_whitespace()
            .find_map(|option| option.strip_prefix("signed-by="))
            .map(str::to_owned);
        (suite == release && words.any(|component| component == "main")).then(|| (uri.to_owned(), key))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_give_the_entry_of_the_release_and_no_other() {
        let deb822 = "Types: deb\n# a comment: with a colon\nURIs: http://mirror.test/debian\nSuites: bookworm \
                      bookworm-updates\nComponents: main\nSigned-By: /keys/debian.gpg\n\nTypes: deb\nURIs: \
                      http://mirror.test/security\nSuites: bookworm-security\nComponents: main\n";
        let found = Some(("http://mirror.test/debian".to_owned(), Some("/keys/debian.gpg".to_owned())));
        assert_eq!(stanzas(deb822, "bookworm"), found);
        assert_eq!(stanzas(deb822, "trixie"), None);
        let list = "# deb http://commented.test bookworm main\ndeb http://other.test/apt bookworm stable\n\
                    deb [arch=amd64 signed-by=/keys/debian.gpg] http://mirror.test/debian bookworm main contrib\n";
        assert_eq!(lines(list, "bookworm"), found);
        assert_eq!(
            lines("deb http://mirror.test/debian bookworm main", "bookworm").map(|it| it.1),
            Some(None)
        );
    }

    #[test]
    fn a_disabled_stanza_is_not_used() {
        let text =
            "Types: deb\nEnabled: no\nURIs: http://mirror.test/debian\nSuites: bookworm\nComponents: main\n";
        assert_eq!(stanzas(text, "bookworm"), None);
    }
}
