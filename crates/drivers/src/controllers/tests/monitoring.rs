//! Many targets, asked about one by one.

use super::*;

#[tokio::test]
async fn those_that_are_not_well_are_told_with_what_was_said() {
    let server = Server::new(|_, mut stream| async move {
        let (_, body) = whole_request(&mut stream).await.unwrap();
        let answer = match body.contains("bad") {
            true => json(r#"{"status":"error","message":"too hot"}"#),
            false => json(r#"{"status":"ok"}"#),
        };
        let _ = stream.write_all(answer.as_bytes()).await;
    });
    let server = server.await;
    let targets: Vec<_> =
        (0..100).map(|n| report("g", &format!("{}{n}", if n % 10 == 7 { "bad" } else { "good" }))).collect();
    let unwell = caller().unwell(&web(server.url()), &targets).await;
    let expected: BTreeMap<_, _> = targets
        .iter()
        .filter(|report| report.target.name.starts_with("bad"))
        .map(|report| (report.target.clone(), "error too hot".to_owned()))
        .collect();
    assert_eq!((unwell, server.connections()), (expected, 100));
}

/// A server that never answers, and how many questions it has at most at once.
async fn silent() -> (Server, Arc<AtomicUsize>) {
    let (now, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let highest = most.clone();
    let server = Server::new(move |_, mut stream| {
        let (now, most) = (now.clone(), most.clone());
        async move {
            most.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
            // Until the other end hangs up.
            while whole_request(&mut stream).await.is_some() {}
            now.fetch_sub(1, Ordering::SeqCst);
        }
    });
    (server.await, highest)
}

/// On the paused clock.
#[tokio::test(start_paused = true)]
async fn what_hangs_takes_half_a_minute_for_all_and_who_is_not_asked_by_then_is_told_so() {
    let (server, most) = silent().await;
    let targets: Vec<_> = (0..150).map(|n| report("", &format!("{n:03}"))).collect();
    let begun = Instant::now();
    let unwell = caller().unwell(&web(server.url()), &targets).await;
    assert_eq!(begun.elapsed(), MONITORING_TIME);
    let words: Vec<_> = unwell.values().map(String::as_str).collect();
    let (asked, unasked) = words.split_at(3 * MONITORED_AT_ONCE);
    assert!(asked.iter().all(|words| *words == "timed out after 10s"), "{asked:?}");
    assert!(unasked.iter().all(|words| *words == "not asked in time"), "{unasked:?}");
    assert_eq!((unwell.len(), unasked.len()), (150, 150 - 96));
    assert!(most.load(Ordering::SeqCst) <= 2 * MONITORED_AT_ONCE, "{most:?}");
}

/// On the paused clock.
#[tokio::test(start_paused = true)]
async fn a_call_that_waits_behind_those_that_hang_has_its_whole_time_after_that() {
    let (hangs, _) = silent().await;
    let (good, _) = recording(json(r#"{"status":"ok"}"#)).await;
    let caller = caller();
    let many: Vec<_> = (0..100).map(|n| report("", &format!("{n}"))).collect();
    let hanging: Vec<_> = (0..MONITORS_AT_ONCE)
        .map(|_| {
            let (caller, url, many) = (caller.clone(), hangs.url(), many.clone());
            tokio::spawn(async move { caller.unwell(&web(url), &many).await })
        })
        .collect();
    // All of them have begun.
    while caller.inner.monitors.available_permits() > 0 {
        tokio::task::yield_now().await;
    }
    assert_eq!(caller.unwell(&web(good.url()), &many).await, BTreeMap::new());
    for call in hanging {
        assert_eq!(call.await.unwrap().len(), 100);
    }
}
