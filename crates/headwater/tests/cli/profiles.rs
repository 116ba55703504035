//! Boot profiles: noted, shown, inherited, used at the next start.

use super::support::{Home, qemu_io_read, text, wait_for};

#[test]
fn what_is_read_first_is_the_versions_boot_profile_and_is_warm_after_a_restart() {
    let home = Home::new();
    let config = std::fs::read_to_string(home.path("test.toml")).unwrap();
    let more = "[boot]\nprofile_calm_s = 1\n[access]\nmetrics_from = ['127.0.0.0/8']\n";
    std::fs::write(home.path("test.toml"), config + more).unwrap();
    let server = home.start();
    let image = home.image("in.raw", 8 << 20, 64 << 20);
    home.run(&["vdisk", "import", "office", text(&image)]);
    assert!(home.run(&["version", "show", "office", "1"]).contains("boot profile"));
    let opened = home.json(&["session", "create", "office", "--record-boot"]);
    qemu_io_read(opened["uri"].as_str().unwrap(), &["read 4M 2M", "read 1M 64k"]);
    home.run(&["session", "close", opened["id"].as_str().unwrap()]);
    let profile = |number: &str| home.json(&["version", "show", "office", number])["boot_profile"].clone();
    wait_for("the profile", || !profile("1").is_null());
    assert_eq!((profile("1")["boots"].as_u64(), profile("1")["inherited_from"].as_u64()), (Some(1), None));
    let chunks = profile("1")["chunks"].as_u64().unwrap();
    // Opening a disk reads a little of its beginning, too.
    assert!((33..80).contains(&chunks), "{chunks}");
    home.run(&["version", "create", "office"]);
    assert_eq!(
        profile("2")["inherited_from"],
        profile("1")["inherited_from"],
        "it is the same content still"
    );
    assert_eq!(profile("2")["chunks"], chunks);
    assert_eq!(server.stop(), Some(0));
    let server = home.start();
    wait_for("the warming", || {
        let figures = server.get("/metrics");
        let line = figures.lines().find(|line| line.starts_with("headwater_warmed_bytes_total")).unwrap();
        line.rsplit(' ').next().unwrap().parse::<u64>().unwrap() >= 33 << 16
    });
    assert_eq!(server.stop(), Some(0));
}
