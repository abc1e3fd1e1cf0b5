//! `sextant key new`: a random key, shown once.

use anyhow::{Context, Result};
use rustix::rand::{GetRandomFlags, getrandom};

use crate::http::keys::{Scope, fresh};

/// The key and the lines for the configuration, in words or as JSON.
///
/// # Errors
/// A scope or a name that is none; a kernel without randomness.
pub fn fresh(name: &str, scopes: &[String], json: bool) -> Result<String> {
    let scopes: Result<Vec<Scope>, String> = scopes.iter().map(|scope| scope.parse()).collect();
    let mut scopes = scopes.map_err(anyhow::Error::msg)?;
    scopes.sort_unstable();
    scopes.dedup();
    let mut random = [0; 32];
    // Of up to 256 bytes the kernel gives all or none.
    getrandom(&mut random, GetRandomFlags::empty()).context("the kernel gives no random bytes")?;
    let (key, config) = fresh::key(random, name, scopes).map_err(anyhow::Error::msg)?;
    if json {
        let shown = serde_json::json!({
            "key": key, "name": config.name, "sha256": config.sha256, "scopes": config.scopes,
        });
        return Ok(format!("{shown}\n"));
    }
    let lines = fresh::lines(&config);
    Ok(format!(
        "The key, for its user; it is shown this once, and kept nowhere:\n\n{key}\n\nFor the configuration, or the file \
         that [keys] file names:\n\n{lines}"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_keys_are_two_and_a_scope_that_is_none_is_named_with_those_there_are() {
        let make = || {
            serde_json::from_str::<serde_json::Value>(
                &fresh("ci", &["act".into(), "act".into()], true).unwrap(),
            )
        };
        let (one, other) = (make().unwrap(), make().unwrap());
        assert_ne!(one["key"], other["key"]);
        assert_eq!(one["scopes"], serde_json::json!(["act"]));
        let error = fresh("ci", &["root".to_owned()], false).unwrap_err().to_string();
        assert!(
            error.contains("`root`") && Scope::ALL.iter().all(|scope| error.contains(scope.name())),
            "{error}"
        );
    }
}
