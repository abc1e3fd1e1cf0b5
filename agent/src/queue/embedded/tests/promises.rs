//! What the queue promises, one test each. Time is paused and moved by hand.

use super::*;

#[tokio::test(start_paused = true)]
async fn every_group_sees_every_record_in_order() {
    let queue = fresh();
    let texts_in: Vec<String> = (0..100).map(|n| n.to_string()).collect();
    let payloads: Vec<&str> = texts_in.iter().map(String::as_str).collect();
    queue.produce(batch(0, &payloads)).await.unwrap();
    for group in ["a", "b"] {
        let mut seen = Vec::new();
        while seen.len() < 100 {
            let got = take(&queue, group, 7).await;
            assert!(!got.is_empty(), "{group} saw {} only", seen.len());
            let done = queue.settle(settle(group, Verdict::Ack, ids(&got))).await.unwrap();
            assert!(done.iter().all(|done| *done));
            seen.extend(got);
        }
        assert_eq!(texts(&seen), payloads, "{group}");
    }
    // One that comes late sees what is still kept.
    assert_eq!(take(&queue, "late", 1_000).await.len(), 100);
}

#[tokio::test(start_paused = true)]
async fn consumers_of_a_group_share_and_an_ack_is_the_groups() {
    let queue = fresh();
    queue.produce(batch(0, &["1", "2", "3"])).await.unwrap();
    let (one, two) = (take(&queue, "g", 2).await, take(&queue, "g", 2).await);
    assert_eq!((texts(&one), texts(&two)), (vec!["1", "2"], vec!["3"]));
    let wrong = queue.settle(settle("other", Verdict::Ack, ids(&one))).await.unwrap();
    assert_eq!(wrong, [false, false], "another group's");
    let unknown = MessageId { epoch: one[0].id.epoch ^ 1, ..one[0].id };
    let done = queue.settle(settle("g", Verdict::Ack, vec![one[0].id, unknown, two[0].id])).await.unwrap();
    assert_eq!(done, [true, false, true]);
    assert_eq!(queue.settle(settle("g", Verdict::Ack, ids(&one))).await.unwrap(), [false, true], "once");
    let elsewhere = Settle { partition: Some(1), ..settle("g", Verdict::Ack, ids(&two)) };
    assert_eq!(queue.settle(elsewhere).await.unwrap(), [false]);
}

#[tokio::test(start_paused = true)]
async fn what_is_not_acknowledged_comes_again_at_its_time_and_not_before() {
    let queue = fresh();
    queue.produce(batch(0, &["1", "2"])).await.unwrap();
    let got = take(&queue, "g", 2).await;
    queue.settle(settle("g", Verdict::Ack, vec![got[1].id])).await.unwrap();
    pass(&queue, Duration::from_millis(29_900)).await;
    assert_eq!(take(&queue, "g", 2).await, []);
    pass(&queue, Duration::from_millis(101)).await;
    let again = take(&queue, "g", 2).await;
    assert_eq!((texts(&again), again[0].deliveries, again[0].id), (vec!["1"], 2, got[0].id));
    // A late ack is as good as one in time.
    pass(&queue, Duration::from_secs(31)).await;
    assert_eq!(queue.settle(settle("g", Verdict::Ack, ids(&again))).await.unwrap(), [true]);
    pass(&queue, Duration::from_secs(31)).await;
    assert_eq!(take(&queue, "g", 2).await, []);
}

#[tokio::test(start_paused = true)]
async fn nak_brings_it_back_and_extend_keeps_it_away() {
    let queue = fresh();
    queue.produce(batch(0, &["1", "2", "3"])).await.unwrap();
    let got = take(&queue, "g", 3).await;
    let (first, second, third) = (got[0].id, got[1].id, got[2].id);
    queue.settle(settle("g", Verdict::Nak(Duration::ZERO), vec![first])).await.unwrap();
    queue.settle(settle("g", Verdict::Nak(Duration::from_secs(5)), vec![second])).await.unwrap();
    assert_eq!(texts(&take(&queue, "g", 3).await), ["1"]);
    pass(&queue, Duration::from_secs(5)).await;
    assert_eq!(texts(&take(&queue, "g", 3).await), ["2"]);
    pass(&queue, Duration::from_secs(20)).await;
    let extended = queue.settle(settle("g", Verdict::Extend(None), vec![third])).await.unwrap();
    assert_eq!(extended, [true]);
    pass(&queue, Duration::from_secs(11)).await;
    assert_eq!(texts(&take(&queue, "g", 3).await), ["1", "2"], "30 s are over, the third has 19 more");
    pass(&queue, Duration::from_secs(19)).await;
    assert_eq!(texts(&take(&queue, "g", 3).await), ["3"]);
}

#[tokio::test(start_paused = true)]
async fn a_record_that_nobody_can_take_ends_somewhere_visible() {
    let queue = fresh();
    queue.produce(batch(2, &["poison", "good"])).await.unwrap();
    let ask =
        |topic: &str, group: &str| Pull { topic: topic.to_owned(), partition: Some(2), ..pull(group, 10) };
    for delivery in 1..=5 {
        let got = queue.pull(ask("t", "g")).await.unwrap().take_all();
        assert_eq!(got[0].deliveries, delivery);
        if delivery == 1 {
            queue.settle(settle("g", Verdict::Ack, vec![got[1].id])).await.unwrap();
        }
        pass(&queue, Duration::from_secs(30)).await;
    }
    assert!(queue.pull(ask("t", "g")).await.unwrap().is_empty());
    let dead = queue.pull(ask("t.dead", "operator")).await.unwrap().take_all();
    let origin = dead[0].origin.clone().unwrap();
    assert_eq!((texts(&dead), origin.group.as_str(), origin.deliveries), (vec!["poison"], "g", 5));
    assert_eq!((origin.id.partition, origin.id.offset), (2, 0));
    assert_eq!(queue.metrics.dead.get(), 1);
    // Another group has its own five.
    assert_eq!(queue.pull(ask("t", "h")).await.unwrap().take_all().len(), 2);
    // Dead letters die no second time.
    for _ in 0..10 {
        pass(&queue, Duration::from_secs(30)).await;
        assert_eq!(queue.pull(ask("t.dead", "operator")).await.unwrap().take_all().len(), 1);
    }
    let topics = queue.topics(false).await.unwrap();
    assert_eq!(topics.iter().map(|topic| topic.name.as_str()).collect::<Vec<_>>(), ["t", "t.dead"]);
    let refused = queue.produce(Produce { topic: "t.dead".to_owned(), ..batch(0, &["x"]) }).await;
    assert!(matches!(refused, Err(Error::Invalid(_))), "{refused:?}");
}

#[tokio::test(start_paused = true)]
async fn full_refuses_the_whole_batch_and_keeps_nothing_of_it() {
    let config = Config { queue_size: 5, ..Config::default() };
    let queue = open(&Disk::default(), &config);
    queue.produce(batch(0, &["1", "2", "3"])).await.unwrap();
    for _ in 0..3 {
        let refused = queue.produce(batch(0, &["4", "5", "6"])).await;
        assert!(matches!(refused, Err(Error::Full(_))), "{refused:?}");
    }
    queue.produce(batch(0, &["4", "5"])).await.unwrap();
    queue.produce(batch(1, &["other"])).await.unwrap();
    let got = take(&queue, "g", 10).await;
    assert_eq!(texts(&got), ["1", "2", "3", "4", "5"]);
    assert!(matches!(queue.produce(batch(0, &["6"])).await, Err(Error::Full(_))), "delivered is not done");
    queue.settle(settle("g", Verdict::Ack, vec![got[0].id])).await.unwrap();
    queue.produce(batch(0, &["6"])).await.unwrap();
    assert_eq!(queue.metrics.full.get(), 4);
    // One that never fits makes nothing.
    let never = Produce { topic: "new".to_owned(), ..batch(0, &["x"; 6]) };
    assert!(matches!(queue.produce(never).await, Err(Error::TooLarge { .. })));
    assert_eq!(queue.topics(false).await.unwrap().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_batch_that_comes_again_is_kept_once() {
    let config = Config { dedup_window_ms: 60_000, queue_size: 3, ..Config::default() };
    let disk = Disk::default();
    let queue = open(&disk, &config);
    let named = || Produce { id: Some("batch-1".to_owned()), partition: None, ..batch(0, &["1", "2", "3"]) };
    let first = queue.produce(named()).await.unwrap();
    let again = queue.produce(named()).await.unwrap();
    assert_eq!((first.duplicate, again.duplicate), (false, true));
    assert_eq!(first.ids, again.ids, "also when the queue is full");
    // Another topic's is another one.
    let other = Produce { topic: "u".to_owned(), ..named() };
    assert!(!queue.produce(other).await.unwrap().duplicate);
    pass(&queue, Duration::from_secs(59)).await;
    queue.close().await;
    let queue = open(&disk, &config);
    assert!(queue.produce(named()).await.unwrap().duplicate, "over a restart");
    let got = take(&queue, "g", 10).await;
    queue.settle(settle("g", Verdict::Ack, ids(&got))).await.unwrap();
    for second in 0..150 {
        pass(&queue, Duration::from_secs(1)).await;
        let tick = Produce { id: Some(format!("x{second}")), ..batch(1, &["x"]) };
        let tick = Produce { topic: "v".to_owned(), ..tick };
        let _full = queue.produce(tick).await;
    }
    assert!(!queue.produce(named()).await.unwrap().duplicate, "the window is over");
}

#[tokio::test(start_paused = true)]
async fn partitions_come_into_being_when_they_are_named_and_no_others() {
    let queue = fresh();
    assert!(matches!(queue.produce(batch(4, &["x"])).await, Err(Error::Invalid(_))));
    assert!(queue.topics(false).await.unwrap().is_empty(), "a refused one made nothing");
    // Consuming what has no record yet waits, and gets the first one.
    let waiting = {
        let queue = queue.clone();
        let ask = Pull { wait: true, partition: Some(3), ..pull("g", 10) };
        tokio::spawn(async move { queue.pull(ask).await.unwrap().take_all() })
    };
    while queue.topics(false).await.unwrap().is_empty() {
        tokio::task::yield_now().await;
    }
    assert_eq!(queue.topics(false).await.unwrap()[0].partitions[0].index, 3);
    queue.produce(batch(1, &["elsewhere"])).await.unwrap();
    queue.produce(batch(3, &["first"])).await.unwrap();
    assert_eq!(texts(&waiting.await.unwrap()), ["first"]);
    // The group sees a partition that came later, too.
    let all = queue.pull(Pull { partition: None, ..pull("g", 10) }).await.unwrap().take_all();
    assert_eq!(texts(&all), ["elsewhere"]);
    // Without a partition batches go round; with a key they stay.
    for _ in 0..4 {
        queue.produce(Produce { partition: None, ..batch(0, &["round"]) }).await.unwrap();
    }
    assert_eq!(queue.topics(false).await.unwrap()[0].partitions.len(), 4);
    let keyed = |key: &str| NewMessage { key: Some(key.to_owned()), payload: vec![] };
    let messages = vec![keyed("gpu-0"), keyed("gpu-1"), keyed("gpu-0")];
    let kept = queue.produce(Produce { partition: None, messages, ..batch(0, &[]) }).await.unwrap();
    assert_eq!(kept.ids[0].partition, kept.ids[2].partition);
}

#[tokio::test(start_paused = true)]
async fn a_restart_forgets_nothing() {
    let disk = Disk::default();
    let queue = open(&disk, &Config::default());
    queue.produce(batch(0, &["1", "2", "3", "4"])).await.unwrap();
    let got = take(&queue, "g", 3).await;
    queue.settle(settle("g", Verdict::Ack, vec![got[1].id])).await.unwrap();
    queue.settle(settle("g", Verdict::Nak(Duration::ZERO), vec![got[2].id])).await.unwrap();
    pass(&queue, Duration::from_secs(10)).await;
    queue.close().await;
    assert!(matches!(queue.produce(batch(0, &["x"])).await, Err(Error::Closed)));

    let queue = open(&disk, &Config::default());
    let now = take(&queue, "g", 10).await;
    assert_eq!((texts(&now), now[0].deliveries), (vec!["3", "4"], 2), "the first is still in flight");
    pass(&queue, Duration::from_secs(20)).await;
    assert_eq!(texts(&take(&queue, "g", 10).await), ["1"], "at its time, not before and not later");
    assert_eq!(queue.settle(settle("g", Verdict::Ack, vec![got[0].id])).await.unwrap(), [true]);
}

#[tokio::test(start_paused = true)]
async fn what_a_consumer_did_not_take_goes_back_and_does_not_count() {
    let queue = fresh();
    queue.produce(batch(0, &["1", "2", "3"])).await.unwrap();
    let mut parcel = queue.pull(pull("g", 10)).await.unwrap();
    let first = parcel.take().unwrap();
    drop(parcel);
    let rest = take(&queue, "g", 10).await;
    assert_eq!((texts(&rest), rest[0].deliveries, first.deliveries), (vec!["2", "3"], 1, 1));
}

#[tokio::test(start_paused = true)]
async fn credit_holds_a_consumer_and_an_ack_frees_it() {
    let queue = fresh();
    queue.produce(batch(0, &["1", "2", "3", "4"])).await.unwrap();
    let consumer = queue.consumer("t", "g");
    let number = consumer.number();
    let ask = || Pull { consumer: number, credit: 3, wait: true, ..pull("g", 10) };
    let got = queue.pull(ask()).await.unwrap().take_all();
    assert_eq!(texts(&got), ["1", "2", "3"]);
    let waiting = {
        let (queue, ask) = (queue.clone(), ask());
        tokio::spawn(async move { queue.pull(ask).await.unwrap().take_all() })
    };
    queue.topics(false).await.unwrap();
    assert!(!waiting.is_finished());
    queue.settle(settle("g", Verdict::Ack, vec![got[0].id])).await.unwrap();
    assert_eq!(texts(&waiting.await.unwrap()), ["4"]);
    // Gone without a word: its successor names the last record that arrived, and gets what came behind it.
    let last = got[1].id;
    drop(consumer);
    let successor = queue.consumer("t", "g");
    let resumed = Pull { consumer: successor.number(), after: Some(last), ..ask() };
    let again = queue.pull(resumed).await.unwrap().take_all();
    assert_eq!((texts(&again), again[0].deliveries), (vec!["3", "4"], 1));
}

#[tokio::test(start_paused = true)]
async fn acknowledged_records_are_kept_for_groups_to_come_as_long_as_is_said() {
    let config = Config { retention_records: 0, retention_age_ms: 3_600_000, ..Config::default() };
    let queue = open(&Disk::default(), &config);
    for n in 0..10 {
        queue.produce(batch(0, &[&n.to_string()])).await.unwrap();
    }
    let got = take(&queue, "g", 10).await;
    queue.settle(settle("g", Verdict::Ack, ids(&got[..9]))).await.unwrap();
    assert_eq!(texts(&take(&queue, "late", 10).await), ["9"], "the rest is acknowledged by every group");
    assert_eq!(queue.metrics.expired.get(), 0);
    // The last one is old one day, whoever has still to see it.
    pass(&queue, Duration::from_secs(3_602)).await;
    pass(&queue, Duration::from_secs(1)).await;
    assert_eq!(queue.metrics.expired.get(), 1, "and that is counted");
    assert_eq!(take(&queue, "g", 10).await, []);
    assert_eq!(queue.status().borrow().size_bytes, 0);
}

#[tokio::test(start_paused = true)]
async fn a_group_that_is_forgotten_holds_nothing_back() {
    let config = Config { queue_size: 2, ..Config::default() };
    let queue = open(&Disk::default(), &config);
    queue.produce(batch(0, &["1", "2"])).await.unwrap();
    let got = take(&queue, "good", 2).await;
    queue.settle(settle("good", Verdict::Ack, ids(&got))).await.unwrap();
    take(&queue, "abandoned", 1).await;
    assert!(matches!(queue.produce(batch(0, &["3"])).await, Err(Error::Full(_))));
    queue.forget_group("t", "abandoned").await.unwrap();
    assert!(matches!(queue.forget_group("t", "abandoned").await, Err(Error::Unknown(_))));
    queue.produce(batch(0, &["3"])).await.unwrap();
}
