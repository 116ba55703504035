//! Links over loopback: who gets in, who does not, and what happens when an end fails.

use bytes::Bytes;
use headwater_mesh::identity::{Authority, KeyRequest, Serial, ServerIdentity};
use headwater_mesh::link::{LinkEvent, LinkOptions, Links, Peer};
use headwater_mesh::{PeerHandler, Peers};
use model::{ChunkIndex, Name, Root};
use protocol::mesh::{Accept, Class, Encoding, FarmId, Have, Possession, Request, Response};
use std::net::SocketAddr;
use std::sync::mpsc::Receiver;
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;
use time::OffsetDateTime;
use tokio::sync::watch;

const FARM: FarmId = FarmId([5; 16]);
/// Longer than anything here takes, also on a busy machine.
const LONG: Duration = Duration::from_secs(60);

fn name(text: &str) -> Name {
    Name::new(text).unwrap()
}

fn authority() -> Authority {
    Authority::make(FARM, OffsetDateTime::now_utc()).unwrap()
}

fn identity(authority: &Authority, server: &str) -> ServerIdentity {
    let key = KeyRequest::make(&name(server)).unwrap();
    let now = OffsetDateTime::now_utc();
    let signed = authority.sign(key.request(), &name(server), &Serial::random(), now).unwrap();
    key.certified(authority.certificate(), &signed).unwrap()
}

fn root() -> Root {
    Root::from_bytes([3; 32])
}

/// Has chunks whose bytes are their number, and notes what it hears.
#[derive(Default)]
struct Scene {
    heard: Mutex<Vec<String>>,
    changed: Condvar,
}

impl Scene {
    fn note(&self, what: String) {
        self.heard.lock().unwrap().push(what);
        self.changed.notify_all();
    }

    /// Waits until something noted has this in it; gives how often.
    fn wait_for(&self, what: &str) {
        let heard = self.heard.lock().unwrap();
        let lacks = |heard: &mut Vec<String>| !heard.iter().any(|noted| noted.contains(what));
        let (heard, result) = self.changed.wait_timeout_while(heard, LONG, lacks).unwrap();
        assert!(!result.timed_out(), "{what:?} is not among {heard:?}");
    }

    fn clear(&self) {
        self.heard.lock().unwrap().clear();
    }
}

impl PeerHandler for Scene {
    fn possession(&self) -> Vec<Have> {
        vec![Have { root: root(), sequence: 1, possession: Possession::Complete }]
    }

    fn heard(&self, peer: &Name, have: &Have) {
        self.note(format!("{peer} has {:?}", have.possession));
    }

    fn lost(&self, peer: &Name) {
        self.note(format!("{peer} lost"));
    }

    fn answer(&self, request: &Request, send: &mut dyn FnMut(Response) -> bool) {
        let Request::GetChunks { chunks, .. } = request else { return };
        for index in chunks {
            let bytes = Bytes::from(vec![index.0 as u8; 65_536]);
            if !send(Response::Chunk { index: *index, encoding: Encoding::Raw, bytes }) {
                return self.note("nobody wants the rest".into());
            }
        }
    }
}

struct End {
    links: Option<Links>,
    scene: Arc<Scene>,
    peers: watch::Sender<Vec<Peer>>,
    address: SocketAddr,
}

impl End {
    async fn start(identity: &ServerIdentity, change: impl FnOnce(&mut LinkOptions)) -> Self {
        let scene = Arc::new(Scene::default());
        let (peers, watched) = watch::channel(Vec::new());
        let mut options = LinkOptions::new(FARM, 1, "127.0.0.1:0".parse().unwrap());
        options.retry = (Duration::from_millis(20), Duration::from_millis(100));
        change(&mut options);
        let handler = Arc::clone(&scene) as Arc<dyn PeerHandler>;
        let noted = Arc::clone(&scene);
        let observer = Arc::new(move |event: LinkEvent| noted.note(format!("{event:?}")));
        let links = Links::start(identity, options, watched, handler, None, observer).await.unwrap();
        let address = links.local_addr();
        Self { links: Some(links), scene, peers, address }
    }

    fn links(&self) -> &Links {
        self.links.as_ref().unwrap()
    }

    fn request(&self, peer: &str, class: Class, chunks: std::ops::Range<u32>) -> Receiver<Response> {
        let chunks = chunks.map(ChunkIndex).collect();
        let request = Request::GetChunks { root: root(), accept: Accept::default(), chunks };
        // The three connections come up one after the other.
        loop {
            match self.links().request(&name(peer), class, request.clone()) {
                Ok(answer) => return answer,
                Err(_) => std::thread::yield_now(),
            }
        }
    }
}

fn peer(identity: &ServerIdentity, address: SocketAddr) -> Peer {
    let shown = identity.peer();
    Peer { name: shown.name.clone(), address: address.to_string(), serials: vec![shown.serial] }
}

/// Two ends that know each other.
async fn pair(one: &ServerIdentity, two: &ServerIdentity) -> (End, End) {
    let (a, b) = (End::start(one, |_| {}).await, End::start(two, |_| {}).await);
    introduce((&a, one), (&b, two));
    (a, b)
}

fn introduce(a: (&End, &ServerIdentity), b: (&End, &ServerIdentity)) {
    b.0.peers.send_replace(vec![peer(a.1, a.0.address)]);
    a.0.peers.send_replace(vec![peer(b.1, b.0.address)]);
}

fn assert_answered(answer: &Receiver<Response>, chunks: std::ops::Range<u32>) {
    for index in chunks {
        match answer.recv_timeout(LONG).unwrap() {
            Response::Chunk { index: got, encoding: Encoding::Raw, bytes } => {
                assert_eq!(got, ChunkIndex(index));
                assert!(bytes.len() == 65_536 && bytes.iter().all(|byte| *byte == index as u8));
            }
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(answer.recv_timeout(LONG), Ok(Response::Done));
}

#[tokio::test(flavor = "multi_thread")]
async fn two_servers_tell_what_they_have_and_give_each_other_chunks() {
    let authority = authority();
    let (one, two) = (identity(&authority, "pvs01"), identity(&authority, "pvs02"));
    let (a, b) = pair(&one, &two).await;
    a.scene.wait_for("pvs02 has Complete");
    b.scene.wait_for("pvs01 has Complete");
    for class in Class::ALL {
        assert_answered(&a.request("pvs02", class, 0..200), 0..200);
        assert_answered(&b.request("pvs01", class, 7..9), 7..9);
    }
    a.links().tell(&Have { root: root(), sequence: 2, possession: Possession::Gone });
    b.scene.wait_for("pvs01 has Gone");
    assert_eq!(a.links().connected(), [name("pvs02")]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_of_another_authority_is_refused() {
    let (one, two) = (identity(&authority(), "pvs01"), identity(&authority(), "pvs02"));
    let (a, b) = pair(&one, &two).await;
    a.scene.wait_for("Refused");
    b.scene.wait_for("Refused");
    assert!(a.links().connected().is_empty() && b.links().connected().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_removed_server_is_cut_off_and_told_why() {
    let authority = authority();
    let (one, two) = (identity(&authority, "pvs01"), identity(&authority, "pvs02"));
    let (a, b) = pair(&one, &two).await;
    b.scene.wait_for("pvs01 has Complete");
    b.peers.send_replace(Vec::new());
    b.scene.wait_for("pvs01 lost");
    a.scene.wait_for("it refuses this server: the farm has no server");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_that_the_farm_does_not_know_is_refused() {
    let authority = authority();
    let (one, two) = (identity(&authority, "pvs01"), identity(&authority, "pvs02"));
    let stolen = identity(&authority, "pvs01");
    let (a, b) = (End::start(&stolen, |_| {}).await, End::start(&two, |_| {}).await);
    introduce((&a, &one), (&b, &two));
    b.scene.wait_for("is not the one that the farm knows");
    assert!(b.links().connected().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hello_of_another_farm_is_refused() {
    let authority = authority();
    let (one, two) = (identity(&authority, "pvs01"), identity(&authority, "pvs02"));
    let a = End::start(&one, |options| options.farm = FarmId([6; 16])).await;
    let b = End::start(&two, |_| {}).await;
    introduce((&a, &one), (&b, &two));
    a.scene.wait_for("it refuses this server: it belongs to the farm 0606");
    b.scene.wait_for("it belongs to the farm 0606");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_that_restarts_is_connected_again() {
    let authority = authority();
    let (one, two) = (identity(&authority, "pvs01"), identity(&authority, "pvs02"));
    let (a, mut b) = pair(&one, &two).await;
    a.scene.wait_for("pvs02 has Complete");
    drop(b.links.take());
    a.scene.wait_for("pvs02 lost");
    a.scene.clear();
    let again = End::start(&two, |options| options.incarnation = 2).await;
    introduce((&a, &one), (&again, &two));
    a.scene.wait_for("pvs02 has Complete");
    assert_answered(&a.request("pvs02", Class::OnDemand, 0..3), 0..3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_whose_state_is_older_than_it_was_is_refused() {
    let authority = authority();
    let (one, two) = (identity(&authority, "pvs01"), identity(&authority, "pvs02"));
    let b = End::start(&two, |_| {}).await;
    let mut a = End::start(&one, |options| options.incarnation = 5).await;
    introduce((&a, &one), (&b, &two));
    b.scene.wait_for("pvs01 has Complete");
    drop(a.links.take());
    let older = End::start(&one, |options| options.incarnation = 4).await;
    introduce((&older, &one), (&b, &two));
    older.scene.wait_for("it has started 4 times, and was seen with 5");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_that_was_removed_and_has_joined_again_counts_from_the_beginning() {
    let authority = authority();
    let (one, two) = (identity(&authority, "pvs01"), identity(&authority, "pvs02"));
    let b = End::start(&two, |_| {}).await;
    let mut a = End::start(&one, |options| options.incarnation = 5).await;
    introduce((&a, &one), (&b, &two));
    b.scene.wait_for("pvs01 has Complete");
    drop(a.links.take());
    b.scene.wait_for("pvs01 lost");
    b.scene.clear();
    let joined_again = identity(&authority, "pvs01");
    let again = End::start(&joined_again, |options| options.incarnation = 1).await;
    introduce((&again, &joined_again), (&b, &two));
    b.scene.wait_for("pvs01 has Complete");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_nobody_reads_does_not_hold_up_what_a_device_waits_for() {
    let authority = authority();
    let (one, two) = (identity(&authority, "pvs01"), identity(&authority, "pvs02"));
    let (a, _b) = pair(&one, &two).await;
    let _unread: Vec<_> = (0..32).map(|_| a.request("pvs02", Class::Bulk, 0..256)).collect();
    assert_answered(&a.request("pvs02", Class::OnDemand, 0..4), 0..4);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_nobody_wants_any_more_is_cancelled() {
    let authority = authority();
    let (one, two) = (identity(&authority, "pvs01"), identity(&authority, "pvs02"));
    let (a, b) = pair(&one, &two).await;
    drop(a.request("pvs02", Class::Bulk, 0..256));
    b.scene.wait_for("nobody wants the rest");
    assert_answered(&a.request("pvs02", Class::Bulk, 0..2), 0..2);
}
