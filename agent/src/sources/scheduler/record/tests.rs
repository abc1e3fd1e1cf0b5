use super::*;
use crate::sources::scheduler::fixture::BtfBuilder;
use crate::sources::scheduler::layout;

#[test]
fn fields_come_from_whatever_section_and_width_holds_them() {
    let btf = &mut BtfBuilder::default();
    let (small, int, flag) = (btf.int("short", 2, 0), btf.int("int", 4, 1), btf.int("_Bool", 1, 4));
    let inner = btf.structure("s", 4, &[("nr_queued", int, 0)]);
    let variables = [
        ("nr_running", small, 0, 2),
        ("nr_online_cpus", int, 4, 4),
        ("nr_scheduled", flag, 8, 1),
        ("usersched_pid", int, 12, 4),
        ("nr_queued_ctx", inner, 16, 4),
    ];
    let entries: Vec<_> = variables.map(|(name, ty, at, size)| (btf.variable(name, ty), at, size)).into();
    btf.section(".data", 20, &entries);
    let layout = layout::of_section(&btf.build(), ".data").expect("decodes");
    let fields = Fields::find(&layout);
    let record = fields.record(&layout, &[65_535, 4, 1, 0xffff_ffff, 9]);
    assert_eq!(record.get(BssField::NrRunning), Some(65_535));
    assert_eq!(record.get(BssField::NrOnlineCpus), Some(4));
    assert_eq!(record.get(BssField::NrScheduled), None, "a bool is no count");
    assert_eq!(record.get(BssField::UserschedPid), None, "-1 is no pid");
    assert_eq!(record.get(BssField::NrQueued), None, "a struct's member is another thing");
    assert_eq!(fields.record(&layout, &[]), BssRecord::default(), "nothing read, nothing known");
    assert_eq!(absent(&record, "why").len(), 10);
}
