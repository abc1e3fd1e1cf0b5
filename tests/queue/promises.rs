//! What the queue promises, asserted once and run against every engine: the file, one server that syncs always, and
//! three servers with three replicas.

mod consume;
mod produce;
mod settle;
mod shown;

use sextant_tests::nats::{Nats, Servers};

use crate::place::{Engine, Place, single};

type Promise = fn(&Place<'_>);

/// A test for each promise and engine; the cluster is started once, and each promise has a queue of its own on it.
macro_rules! promises {
    ($($room:ident::$name:ident),* $(,)?) => {
        mod on_a_file {
            $(#[test]
            fn $name() {
                super::$room::$name(&super::Place::embedded());
            })*
        }

        mod on_a_server {
            $(#[test]
            fn $name() {
                let server = super::single();
                super::$room::$name(&super::Place::on(super::Engine::Single, &server));
            })*
        }

        const ALL: &[(&str, Promise)] = &[$((stringify!($name), $room::$name)),*];
    };
}

promises!(
    produce::a_record_is_kept_and_read_as_it_was,
    produce::a_key_stays_in_its_partition_and_a_named_one_is_taken,
    produce::full_refuses_the_whole_batch_and_keeps_nothing_of_it,
    produce::what_comes_again_under_its_id_is_kept_once,
    produce::a_batch_has_its_limit,
    produce::what_cannot_be_is_refused_and_makes_nothing,
    produce::the_largest_payload_goes_through,
    consume::every_group_sees_every_record_in_order,
    consume::consumers_of_a_group_share,
    consume::a_stream_sends_each_record_at_once,
    consume::a_stream_has_its_credit,
    consume::a_stream_that_broke_goes_on_where_it_was,
    consume::a_pull_that_waits_gets_the_first_record,
    consume::what_nobody_took_goes_to_the_next,
    settle::what_is_not_acknowledged_comes_again_at_its_time,
    settle::an_ack_is_the_groups_and_once,
    settle::nak_brings_it_back_and_extend_keeps_it_away,
    settle::what_nobody_can_take_ends_somewhere_visible,
    settle::a_nak_at_the_limit_buries_at_once,
    settle::a_group_that_is_forgotten_holds_nothing_back,
    settle::a_receiver_that_is_killed_forgets_nothing,
    shown::topics_tell_depth_lag_and_age,
    shown::the_documented_metrics_are_true,
    shown::old_records_go_and_acknowledged_ones_make_room,
);

#[test]
fn three_servers_keep_every_promise() {
    let servers = Nats::start(&Servers { count: 3, ..Servers::default() }).unwrap();
    let mut failed = Vec::new();
    for (name, promise) in ALL {
        let run = std::panic::AssertUnwindSafe(|| promise(&Place::on(Engine::Cluster, &servers)));
        // All of them are told, as they are elsewhere.
        if std::panic::catch_unwind(run).is_err() {
            failed.push(*name);
        }
    }
    assert!(failed.is_empty(), "{failed:?}");
}
