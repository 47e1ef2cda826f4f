use super::*;

#[test]
fn what_is_asked_for_is_read_as_seconds_or_as_a_date() {
    assert_eq!(retry_after(" 7 "), Some(Duration::from_secs(7)));
    let date = |seconds| {
        let at = jiff::Timestamp::now() + jiff::SignedDuration::from_secs(seconds);
        jiff::fmt::rfc2822::DateTimePrinter::new().timestamp_to_rfc9110_string(&at).unwrap()
    };
    let wait = retry_after(&date(90)).unwrap();
    assert!((80..=90).contains(&wait.as_secs()), "{wait:?}");
    assert_eq!(retry_after(&date(-90)), Some(Duration::ZERO));
    assert_eq!((retry_after("soon"), retry_after("-1"), retry_after("")), (None, None, None));
}

#[tokio::test]
async fn a_policy_without_any_limit_is_no_reason_to_panic() {
    let forever = Duration::MAX;
    let policy = RetryPolicy { call_timeout: forever, attempt_timeout: forever, ..RetryPolicy::default() };
    assert_eq!(Retrier::new(policy).run("t", "x", Safety::Read, async |_| Ok(7)).await.unwrap(), 7);
}

fn failure(kind: ErrorKind) -> Error {
    Error::new(kind, "t", "x", "")
}

async fn sends(safety: Safety, policy: RetryPolicy, error: impl Fn(u32) -> Error) -> (u32, ErrorKind) {
    let mut sends = 0;
    let result: Result<()> = Retrier::new(policy)
        .run("t", "x", safety, |number| {
            sends += 1;
            let error = error(number);
            async move { Err(error) }
        })
        .await;
    (sends, result.unwrap_err().kind())
}

#[tokio::test(start_paused = true)]
async fn passing_failures_are_repeated_up_to_the_limit_and_others_not_at_all() {
    let policy = RetryPolicy::default();
    for kind in ErrorKind::all() {
        let expected = if failure(*kind).is_retryable() { 5 } else { 1 };
        let (sends, ended) = sends(Safety::Repeatable, policy.clone(), |_| failure(*kind)).await;
        assert_eq!((sends, ended), (expected, *kind));
    }
}

#[tokio::test(start_paused = true)]
async fn what_may_have_been_applied_is_not_sent_again_unless_that_is_safe() {
    let lost = |_| failure(ErrorKind::Unavailable).with_may_have_applied();
    assert_eq!(sends(Safety::Once, RetryPolicy::default(), lost).await, (1, ErrorKind::Indeterminate));
    assert_eq!(sends(Safety::Repeatable, RetryPolicy::default(), lost).await, (5, ErrorKind::Indeterminate));
    assert_eq!(sends(Safety::Read, RetryPolicy::default(), lost).await, (5, ErrorKind::Unavailable));
}

#[tokio::test(start_paused = true)]
async fn a_refusal_that_says_nothing_of_an_attempt_whose_answer_was_lost_leaves_its_end_open() {
    for (refusal, expected) in [
        (ErrorKind::PermissionDenied, ErrorKind::Indeterminate),
        (ErrorKind::Corrupt, ErrorKind::Indeterminate),
        (ErrorKind::NotFound, ErrorKind::NotFound),
    ] {
        let failures = |number| match number {
            1 => failure(ErrorKind::Unavailable).with_may_have_applied(),
            _ => failure(refusal),
        };
        assert_eq!(sends(Safety::Repeatable, RetryPolicy::default(), failures).await, (2, expected));
        assert_eq!(sends(Safety::Read, RetryPolicy::default(), failures).await, (2, refusal));
    }
}

#[tokio::test(start_paused = true)]
async fn a_call_never_outlives_its_deadline() {
    let begun = Instant::now();
    let retrier = Retrier::new(RetryPolicy::default());
    let result: Result<()> = retrier.run("t", "x", Safety::Repeatable, |_| std::future::pending()).await;
    assert!(result.is_err() && begun.elapsed() <= Duration::from_secs(60), "{:?}", begun.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_body_that_gets_on_may_take_long_and_one_that_does_not_may_not() {
    let begun = Instant::now();
    let policy = RetryPolicy { max_attempts: 1, ..RetryPolicy::default() };
    let retrier = Retrier::new(policy).for_body(20 << 20);
    let mut moments = Vec::new();
    for signs in [30, 3] {
        let result = retrier.run("t", "x", Safety::Repeatable, async |_| {
            for _ in 0..signs {
                sleep(Duration::from_secs(20)).await;
                retrier.activity().note();
            }
            if signs == 3 {
                std::future::pending::<()>().await
            }
            Ok(())
        });
        moments.push((result.await.is_ok(), begun.elapsed().as_secs()));
    }
    assert_eq!(moments, [(true, 600), (false, 600 + 60 + 30)]);
}

#[tokio::test(start_paused = true)]
async fn pending_work_ends_within_three_pauses_of_the_end_of_an_outage() {
    for seed in 0..200 {
        fastrand::seed(seed);
        let policy = RetryPolicy { max_attempts: u32::MAX, budget: u32::MAX, ..RetryPolicy::default() };
        let longest = policy.max_backoff;
        let (begun, outage) = (Instant::now(), Duration::from_millis(300 * seed % 40_000));
        let retrier = Retrier::new(policy);
        let ended = retrier.run("t", "x", Safety::Repeatable, async |_| {
            if begun.elapsed() < outage { Err(failure(ErrorKind::Unavailable)) } else { Ok(()) }
        });
        ended.await.unwrap();
        assert!(begun.elapsed() <= outage + 3 * longest, "seed {seed}: {:?}", begun.elapsed());
    }
}

#[tokio::test(start_paused = true)]
async fn a_pause_that_the_provider_asks_for_is_kept_though_it_is_longer_than_any_of_ours() {
    for seconds in [7, 45] {
        let begun = Instant::now();
        let policy = RetryPolicy { max_attempts: 2, ..RetryPolicy::default() };
        let asked = |_| failure(ErrorKind::Throttled).with_retry_after(Duration::from_secs(seconds));
        assert_eq!(sends(Safety::Once, policy, asked).await, (2, ErrorKind::Throttled));
        assert_eq!(begun.elapsed().as_secs(), seconds);
    }
}

#[tokio::test(start_paused = true)]
async fn a_pause_longer_than_what_is_left_of_the_call_ends_it_at_once_and_is_told() {
    let begun = Instant::now();
    let wait = Duration::from_secs(45);
    let asked = || async { Err::<(), _>(failure(ErrorKind::Throttled).with_retry_after(wait)) };
    let error = Retrier::new(RetryPolicy::default()).run("t", "x", Safety::Read, |_| asked()).await.unwrap_err();
    assert_eq!((error.kind(), error.retry_after()), (ErrorKind::Throttled, Some(wait)));
    // After the first one fifteen seconds are left.
    assert_eq!(begun.elapsed().as_secs(), 45);
}

#[tokio::test(start_paused = true)]
async fn pauses_are_anywhere_between_nothing_and_a_ceiling_that_doubles_up_to_the_longest() {
    let policy = RetryPolicy { max_attempts: 10, call_timeout: Duration::from_secs(600), ..RetryPolicy::default() };
    let mut pauses: Vec<Vec<f64>> = vec![Vec::new(); 9];
    for seed in 0..400 {
        fastrand::seed(seed);
        let mut last = Instant::now();
        let retrier = Retrier::new(policy.clone());
        let _: Result<()> = retrier
            .run("t", "x", Safety::Read, |number| {
                if number > 1 {
                    pauses[number as usize - 2].push(last.elapsed().as_secs_f64());
                }
                last = Instant::now();
                async { Err(failure(ErrorKind::Unavailable)) }
            })
            .await;
    }
    for (number, pauses) in pauses.iter().enumerate() {
        let ceiling = (0.1 * f64::from(1 << number)).min(10.0);
        let share = |from: f64, to: f64| {
            let within = pauses.iter().filter(|pause| (from * ceiling..to * ceiling).contains(*pause)).count();
            within as f64 / pauses.len() as f64
        };
        // A quarter each, give or take; a timer is exact to a millisecond.
        for quarter in [0.0, 0.25, 0.5] {
            let share = share(quarter, quarter + 0.25);
            assert!((0.15..0.35).contains(&share), "pause {number}: {share} from {quarter} on");
        }
        assert!((0.15..0.35).contains(&share(0.75, 1.0 + 0.002 / ceiling)), "pause {number}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_empty_budget_ends_the_repeating() {
    let policy = RetryPolicy { budget: 3, ..RetryPolicy::default() };
    let retrier = Retrier::new(policy);
    let mut sends = 0;
    for _ in 0..4 {
        let _: Result<()> = retrier
            .run("t", "x", Safety::Repeatable, |_| {
                sends += 1;
                async { Err(failure(ErrorKind::Unavailable)) }
            })
            .await;
    }
    assert_eq!(sends, 4 + 3);
}

#[tokio::test(start_paused = true)]
async fn each_success_earns_one_retry_up_to_the_budget() {
    let retrier = Retrier::new(RetryPolicy { budget: 3, ..RetryPolicy::default() });
    let fail = async || {
        let mut sends = 0;
        let failed: Result<()> = retrier
            .run("t", "x", Safety::Read, |_| {
                sends += 1;
                async { Err(failure(ErrorKind::Unavailable)) }
            })
            .await;
        assert!(failed.is_err());
        sends - 1
    };
    assert_eq!((fail().await, fail().await), (3, 0));
    for (successes, retries) in [(1, 1), (2, 2), (10, 3)] {
        for _ in 0..successes {
            retrier.run("t", "x", Safety::Read, async |_| Ok(())).await.unwrap();
        }
        assert_eq!((fail().await, fail().await), (retries, 0), "after {successes} successes");
    }
}

async fn slow(retrier: &Retrier, seconds: u64) -> Result<()> {
    retrier
        .run("t", "x", Safety::Repeatable, |_| async move {
            sleep(Duration::from_secs(seconds)).await;
            Ok(())
        })
        .await
}

#[tokio::test(start_paused = true)]
async fn the_requests_of_one_call_have_its_time_together_also_those_of_others_that_it_calls() {
    let (retrier, other) = (Retrier::new(RetryPolicy::default()), Retrier::new(RetryPolicy::default()));
    let begun = Instant::now();
    let result = retrier.one_call(async {
        slow(&retrier, 25).await?;
        other.one_call(slow(&other, 25)).await?;
        slow(&retrier, 25).await
    });
    let error = result.await.unwrap_err();
    assert_eq!((error.kind(), begun.elapsed().as_secs()), (ErrorKind::Indeterminate, 60));
    // The next call begins anew.
    slow(&retrier, 25).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn what_was_not_sent_before_the_time_was_over_is_not_sent_and_was_not_applied() {
    let retrier = Retrier::new(RetryPolicy::default());
    let mut sends = 0;
    let late = retrier.one_call(async {
        pause(Duration::from_secs(100)).await;
        retrier
            .run("t", "x", Safety::Once, |_| {
                sends += 1;
                async { Ok(()) }
            })
            .await
    });
    let begun = Instant::now();
    let error = late.await.unwrap_err();
    assert_eq!((error.kind(), error.may_have_applied()), (ErrorKind::Timeout, false));
    assert_eq!((sends, begun.elapsed().as_secs()), (0, 60));
}

#[tokio::test(start_paused = true)]
async fn a_call_that_moves_bytes_has_their_time_beside_its_own_and_a_cleanup_that_of_one_attempt() {
    let retrier = Retrier::new(RetryPolicy::default());
    let begun = Instant::now();
    let ended = retrier.one_call(async {
        slow(&retrier, 25).await.unwrap();
        let copying = retrier.for_copy(200 << 20);
        slow(&copying, 110).await.unwrap();
        slow(&copying, 110).await.unwrap_err();
        assert_eq!(begun.elapsed().as_secs(), 160);
        slow(&retrier, 1).await.unwrap_err();
        retrier.cleaning_up(slow(&retrier, 20)).await.unwrap();
        in_time("t", "x", std::future::pending::<Result<()>>()).await
    });
    assert_eq!(ended.await.unwrap_err().kind(), ErrorKind::Timeout);
    assert_eq!(begun.elapsed().as_secs(), 180);
}
