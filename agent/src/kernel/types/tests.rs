use super::*;
use crate::kernel::btf::builder::BtfBuilder;

/// ```c
/// struct sched_info { unsigned long pcount; unsigned long long run_delay; };
/// struct task_struct { int pid; union { long a; struct { int b; int c; }; }; struct sched_info sched_info;
///                      struct sched_info *other; int flag:1; };
/// ```
fn types() -> Types {
    let mut btf = BtfBuilder::default();
    let (int, long) = (btf.int("int", 4, 1), btf.int("long", 8, 1));
    let info = btf.structure("sched_info", 16, &[("pcount", long, 0), ("run_delay", long, 8)]);
    let alias = btf.typedef("info_t", info);
    let alias = btf.constant(alias);
    let inner = btf.structure("", 8, &[("b", int, 0), ("c", int, 4)]);
    let either = btf.union("", 8, &[("a", long), ("", inner)]);
    let pointer = btf.ptr(info);
    let members = [("pid", int, 0), ("", either, 8), ("sched_info", alias, 16), ("other", pointer, 32)];
    btf.structure("task_struct", 40, &members);
    btf.bit_fields("flags", 4, &[("one", int, 0, 1), ("two", int, 1, 1)]);
    btf.enumeration("cgroup_subsys_id", &[("cpuset_cgrp_id", 0), ("cpu_cgrp_id", 1)]);
    Types::from_bytes(btf.build())
}

#[test]
fn fields_are_found_through_unnamed_members_and_aliases() {
    let fields = [
        ("task_struct", "pid"),
        ("task_struct", "a"),
        ("task_struct", "c"),
        ("task_struct", "sched_info.run_delay"),
        ("sched_info", "run_delay"),
    ];
    assert_eq!(types().offsets(fields).unwrap(), [0, 8, 12, 24, 8]);
}

#[test]
fn what_is_not_there_is_said_by_name() {
    for (structure, field) in [
        ("task_struct", "run_delay"),
        ("task_struct", "other.run_delay"),
        ("task_struct", "pid.x"),
        ("task_struct", ""),
        ("no_struct", "pid"),
    ] {
        let error = types().offsets([(structure, field)]).unwrap_err();
        assert_eq!(error.to_string(), format!("this kernel has no {structure}.{field}"));
    }
    let error = types().offsets([("flags", "two")]).unwrap_err();
    assert_eq!(error.to_string(), "flags.two is a bit field");
    let nowhere = Types::read(Path::new("/nonexistent")).unwrap_err();
    assert!(nowhere.to_string().contains("/nonexistent/kernel/btf/vmlinux"), "{nowhere}");
    assert!(matches!(Types::from_bytes(vec![1; 40]).offsets([("a", "b")]), Err(TypesError::Malformed(_))));
}

#[test]
fn enumerators_by_name() {
    let types = types();
    assert_eq!(types.enumerator("cgroup_subsys_id", "cpu_cgrp_id").unwrap(), Some(1));
    assert_eq!(types.enumerator("cgroup_subsys_id", "net_cgrp_id").unwrap(), None);
    assert_eq!(types.enumerator("no_enum", "cpu_cgrp_id").unwrap(), None);
}
