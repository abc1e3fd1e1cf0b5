//! Deadlines by the queue's own timer.

use super::*;

fn keep_time(queue: &Queue) -> (CancellationToken, tokio::task::JoinHandle<()>) {
    let (queue, stop) = (queue.clone(), CancellationToken::new());
    (stop.clone(), tokio::spawn(async move { queue.keep_time(stop).await }))
}

#[tokio::test(start_paused = true)]
async fn the_documented_thirty_seconds_are_thirty_seconds() {
    // As long as a blocking task runs the paused clock does not run on while the worker is waited for.
    let (over, held) = std::sync::mpsc::sync_channel::<()>(0);
    tokio::task::spawn_blocking(move || _ = held.recv());
    let queue = fresh();
    let (stop, timer) = keep_time(&queue);
    for step_ms in [70, 100, 900] {
        queue.produce(batch(0, &["x"])).await.unwrap();
        let asked = Instant::now();
        let got = take(&queue, "g", 1).await;
        assert_eq!(Instant::now(), asked, "the clock stands still");
        let waiting = tokio::spawn({
            let queue = queue.clone();
            async move { queue.pull(Pull { wait: true, ..pull("g", 1) }).await.unwrap().take_all() }
        });
        while !waiting.is_finished() {
            assert!(asked.elapsed() <= Duration::from_secs(31), "more than 1 s late");
            tokio::time::advance(Duration::from_millis(step_ms)).await;
            // The timer's look is before ours in the queue of commands, or the one after is.
            for _ in 0..3 {
                queue.topics(false).await.unwrap();
            }
        }
        let again = waiting.await.unwrap();
        assert_eq!((again[0].id, again[0].deliveries), (got[0].id, 2));
        assert!(asked.elapsed() >= Duration::from_secs(30), "too early: {:?}", asked.elapsed());
        queue.settle(settle("g", Verdict::Ack, ids(&again))).await.unwrap();
    }
    stop.cancel();
    timer.await.unwrap();
    over.send(()).unwrap();
}

#[tokio::test]
async fn in_real_time_too() {
    let config = Config { visibility_timeout_ms: 700, ..Config::default() };
    let queue = open(&Disk::default(), &config);
    let (stop, _timer) = keep_time(&queue);
    for _ in 0..3 {
        queue.produce(batch(0, &["x"])).await.unwrap();
        let asked = Instant::now();
        assert_eq!(take(&queue, "g", 1).await.len(), 1);
        let again = queue.pull(Pull { wait: true, ..pull("g", 1) }).await.unwrap().take_all();
        let late = asked.elapsed().checked_sub(Duration::from_millis(700)).expect("not before its time");
        assert!(late < Duration::from_secs(1) && again[0].deliveries == 2, "{late:?} late");
        queue.settle(settle("g", Verdict::Ack, ids(&again))).await.unwrap();
    }
    stop.cancel();
}

/// The control: without the timer nothing comes again by itself, so the tests above measure it.
#[tokio::test(start_paused = true)]
async fn without_the_timer_nothing_comes_again() {
    let queue = fresh();
    queue.produce(batch(0, &["x"])).await.unwrap();
    take(&queue, "g", 1).await;
    tokio::time::advance(Duration::from_secs(300)).await;
    assert!(take(&queue, "g", 1).await.is_empty());
}
