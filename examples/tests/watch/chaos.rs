//! R12: a proxy between that delays, slices, stalls, resets, half-closes and corrupts. What arrives is
//! what was sent, whatever happened on the way.

use std::fs;
use std::time::Duration;

use ringway_testkit::chaos::{Chaos, Harm, Plan};

use crate::receiver::assert_same;
use crate::run::{get, run};
use crate::scene::{Scene, Server, await_events, content, finish};

/// The first connections by these plans, all others untouched.
fn before(server: &Server, plans: Vec<Plan>) -> Chaos {
    Chaos::before(server.address(), move |number| plans.get(number).copied().unwrap_or_default())
}

/// What may happen to a body of some 300 KB, in both directions where that makes sense.
fn harms() -> Vec<Plan> {
    vec![
        Plan::upstream(Harm::Corrupt(100_000)),
        Plan::upstream(Harm::Reset(150_000)),
        Plan::downstream(Harm::Reset(30)),
        Plan::upstream(Harm::HalfClose(200_000)),
        Plan::downstream(Harm::HalfClose(10)),
        Plan::upstream(Harm::Stall(50_000, Duration::from_millis(150))),
        Plan::upstream(Harm::Corrupt(299_000)),
        Plan::downstream(Harm::Corrupt(3)),
    ]
}

#[test]
fn a_push_through_chaos_arrives_whole_and_corruption_is_seen() {
    let scene = Scene::new();
    let file = scene.write("file", 1, 300_000);
    let path = scene.path("file").to_str().unwrap().to_owned();
    let server = Server::start(&[]);
    for (place, plan) in harms().into_iter().enumerate() {
        let chaos = before(&server, vec![plan]);
        let url = format!("http://{}/file-{place}", chaos.address());
        let outcome = run(&[&path, "--to", &url, "--retries", "5", "--idle-timeout-seconds", "20"]);
        outcome.assert_delivered(1);
        if let Harm::Corrupt(_) = plan.upstream {
            let retried = outcome.events("retrying");
            let seen = retried[0]["error"].as_str().unwrap().contains("not have the digest");
            assert!(seen, "{outcome:?}");
        }
        let stored = fs::read(server.path(&format!("file-{place}"))).unwrap();
        assert_same(&stored, &file, &format!("the file behind {plan:?}"));
    }
}

#[test]
fn slices_of_a_byte_and_delays_change_nothing() {
    let scene = Scene::new();
    let file = scene.write("file", 2, 6_000);
    let path = scene.path("file").to_str().unwrap().to_owned();
    let server = Server::start(&[]);
    for (place, plan) in [
        Plan { upstream: Harm::Slice(1), downstream: Harm::Slice(1) },
        Plan::upstream(Harm::Delay(Duration::from_millis(5))),
    ]
    .into_iter()
    .enumerate()
    {
        let chaos = Chaos::before(server.address(), move |_| plan);
        let url = format!("http://{}/file-{place}", chaos.address());
        run(&[&path, "--to", &url]).assert_delivered(1);
        assert_same(&fs::read(server.path(&format!("file-{place}"))).unwrap(), &file, "the file");
    }
}

#[test]
fn a_watch_through_chaos_delivers_every_file_as_it_is() {
    let scene = Scene::new();
    let server = Server::start(&[]);
    let clean = Server::start(&[]);
    // A connection that is corrupted may be used on, so that comes last; questions take some, too.
    let cutting = |plan: &Plan| {
        let Plan { upstream, downstream } = plan;
        let cuts = |harm: &Harm| matches!(harm, Harm::Reset(_) | Harm::HalfClose(_));
        cuts(upstream) || cuts(downstream) || matches!(downstream, Harm::Corrupt(_))
    };
    let cuts: Vec<Plan> = harms().into_iter().filter(cutting).collect();
    let mut plans = [cuts.clone(), cuts].concat();
    plans.extend([Plan::upstream(Harm::Corrupt(100_000)); 2]);
    let harmed = plans.len();
    let chaos = before(&server, plans);
    let through = format!("http://{}/", chaos.address());
    let files: Vec<_> = (0..6u32)
        .map(|number| scene.write(&format!("file-{number}"), u64::from(number), 300_000))
        .collect();
    let watch = scene.watch(&[through, clean.url()], &["--retries", "50"]);
    await_events(&watch, "delivered", 6);
    crate::run::wait_until("everything has arrived through chaos", || {
        scene.status(&[])["receivers"][0]["delivered"] == 6
    });
    for (number, file) in files.iter().enumerate() {
        for server in [&server, &clean] {
            let stored = fs::read(server.path(&format!("file-{number}"))).unwrap();
            assert_same(&stored, file, &format!("file {number}"));
        }
    }
    assert!(chaos.connections() >= harmed - 1, "harms were met: {}", chaos.connections());
    let outcome = finish(watch);
    assert!(outcome.events("retrying").len() > 3, "{outcome:?}");
}

#[test]
fn a_receiver_behind_chaos_gives_no_file_other_bytes_than_were_promised() {
    let scene = Scene::new();
    let server = Server::start(&[]);
    let file = content(3, 300_000);
    fs::write(server.path("file"), &file).unwrap();
    let digest = {
        use sha2::Digest;
        sha2::Sha256::digest(&file).iter().map(|byte| format!("{byte:02x}")).collect::<String>()
    };
    for plan in [
        Plan::downstream(Harm::Corrupt(100_000)),
        Plan::downstream(Harm::Reset(150_000)),
        Plan::downstream(Harm::HalfClose(200_000)),
        Plan::downstream(Harm::Slice(700)),
        Plan::downstream(Harm::Stall(50_000, Duration::from_millis(100))),
    ] {
        let chaos = before(&server, vec![plan]);
        let target = scene.base().join("got");
        let target = target.to_str().unwrap();
        let url = format!("http://{}/file", chaos.address());
        let outcome = get(&[&*url, "-o", target, "--sha256", &digest]);
        match outcome.status {
            0 => assert_same(&fs::read(target).unwrap(), &file, &format!("{plan:?}")),
            _ => {
                assert!(matches!(plan.downstream, Harm::Corrupt(_)), "{plan:?}: {outcome:?}");
                assert!(!std::path::Path::new(target).exists(), "{outcome:?}");
            }
        }
        _ = fs::remove_file(target);
    }
}
