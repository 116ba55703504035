//! Tests of `tftp::server`.

use super::*;

async fn serve(files: &[(&str, Vec<u8>)]) -> TftpServer {
    let files = files.iter().map(|(name, bytes)| ((*name).to_owned(), bytes.clone().into()));
    let settings = TftpSettings { port: 0, ..TftpSettings::new(Ipv4Addr::LOCALHOST, files.collect()) };
    TftpServer::start(settings, Arc::new(())).await.unwrap()
}

fn request(name: &str, options: &[(&str, &str)]) -> Vec<u8> {
    let mut bytes = format!("\0\x01{name}\0octet\0").into_bytes();
    for (key, value) in options {
        bytes.extend(format!("{key}\0{value}\0").bytes());
    }
    bytes
}

/// A client with its own idea of the protocol: acknowledges the last block in order of a window.
struct Client {
    socket: UdpSocket,
    buffer: Vec<u8>,
}

impl Client {
    async fn ask(server: &TftpServer, packet: &[u8]) -> Self {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        socket.send_to(packet, server.local_address()).await.unwrap();
        Self { socket, buffer: vec![0; 70_000] }
    }

    async fn receive(&mut self) -> (&[u8], SocketAddr) {
        let wait = Duration::from_secs(20);
        let received = tokio::time::timeout(wait, self.socket.recv_from(&mut self.buffer)).await;
        let (len, from) = received.expect("an answer").unwrap();
        (&self.buffer[..len], from)
    }

    async fn acknowledge(&self, block: u16, to: SocketAddr) {
        let [high, low] = block.to_be_bytes();
        self.socket.send_to(&[0, 4, high, low], to).await.unwrap();
    }

    /// The whole file; `drop_every` packets one is treated as lost.
    async fn fetch(&mut self, block_size: usize, window: u16, drop_every: usize) -> Vec<u8> {
        let mut content = Vec::new();
        let (mut last, mut since_ack, mut seen) = (0u16, 0, 0);
        loop {
            let (packet, from) = self.receive().await;
            let (kind, packet) = (packet[1], packet.to_vec());
            if kind == 6 {
                self.acknowledge(0, from).await;
                continue;
            }
            assert_eq!(kind, 3);
            seen += 1;
            if drop_every > 0 && seen % drop_every == 0 {
                continue;
            }
            let block = u16::from_be_bytes([packet[2], packet[3]]);
            if block != last.wrapping_add(1) {
                self.acknowledge(last, from).await;
                since_ack = 0;
                continue;
            }
            last = block;
            since_ack += 1;
            content.extend(&packet[4..]);
            let is_last = packet.len() - 4 < block_size;
            if is_last || since_ack == window {
                self.acknowledge(last, from).await;
                since_ack = 0;
            }
            if is_last {
                return content;
            }
        }
    }
}

fn file(len: usize) -> Vec<u8> {
    (0..len).map(|index| (index * 31 % 251) as u8).collect()
}

#[tokio::test]
async fn every_block_and_window_size_brings_the_same_file() {
    let content = file(300_000);
    let server = serve(&[("loader", content.clone())]).await;
    for (block_size, window) in [(512, 1), (1456, 1), (1456, 4), (1456, 16), (1024, 64)] {
        let (block_text, window_text) = (block_size.to_string(), window.to_string());
        let options = [("blksize", block_text.as_str()), ("windowsize", window_text.as_str())];
        let mut client = Client::ask(&server, &request("/loader", &options)).await;
        let fetched = client.fetch(block_size, window, 0).await;
        assert!(fetched == content, "{block_size} x {window}");
    }
    server.stop().await;
}

#[tokio::test]
async fn a_lossy_window_still_brings_the_file() {
    let content = file(60_000);
    let server = serve(&[("loader", content.clone())]).await;
    let options = [("blksize", "1456"), ("windowsize", "8")];
    let mut client = Client::ask(&server, &request("loader", &options)).await;
    assert!(client.fetch(1456, 8, 13).await == content);
}

#[tokio::test]
async fn a_size_probe_ends_without_another_packet() {
    let server = serve(&[("loader", file(70_000))]).await;
    let mut client = Client::ask(&server, &request("loader", &[("tsize", "0")])).await;
    let (packet, from) = client.receive().await;
    assert_eq!(packet, b"\0\x06tsize\x0070000\0");
    client.socket.send_to(b"\0\x05\0\x08aborted\0", from).await.unwrap();
    while server.counters().aborted.load(Ordering::Relaxed) == 0 {
        tokio::task::yield_now().await;
    }
    assert!(client.socket.try_recv(&mut [0; 16]).is_err());
}

#[tokio::test]
async fn what_is_not_in_the_map_cannot_be_had() {
    let server = serve(&[("loader", file(10))]).await;
    for name in ["other", "../etc/passwd", "/etc/passwd", "loader/../../etc/passwd", ""] {
        let mut client = Client::ask(&server, &request(name, &[])).await;
        assert_eq!(client.receive().await.0[..4], [0, 5, 0, 1], "{name:?}");
    }
    let mut writer = Client::ask(&server, b"\0\x02loader\0octet\0").await;
    assert_eq!(writer.receive().await.0[..4], [0, 5, 0, 2]);
    assert_eq!(server.counters().refused.load(Ordering::Relaxed), 6);
}

#[tokio::test]
async fn the_newest_request_of_a_port_wins() {
    let content = file(2000);
    let server = serve(&[("loader", content.clone())]).await;
    let mut client = Client::ask(&server, &request("loader", &[])).await;
    let first = client.receive().await.1;
    client.socket.send_to(&request("loader", &[]), server.local_address()).await.unwrap();
    let mut from = first;
    while from == first {
        from = client.receive().await.1;
    }
    client.acknowledge(1, from).await;
    let (packet, second) = client.receive().await;
    assert_eq!((packet[3], second), (2, from));
}

#[tokio::test]
async fn a_port_in_use_is_an_error_with_a_hint() {
    let server = serve(&[]).await;
    let settings = TftpSettings {
        port: server.local_address().port(),
        ..TftpSettings::new(Ipv4Addr::LOCALHOST, TftpFiles::new())
    };
    let error = TftpServer::start(settings, Arc::new(())).await.unwrap_err().to_string();
    assert!(error.contains("in use") && error.contains("hint: `ss -ulpn"), "{error}");
}
