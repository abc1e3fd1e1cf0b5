//! An executor that writes down what it is told, fails where it is told to, and leaves nothing behind.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};

use super::{Executor, Key, Seen};
use crate::actions::journal::Begin;
use crate::actions::plan::Step;

/// Shared with the test.
#[derive(Default)]
pub(in crate::actions) struct Script {
    /// What it was told, in order.
    pub(in crate::actions) log: Vec<String>,
    /// Steps that are there.
    pub(in crate::actions) there: BTreeSet<usize>,
    /// Step that cannot be done.
    pub(in crate::actions) fails_at: Option<usize>,
    /// Undoing fails as often.
    pub(in crate::actions) undo_fails: u32,
    /// What is seen of a step.
    pub(in crate::actions) seen: BTreeMap<usize, Seen>,
}

#[derive(Clone, Default)]
pub(in crate::actions) struct Recording(pub(in crate::actions) Arc<Mutex<Script>>);

impl Executor for Recording {
    fn execute(&mut self, key: Key<'_>, _: &Step) -> Result<(), String> {
        let mut script = self.0.lock().unwrap();
        script.log.push(format!("do {}", key.step));
        if script.fails_at == Some(key.step) {
            return Err("no room".to_owned());
        }
        script.there.insert(key.step);
        Ok(())
    }

    fn look(&mut self, key: Key<'_>) -> Seen {
        self.0.lock().unwrap().seen.get(&key.step).cloned().unwrap_or_default()
    }

    fn undo(&mut self, key: Key<'_>) -> Result<(), String> {
        let mut script = self.0.lock().unwrap();
        script.log.push(format!("undo {}", key.step));
        if script.undo_fails > 0 {
            script.undo_fails -= 1;
            return Err("frozen".to_owned());
        }
        script.there.remove(&key.step);
        Ok(())
    }

    fn sweep(&mut self, leftovers: &[Begin]) -> Result<usize, String> {
        let ids: Vec<_> = leftovers.iter().map(|begin| &*begin.id).collect();
        self.0.lock().unwrap().log.push(format!("sweep {}", ids.join(" ")));
        Ok(1)
    }
}
