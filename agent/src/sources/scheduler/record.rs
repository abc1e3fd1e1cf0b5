//! The reference BSS record out of whatever variables a scheduler has.
//!
//! A field is the variable of that very name, integer, alone in its section (not a struct's member), in
//! `.bss`, else `.data`, else `.rodata`, else any other. Older schedulers keep `usersched_pid` in `.bss`, newer
//! ones in `.rodata`; none has every field.

use crate::domain::bss::{BssField, BssRecord};
use crate::domain::scheduler::{Layout, ScalarKind, Value};

/// Which variable fills each field: fixed for an epoch, worked out once.
#[derive(Clone, Debug, Default)]
pub(super) struct Fields {
    /// Index into the layout's variables, in the order of [`BssField::ALL`].
    variables: [Option<usize>; BssField::ALL.len()],
}

impl Fields {
    /// Looks the fields up; sections come in order of preference, so the first match counts.
    pub(super) fn find(layout: &Layout) -> Self {
        let index = |field: BssField| {
            layout.variables.iter().position(|variable| {
                variable.name == field.name()
                    && matches!(variable.kind, ScalarKind::Unsigned | ScalarKind::Signed)
            })
        };
        Self { variables: BssField::ALL.map(index) }
    }

    /// The record, from one sample. A negative number is no value.
    pub(super) fn record(&self, layout: &Layout, raw: &[u64]) -> BssRecord {
        let mut record = BssRecord::default();
        for (field, index) in BssField::ALL.into_iter().zip(self.variables) {
            let value = index.and_then(|at| {
                let (variable, &raw) = (layout.variables.get(at)?, raw.get(at)?);
                match variable.kind.interpret(raw, variable.size) {
                    Value::Unsigned(value) => Some(value),
                    Value::Signed(value) => u64::try_from(value).ok(),
                    Value::Bool(_) | Value::Enum(..) => None,
                }
            });
            record.set(field, value);
        }
        record
    }
}

/// Every field without a value, with the reason.
pub(super) fn absent(record: &BssRecord, why: &str) -> Vec<(BssField, String)> {
    let empty = record.iter().filter(|(_, value)| value.is_none());
    empty.map(|(field, _)| (field, why.to_owned())).collect()
}

#[cfg(test)]
mod tests;
