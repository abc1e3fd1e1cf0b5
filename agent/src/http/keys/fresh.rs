//! A new key: shown once, and never kept.

use super::{KeyConfig, Scope};

/// So that a key which lies where it should not is found by those who look for keys.
const PREFIX: &str = "sextant_";

/// From 256 random bits: the key, and what the configuration has of it.
///
/// # Errors
/// A name that is none, no scope at all.
pub fn key(random: [u8; 32], name: &str, scopes: Vec<Scope>) -> Result<(String, KeyConfig), String> {
    let random: String = random.iter().map(|byte| format!("{byte:02x}")).collect();
    let key = format!("{PREFIX}{random}");
    let config = KeyConfig::of(&key, name, scopes);
    super::Config { key: vec![config.clone()], ..super::Config::default() }.check()?;
    Ok((key, config))
}

/// The lines for the configuration.
pub fn lines(key: &KeyConfig) -> String {
    let scopes: Vec<_> = key.scopes.iter().map(|scope| format!("{:?}", scope.name())).collect();
    let (name, sha256, scopes) = (&key.name, &key.sha256, scopes.join(", "));
    format!("[[keys.key]]\nname = \"{name}\"\nsha256 = \"{sha256}\"\nscopes = [{scopes}]\n")
}
