//! Every way a call across the bridge can end, and what a scrape then shows.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]

use std::any::Any;
use std::convert::Infallible;
use std::future::{pending, poll_fn};
use std::panic::resume_unwind;
use std::sync::mpsc;
use std::task::Poll;
use std::thread;
use std::time::{Duration, Instant};

use barograph::testing::TestTelemetry;
use barograph_instrumentation_async_bridge::semconv::{CallOutcome, METRICS, SCOPE};
use barograph_instrumentation_async_bridge::{AsyncBridge, CallError};

/// Longer than any of these tests takes.
const LONG: Duration = Duration::from_secs(60);

/// What a test waits for a timeout.
const SHORT: Duration = Duration::from_millis(50);

#[test]
fn every_metric_is_on_the_page_with_its_name_kind_and_description() {
    let (telemetry, _bridge) = start();
    telemetry.assert_specs(SCOPE, METRICS);
    let version = env!("CARGO_PKG_VERSION");
    for series in telemetry.page().lines().filter(|line| line.starts_with("safe_async_bridge_")) {
        assert!(series.contains(&format!("otel_scope_name=\"{SCOPE}\"")), "{series}");
        assert!(series.contains(&format!("otel_scope_version=\"{version}\"")), "{series}");
    }
}

#[test]
fn every_counter_is_there_before_the_first_call() {
    let (telemetry, _bridge) = start();
    for outcome in CallOutcome::ALL {
        telemetry.metric("safe_async_bridge.calls").with(*outcome).value(0);
    }
    for error_type in ["panic", "closed", "internal", "other"] {
        telemetry.metric("safe_async_bridge.errors").with(("error_type", error_type)).value(0);
    }
    telemetry.metric("safe_async_bridge.timeouts").value(0);
    telemetry.metric("safe_async_bridge.pending_tasks").value(0);
    telemetry.metric("safe_async_bridge.active_loops").value(1);
}

#[test]
fn a_future_that_returns_a_value_is_a_success() {
    let (telemetry, bridge) = start();
    assert_eq!(bridge.call(async { Ok::<_, Infallible>(6 * 7) }, LONG), Ok(42));
    telemetry.assert_counted(&[
        "safe_async_bridge.active_loops 1",
        "safe_async_bridge.calls{outcome=success} 1",
        "safe_async_bridge.execution_duration{outcome=success} 1",
    ]);
}

#[test]
fn a_future_that_returns_an_error_is_an_error_of_type_other() {
    let (telemetry, bridge) = start();
    assert_eq!(bridge.call(async { Err::<(), _>("no luck") }, LONG), Err(CallError::Failed("no luck")));
    telemetry.assert_counted(&[
        "safe_async_bridge.active_loops 1",
        "safe_async_bridge.calls{outcome=error} 1",
        "safe_async_bridge.errors{error_type=other} 1",
        "safe_async_bridge.execution_duration{outcome=error} 1",
    ]);
}

#[test]
fn a_future_that_panics_is_an_error_and_the_bridge_works_on() {
    let (telemetry, bridge) = start();
    let payloads: [(Box<dyn Any + Send>, _); 3] = [
        (Box::new("a literal"), "a literal"),
        (Box::new("a formatted text".to_owned()), "a formatted text"),
        (Box::new(42), "no message"),
    ];
    for (payload, message) in payloads {
        let result = bridge.call::<(), Infallible>(async move { resume_unwind(payload) }, LONG);
        assert_eq!(result, Err(CallError::Panicked { message: message.to_owned() }));
    }
    assert_eq!(succeed(&bridge), Ok(()));
    telemetry.assert_counted(&[
        "safe_async_bridge.active_loops 1",
        "safe_async_bridge.calls{outcome=error} 3",
        "safe_async_bridge.calls{outcome=success} 1",
        "safe_async_bridge.errors{error_type=panic} 3",
        "safe_async_bridge.execution_duration{outcome=error} 3",
        "safe_async_bridge.execution_duration{outcome=success} 1",
    ]);
}

#[test]
fn a_future_that_panics_while_it_is_dropped_is_an_error_as_well() {
    let (telemetry, bridge) = start();
    let on_drop = OnDrop(|| panic!("in the destructor"));
    // Unlike an async block, this future keeps what it holds until it is dropped.
    let future = poll_fn(move |_| {
        let _held = &on_drop;
        Poll::Ready(Ok::<_, Infallible>(()))
    });
    let result = bridge.call(future, LONG);
    assert_eq!(result, Err(CallError::Panicked { message: "in the destructor".to_owned() }));
    telemetry.assert_counted(&[
        "safe_async_bridge.active_loops 1",
        "safe_async_bridge.calls{outcome=error} 1",
        "safe_async_bridge.errors{error_type=panic} 1",
        "safe_async_bridge.execution_duration{outcome=error} 1",
    ]);
}

#[test]
fn a_future_that_takes_too_long_is_a_timeout_and_is_dropped_on_the_loop() {
    let (telemetry, bridge) = start();
    let (dropped, drops) = mpsc::channel();
    let on_drop = OnDrop(move || dropped.send(thread::current().name().map(str::to_owned)).unwrap());
    let future = async move {
        let _held = &on_drop;
        pending::<Result<(), Infallible>>().await
    };
    assert_eq!(bridge.call(future, SHORT), Err(CallError::TimedOut { after: SHORT }));
    assert_eq!(drops.recv_timeout(LONG).unwrap().as_deref(), Some("async-bridge"));
    eventually_counted(
        &telemetry,
        &[
            "safe_async_bridge.active_loops 1",
            "safe_async_bridge.calls{outcome=timeout} 1",
            "safe_async_bridge.execution_duration{outcome=timeout} 1",
            "safe_async_bridge.timeouts 1",
        ],
    );
}

#[test]
fn callers_get_their_timeout_while_a_future_blocks_the_loop() {
    let (telemetry, bridge) = start();
    let (started, starts) = mpsc::channel();
    let (release, released) = mpsc::channel::<()>();
    thread::scope(|scope| {
        let blocking = async move {
            started.send(()).unwrap();
            let _ = released.recv();
            Ok::<_, Infallible>(())
        };
        let call = scope.spawn(|| bridge.call(blocking, LONG));
        starts.recv_timeout(LONG).unwrap();
        assert_eq!(bridge.call(async { Ok::<_, Infallible>(()) }, SHORT), Err(CallError::TimedOut { after: SHORT }));
        telemetry.assert_counted(&[
            "safe_async_bridge.active_loops 1",
            "safe_async_bridge.calls{outcome=timeout} 1",
            "safe_async_bridge.execution_duration{outcome=timeout} 1",
            "safe_async_bridge.pending_tasks 2",
            "safe_async_bridge.timeouts 1",
        ]);
        drop(release);
        assert_eq!(call.join().unwrap(), Ok(()));
    });
    eventually_counted(
        &telemetry,
        &[
            "safe_async_bridge.active_loops 1",
            "safe_async_bridge.calls{outcome=success} 1",
            "safe_async_bridge.calls{outcome=timeout} 1",
            "safe_async_bridge.execution_duration{outcome=success} 1",
            "safe_async_bridge.execution_duration{outcome=timeout} 1",
            "safe_async_bridge.timeouts 1",
        ],
    );
}

#[test]
fn a_timeout_too_long_for_the_clock_is_none() {
    let (_telemetry, bridge) = start();
    assert_eq!(bridge.call(async { Ok::<_, Infallible>(()) }, Duration::MAX), Ok(()));
}

#[test]
fn the_duration_is_the_time_the_caller_spent() {
    let (telemetry, bridge) = start();
    let started = Instant::now();
    let sleep = async {
        tokio::time::sleep(SHORT).await;
        Ok::<_, Infallible>(())
    };
    assert_eq!(bridge.call(sleep, LONG), Ok(()));
    let spent = started.elapsed().as_secs_f64();
    let sum = telemetry.metric("safe_async_bridge.execution_duration").with(CallOutcome::Success).try_sum().unwrap();
    assert!((SHORT.as_secs_f64()..=spent).contains(&sum), "{sum} of {spent}");
}

#[test]
fn a_future_is_pending_while_it_is_on_the_loop() {
    let (telemetry, bridge) = start();
    let (started, starts) = mpsc::channel();
    let (finish, finished) = tokio::sync::oneshot::channel();
    thread::scope(|scope| {
        let call = scope.spawn(|| {
            bridge.call(
                async move {
                    started.send(()).unwrap();
                    finished.await
                },
                LONG,
            )
        });
        starts.recv_timeout(LONG).unwrap();
        telemetry.assert_counted(&["safe_async_bridge.active_loops 1", "safe_async_bridge.pending_tasks 1"]);
        finish.send("done").unwrap();
        assert_eq!(call.join().unwrap(), Ok("done"));
    });
    telemetry.assert_counted(&[
        "safe_async_bridge.active_loops 1",
        "safe_async_bridge.calls{outcome=success} 1",
        "safe_async_bridge.execution_duration{outcome=success} 1",
    ]);
}

#[test]
fn a_call_of_a_closed_bridge_is_an_error_on_every_clone() {
    let (telemetry, bridge) = start();
    let clone = bridge.clone();
    bridge.close();
    bridge.close();
    assert_eq!(succeed(&bridge), Err(CallError::Closed));
    assert_eq!(succeed(&clone), Err(CallError::Closed));
    eventually_counted(
        &telemetry,
        &[
            "safe_async_bridge.calls{outcome=error} 2",
            "safe_async_bridge.errors{error_type=closed} 2",
            "safe_async_bridge.execution_duration{outcome=error} 2",
        ],
    );
}

#[test]
fn closing_the_bridge_cancels_the_calls_in_progress() {
    let (telemetry, bridge) = start();
    let (started, starts) = mpsc::channel();
    thread::scope(|scope| {
        let calls: Vec<_> = (0..4)
            .map(|_| {
                let started = started.clone();
                let future = async move {
                    started.send(()).unwrap();
                    pending::<Result<(), Infallible>>().await
                };
                scope.spawn(|| bridge.call(future, LONG))
            })
            .collect();
        for _ in 0..4 {
            starts.recv_timeout(LONG).unwrap();
        }
        bridge.close();
        for call in calls {
            assert_eq!(call.join().unwrap(), Err(CallError::Cancelled));
        }
    });
    eventually_counted(
        &telemetry,
        &["safe_async_bridge.calls{outcome=cancelled} 4", "safe_async_bridge.execution_duration{outcome=cancelled} 4"],
    );
}

#[test]
fn a_future_may_close_the_bridge_it_runs_on() {
    let (telemetry, bridge) = start();
    let clone = bridge.clone();
    let future = async move {
        clone.close();
        pending::<Result<(), Infallible>>().await
    };
    assert_eq!(bridge.call(future, LONG), Err(CallError::Cancelled));
    eventually_counted(
        &telemetry,
        &["safe_async_bridge.calls{outcome=cancelled} 1", "safe_async_bridge.execution_duration{outcome=cancelled} 1"],
    );
}

#[test]
fn a_call_from_the_loop_is_refused_because_it_would_wait_for_itself() {
    let (telemetry, bridge) = start();
    let clone = bridge.clone();
    assert_eq!(bridge.call(async move { succeed(&clone) }, LONG), Err(CallError::Failed(CallError::WouldDeadlock)));
    telemetry.assert_counted(&[
        "safe_async_bridge.active_loops 1",
        "safe_async_bridge.calls{outcome=error} 2",
        "safe_async_bridge.errors{error_type=internal} 1",
        "safe_async_bridge.errors{error_type=other} 1",
        "safe_async_bridge.execution_duration{outcome=error} 2",
    ]);
}

#[test]
fn a_future_may_call_the_bridge_from_a_blocking_thread_of_the_loop() {
    let (_telemetry, bridge) = start();
    let clone = bridge.clone();
    let future = async move { tokio::task::spawn_blocking(move || succeed(&clone)).await };
    assert_eq!(bridge.call(future, LONG).unwrap(), Ok(()));
}

#[test]
fn the_loop_stops_when_the_last_clone_is_dropped() {
    let (telemetry, bridge) = start();
    let clone = bridge.clone();
    drop(bridge);
    assert_eq!(succeed(&clone), Ok(()));
    drop(clone);
    eventually_counted(
        &telemetry,
        &["safe_async_bridge.calls{outcome=success} 1", "safe_async_bridge.execution_duration{outcome=success} 1"],
    );
}

#[test]
fn the_last_clone_may_be_dropped_on_the_loop() {
    let (telemetry, bridge) = start();
    let (release, released) = mpsc::channel::<()>();
    let clone = bridge.clone();
    let future = async move {
        let _ = released.recv();
        let _held = &clone;
        pending::<Result<(), Infallible>>().await
    };
    assert_eq!(bridge.call(future, SHORT), Err(CallError::TimedOut { after: SHORT }));
    drop(bridge);
    drop(release);
    eventually_counted(
        &telemetry,
        &[
            "safe_async_bridge.calls{outcome=timeout} 1",
            "safe_async_bridge.execution_duration{outcome=timeout} 1",
            "safe_async_bridge.timeouts 1",
        ],
    );
}

#[test]
fn timers_and_sockets_work_on_the_loop() {
    let (_telemetry, bridge) = start();
    let future = async {
        tokio::time::sleep(Duration::from_millis(1)).await;
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let (client, server) = (tokio::net::TcpStream::connect(address), listener.accept());
        client.await?;
        server.await.map(|_| ())
    };
    bridge.call(future, LONG).unwrap();
}

#[test]
fn it_is_called_from_the_blocking_thread_of_a_multi_thread_runtime() {
    let (telemetry, bridge) = start();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).build().unwrap();
    let calls: Vec<_> = (0..8)
        .map(|_| {
            let bridge = bridge.clone();
            runtime.spawn_blocking(move || succeed(&bridge))
        })
        .collect();
    for call in calls {
        assert_eq!(runtime.block_on(call).unwrap(), Ok(()));
    }
    telemetry.assert_counted(&[
        "safe_async_bridge.active_loops 1",
        "safe_async_bridge.calls{outcome=success} 8",
        "safe_async_bridge.execution_duration{outcome=success} 8",
    ]);
}

#[test]
fn it_is_called_inside_a_current_thread_runtime_as_often_as_one_likes() {
    let (telemetry, bridge) = start();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    // More than the 128 steps after which tokio makes a task yield: a call must not depend on that.
    let calls = runtime.spawn(async move {
        for _ in 0..200 {
            assert_eq!(succeed(&bridge), Ok(()));
        }
        bridge
    });
    let _bridge = runtime.block_on(calls).unwrap();
    telemetry.assert_counted(&[
        "safe_async_bridge.active_loops 1",
        "safe_async_bridge.calls{outcome=success} 200",
        "safe_async_bridge.execution_duration{outcome=success} 200",
    ]);
}

#[test]
fn eight_threads_with_two_hundred_calls_each_are_sixteen_hundred_calls() {
    let (telemetry, bridge) = start();
    thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                for call in 0..200 {
                    match call % 4 {
                        0 => assert_eq!(succeed(&bridge), Ok(())),
                        1 => {
                            let failing = async {
                                tokio::task::yield_now().await;
                                Err::<(), _>(1)
                            };
                            assert_eq!(bridge.call(failing, LONG), Err(CallError::Failed(1)));
                        }
                        2 => {
                            let timeout = Duration::from_micros(10);
                            let result = bridge.call(pending::<Result<(), Infallible>>(), timeout);
                            assert_eq!(result, Err(CallError::TimedOut { after: timeout }));
                        }
                        _ => {
                            let panicking = async { resume_unwind(Box::new("quietly")) };
                            let result = bridge.call::<(), Infallible>(panicking, LONG);
                            assert_eq!(result, Err(CallError::Panicked { message: "quietly".to_owned() }));
                        }
                    }
                }
            });
        }
    });
    eventually_counted(
        &telemetry,
        &[
            "safe_async_bridge.active_loops 1",
            "safe_async_bridge.calls{outcome=error} 800",
            "safe_async_bridge.calls{outcome=success} 400",
            "safe_async_bridge.calls{outcome=timeout} 400",
            "safe_async_bridge.errors{error_type=other} 400",
            "safe_async_bridge.errors{error_type=panic} 400",
            "safe_async_bridge.execution_duration{outcome=error} 800",
            "safe_async_bridge.execution_duration{outcome=success} 400",
            "safe_async_bridge.execution_duration{outcome=timeout} 400",
            "safe_async_bridge.timeouts 400",
        ],
    );
}

fn start() -> (TestTelemetry, AsyncBridge) {
    let telemetry = TestTelemetry::new().with_deadline(LONG);
    let bridge = AsyncBridge::new(telemetry.provider()).unwrap();
    (telemetry, bridge)
}

fn succeed(bridge: &AsyncBridge) -> Result<(), CallError<Infallible>> {
    bridge.call(async { Ok(()) }, LONG)
}

struct OnDrop<F: FnMut()>(F);

impl<F: FnMut()> Drop for OnDrop<F> {
    fn drop(&mut self) {
        self.0();
    }
}

/// A caller does not wait for the loop to drop its future, or to stop.
#[track_caller]
fn eventually_counted(telemetry: &TestTelemetry, expected: &[&str]) {
    telemetry.eventually(|telemetry| telemetry.assert_counted(expected));
}
