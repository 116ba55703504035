//! Our TFTP server against clients that we did not write: curl and busybox.
//!
//! Needs the packages curl and busybox.

use headwater_boot::tftp::{TftpFiles, TftpServer, TftpSettings};
use std::net::Ipv4Addr;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::process::Command;

fn content() -> Vec<u8> {
    (0..1_000_003).map(|index: u32| (index.wrapping_mul(2_654_435_761) >> 24) as u8).collect()
}

async fn serve() -> TftpServer {
    let files = TftpFiles::from([("loader.bin".to_owned(), content().into())]);
    let settings = TftpSettings { port: 0, ..TftpSettings::new(Ipv4Addr::LOCALHOST, files) };
    TftpServer::start(settings, Arc::new(())).await.unwrap()
}

async fn run(program: &str, arguments: &[&str], package: &str) -> bool {
    let status = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .status()
        .await
        .unwrap_or_else(|error| panic!("{program}: {error}; hint: apt-get install {package}"));
    status.success()
}

#[tokio::test]
async fn curl_gets_the_file_at_every_block_size() {
    let server = serve().await;
    let directory = tempfile::tempdir().unwrap();
    let output = directory.path().join("out");
    let url = format!("tftp://{}/loader.bin", server.local_address());
    for size in ["8", "512", "1456", "8192", "65464"] {
        let arguments = ["-sS", "--tftp-blksize", size, "-o", output.to_str().unwrap(), url.as_str()];
        assert!(run("curl", &arguments, "curl").await, "block size {size}");
        assert!(std::fs::read(&output).unwrap() == content(), "block size {size}");
    }
    // A client may end before the server has seen its last acknowledgement.
    let all = async {
        while server.counters().completed.load(Ordering::Relaxed) < 5 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    assert!(tokio::time::timeout(Duration::from_secs(10), all).await.is_ok(), "not all transfers ended");
}

#[tokio::test]
async fn busybox_gets_the_file_and_a_missing_one_is_an_error() {
    let server = serve().await;
    let directory = tempfile::tempdir().unwrap();
    let output = directory.path().join("out");
    let (host, port) = ("127.0.0.1", server.local_address().port().to_string());
    for size in ["512", "1428"] {
        let arguments = [
            "tftp",
            "-g",
            "-b",
            size,
            "-r",
            "loader.bin",
            "-l",
            output.to_str().unwrap(),
            host,
            port.as_str(),
        ];
        assert!(run("busybox", &arguments, "busybox").await, "block size {size}");
        assert!(std::fs::read(&output).unwrap() == content(), "block size {size}");
    }
    let missing = ["tftp", "-g", "-r", "none", "-l", output.to_str().unwrap(), host, port.as_str()];
    assert!(!run("busybox", &missing, "busybox").await);
}
