//! A watch over TLS, with our own daemon as the receiver.

use std::fs;

use ringway_testkit::chaos::{Chaos, Harm, Plan};

use crate::authority::{Authority, Signed};
use crate::daemon::Daemon;
use crate::receiver::assert_same;
use crate::run::Files;
use crate::scene::{Scene, await_events, finish};

#[test]
fn a_folder_is_mirrored_over_tls_to_who_asks_for_a_certificate() {
    let (scene, root) = (Scene::new(), Files::new());
    let authority = Authority::new("authority of servers");
    let of_clients = Authority::new("authority of clients");
    let Signed { certificate, key } = of_clients.sign("client", |_| {});
    let (trust, clients) = (authority.file(), of_clients.file());
    let daemon = Daemon::secure(&root, &authority, &["--client-ca", &clients]);
    let early = scene.write("early", 1, 3_000_000);
    let chaos = Chaos::before(daemon.address(), |number| match number {
        0 => Plan::upstream(Harm::Reset(1_500_000)),
        _ => Plan::default(),
    });
    let to = [format!("https://{}/", chaos.address())];
    let more = ["--cacert", &trust, "--cert", &certificate, "--key", &key];
    let watch = scene.watch(&to, &more);
    await_events(&watch, "delivered", 1);
    let late = scene.write("late", 2, 70_000);
    await_events(&watch, "delivered", 2);
    let outcome = finish(watch);
    assert_eq!(outcome.events("retrying").len(), 1, "{outcome:?}");
    for (name, content) in [("early", early), ("late", late)] {
        assert_same(&fs::read(root.path(name)).unwrap(), &content, name);
    }
}

#[test]
fn a_receiver_that_nobody_vouches_for_is_sent_nothing_and_named() {
    let (scene, root) = (Scene::new(), Files::new());
    let authority = Authority::new("authority of servers");
    let stranger = Authority::new("somebody else");
    let daemon = Daemon::secure(&root, &authority, &[]);
    scene.write("file", 1, 1000);
    let watch = scene.watch(std::slice::from_ref(&daemon.url), &["--cacert", &stranger.file()]);
    await_events(&watch, "failed", 1);
    let outcome = finish(watch);
    assert_eq!(outcome.events("failed")[0]["kind"], "tls", "{outcome:?}");
    assert!(!root.path("file").exists());
    assert_eq!(scene.status(&[])["dead_letters"][0]["file"], "file");
}
