//! The same server over TLS, as an option and as a must.

use crate::support::*;
use disk::{FileDisk, MappedCache, MemoryDisk};
use headwater_streaming::TlsPolicy;
use model::DiskSize;
use protocol::nbd::wire::{OPTION_MAGIC, option};
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, ServerConfig, StreamOwned};
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::FileExt;
use std::sync::Arc;

const MIB: usize = 1 << 20;

/// A certificate for "headwater" and a client that trusts it.
fn certificates() -> (Arc<ServerConfig>, Arc<ClientConfig>) {
    let made = rcgen::generate_simple_self_signed(["headwater".to_owned()]).unwrap();
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(made.signing_key.serialize_der()));
    let chain = vec![made.cert.der().clone()];
    let server = ServerConfig::builder().with_no_client_auth().with_single_cert(chain, key).unwrap();
    let mut roots = RootCertStore::empty();
    roots.add(made.cert.der().clone()).unwrap();
    let client = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
    (Arc::new(server), Arc::new(client))
}

/// The first half of the handshake in the clear, then TLS; what follows looks to the NBD client
/// like a fresh server, whose greeting it is given again.
struct AfterStartTls {
    greeting: io::Cursor<Vec<u8>>,
    swallow_flags: usize,
    stream: StreamOwned<ClientConnection, TcpStream>,
}

impl Read for AfterStartTls {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self.greeting.read(buffer)? {
            0 => self.stream.read(buffer),
            len => Ok(len),
        }
    }
}

impl Write for AfterStartTls {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let skip = self.swallow_flags.min(bytes.len());
        self.swallow_flags -= skip;
        match skip {
            0 => self.stream.write(bytes),
            skip => Ok(skip),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        self.stream.flush()
    }
}

fn start_tls(address: SocketAddr, config: &Arc<ClientConfig>) -> AfterStartTls {
    let mut socket = TcpStream::connect(address).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut greeting = vec![0; 18];
    socket.read_exact(&mut greeting).unwrap();
    socket.write_all(&[0, 0, 0, 3]).unwrap();
    socket.write_all(&OPTION_MAGIC.to_be_bytes()).unwrap();
    socket.write_all(&option::STARTTLS.to_be_bytes()).unwrap();
    socket.write_all(&[0; 4]).unwrap();
    let mut reply = [0; 20];
    socket.read_exact(&mut reply).unwrap();
    assert_eq!(reply[12..16], [0, 0, 0, 1], "STARTTLS is acknowledged");
    let name = ServerName::try_from("headwater").unwrap();
    let connection = ClientConnection::new(Arc::clone(config), name).unwrap();
    let stream = StreamOwned::new(connection, socket);
    AfterStartTls { greeting: io::Cursor::new(greeting), swallow_flags: 4, stream }
}

#[test]
fn reads_and_writes_over_tls_are_byte_for_byte() {
    let (server_config, client_config) = certificates();
    let file = tempfile::tempfile().unwrap();
    file.write_all_at(&pattern(8 * MIB), 0).unwrap();
    let size = DiskSize::new(8 * MIB as u64).unwrap();
    let disk = FileDisk::new(file, size, MappedCache::new(1 << 30)).unwrap();
    let disks = Disks::one("d", disk).and("w", MemoryDisk::writable(size));
    let (_server, address) =
        start_with(&Arc::new(disks), |options| options.tls = TlsPolicy::Required(server_config));
    let mut reader = Client::open(start_tls(address, &client_config), "d", STRUCTURED).unwrap();
    assert!(reader.read(0, 8 * MIB as u32).unwrap() == pattern(8 * MIB));
    assert_eq!(reader.read(4095, 2).unwrap(), pattern(8 * MIB)[4095..4097]);
    let mut writer = Client::open(start_tls(address, &client_config), "w", SIMPLE).unwrap();
    assert_eq!(writer.write(77, &pattern(3 * MIB)), None);
    assert!(writer.read(77, 3 * MIB as u32).unwrap() == pattern(3 * MIB));
}

#[test]
fn nothing_is_opened_in_the_clear_where_tls_is_a_must() {
    let (server_config, _) = certificates();
    let disks = Arc::new(Disks::one("d", MemoryDisk::fixed(pattern(MIB))));
    let (_server, address) = start_with(&disks, |options| options.tls = TlsPolicy::Required(server_config));
    let error = connect(address, "d", SIMPLE).err().unwrap();
    assert!(error.to_string().contains("TLS"), "{error}");
}

#[test]
fn an_optional_tls_leaves_the_clear_path_open() {
    let (server_config, client_config) = certificates();
    let disks = Arc::new(Disks::one("d", MemoryDisk::fixed(pattern(MIB))));
    let (_server, address) = start_with(&disks, |options| options.tls = TlsPolicy::Optional(server_config));
    assert!(connect(address, "d", SIMPLE).unwrap().read(0, 512).is_ok());
    assert!(Client::open(start_tls(address, &client_config), "d", SIMPLE).unwrap().read(0, 512).is_ok());
}

#[test]
fn garbage_instead_of_tls_ends_that_connection() {
    let (server_config, _) = certificates();
    let disks = Arc::new(Disks::one("d", MemoryDisk::fixed(pattern(MIB))));
    let (server, address) = start_with(&disks, |options| options.tls = TlsPolicy::Required(server_config));
    let mut socket = TcpStream::connect(address).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    let start = [&[0, 0, 0, 3][..], b"IHAVEOPT", &[0, 0, 0, 5, 0, 0, 0, 0]].concat();
    socket.write_all(&start).unwrap();
    socket.read_exact(&mut [0; 38]).unwrap();
    socket.write_all(&[0x17; 4096]).unwrap();
    // The server says what was wrong with an alert, then closes.
    let _ = socket.read_to_end(&mut Vec::new());
    wait_until("the end of the connection", || server.stats().connections == 0);
}
