//! Aligned text for a person's terminal: tables and cells.
//!
//! Names of schedulers, pods and processes come from outside: control characters in them are shown as `?`, so
//! that no pod can write escape sequences to an operator's terminal. Columns are cut, never wrapped.

use std::collections::BTreeMap;
use std::fmt::Write as _;

/// Longest text in a column; a Kubernetes name may have 253 characters.
pub const MAX_CELL: usize = 48;
/// Longest free text (what a source lacks, an error).
pub const MAX_SENTENCE: usize = 200;

/// Appends a line without trailing blanks.
pub fn line(out: &mut String, text: &str) {
    out.push_str(text.trim_end_matches(' '));
    out.push('\n');
}

/// Pads every column to its widest cell; nothing for a table without rows.
pub fn table(out: &mut String, columns: &[&str], right: &[bool], rows: Vec<Vec<String>>) {
    if rows.is_empty() {
        return;
    }
    let head = columns.iter().map(|&column| column.to_owned()).collect();
    let rows: Vec<Vec<String>> = std::iter::once(head).chain(rows).collect();
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<_> = (0..columns.len()).map(width).collect();
    for row in &rows {
        let mut text = String::from("  ");
        for ((cell, &width), &right) in row.iter().zip(&widths).zip(right) {
            // Writing to a String does not fail.
            let _ = if right { write!(text, "{cell:>width$}  ") } else { write!(text, "{cell:<width$}  ") };
        }
        line(out, &text);
    }
}

/// Without control characters, at most `max` characters.
pub fn clean(text: &str, max: usize) -> String {
    let visible = |c: char| if c.is_control() { '?' } else { c };
    if text.chars().count() <= max {
        return text.chars().map(visible).collect();
    }
    text.chars().map(visible).take(max.saturating_sub(1)).chain(['…']).collect()
}

/// Says which fields have no value and why, a line per reason: a kernel without sched_ext has the same one for every
/// field.
pub fn absent_fields(out: &mut String, absent: &BTreeMap<String, String>) {
    let mut by_reason: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for (field, why) in absent {
        by_reason.entry(why).or_default().push(field);
    }
    for (why, fields) in by_reason {
        let fields = match fields.as_slice() {
            [field] => format!("{field} has"),
            fields => format!("{} have", fields.join(", ")),
        };
        line(out, &format!("  {fields} no value: {}", clean(why, MAX_SENTENCE)));
    }
}
